"""`verger cloud`: the group of commands. Importing it needs no boto3; each command imports what it uses."""

import click

from verger.cloud import cli_acts, cli_estimate, cli_looks, cli_setup


@click.group()
def cloud() -> None:
    """The same run on AWS, in the EU, under a ceiling.

    \b
    Example:
        verger cloud setup --mail you@example.org
        verger cloud upload photos
        verger cloud run s3://BUCKET/photos/photos --to s3://BUCKET/runs/first
        verger cloud down
    """


for command in (
    cli_estimate.estimate,
    cli_estimate.prices,
    cli_setup.setup,
    cli_acts.upload,
    cli_acts.run,
    cli_acts.open_notebook,
    cli_looks.status,
    cli_looks.costs,
    cli_looks.down,
):
    cloud.add_command(command)
