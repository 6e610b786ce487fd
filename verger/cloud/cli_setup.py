"""The command `verger cloud setup`."""

import json

import click
from rich import box
from rich.console import Console
from rich.table import Table

from verger.cloud.aws import Request, explain, session
from verger.cloud.foundation import DEFAULT_CEILING_EUR, Foundation, Wishes, change_set_request, setup_foundation
from verger.cloud.options import where
from verger.cloud.stack import find_stack

console = Console(highlight=False)
problems = Console(stderr=True, highlight=False)
GOES_ON = (
    "CloudFormation finishes by itself what it has begun; none of it costs by the hour. The same command shows how it "
    "ended, `verger cloud down --foundation` ends all of it."
)


@click.command()
@click.option("--mail", envvar="VERGER_MAIL", help="Who is told of clusters and costs; needed the first time.")
@click.option(
    "--ceiling-eur",
    type=float,
    show_default=f"{DEFAULT_CEILING_EUR:g} the first time",
    help="The month's budget, in the currency of the bill: dollars, or euros in the Sovereign Cloud.",
)
@click.option("--vpc", "vpc_id", show_default="a small one is made", help="A VPC of your own.")
@click.option("--subnet", "subnet_id", help="A public subnet of that VPC, with a route to an internet gateway.")
@where
def setup(  # noqa: PLR0913  (one argument for each option)
    *,
    mail: str | None,
    ceiling_eur: float | None,
    vpc_id: str | None,
    subnet_id: str | None,
    project: str,
    account: str | None,
    region: str | None,
    dry_run: bool,
) -> None:
    """Make what clusters need, once: a bucket, roles, a small network, a budget, mails, the watch over deadlines.

    At rest it costs next to nothing. Run it again after an update of Verger, or to change an option. It needs a user
    who may make roles; everything after it does not.

    \b
    Example:
        verger cloud setup --mail you@example.org --region eu-west-1
    """
    aws = session(region, account, project)
    wishes = Wishes(aws.region, aws.account, project, mail, ceiling_eur, vpc_id, subnet_id)
    if dry_run:
        known = mail is None and find_stack(aws.client("cloudformation"), wishes.stack_name) is not None
        request = change_set_request(wishes, exists=known)
        request["TemplateBody"] = f"<verger/cloud/foundation.yaml, {len(request['TemplateBody'].encode()):,} bytes>"
        click.echo(json.dumps({"request": "cloudformation:CreateChangeSet", "parameters": request}, indent=2))
        _tell("Nothing was sent: this was a dry run.")
        return
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        made = setup_foundation(aws.client("cloudformation"), aws.client("s3"), wishes, _tell)
    except (BotoCoreError, ClientError) as error:
        failure = explain(error, Request("cloudformation", "create_change_set", {}))
        raise type(failure)(failure.expected, failure.received, f"{failure.advice} {GOES_ON}") from error
    console.print(_closing(made))
    for line in _next_steps(made):
        console.print(line, markup=False, soft_wrap=True)


def _tell(line: str) -> None:
    problems.print(line, markup=False, soft_wrap=True)


def _closing(made: Foundation) -> Table:
    """What there is now."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("Foundation", f"{made.project} in {made.region}, account {made.account}")
    table.add_row("Bucket", f"s3://{made.bucket_name}")
    table.add_row(
        "Budget", made.budget_name or f"none: CloudFormation makes none in {made.region}; docs/emr.md has the way"
    )
    table.add_row("At rest", "the bucket's storage, and about 0.10 USD a month for the weekly report")
    return table


def _next_steps(made: Foundation) -> list[str]:
    """What only a person can do, as lines to copy."""
    return [
        "Once: confirm the mail that AWS has sent, or no other will come.",
        "Once: give the policy to whoever runs clusters:",
        f"  aws iam attach-user-policy --user-name USER --policy-arn {made.user_policy_arn}",
        "A day after the first run: activate the tags for the bill: Billing console, Cost allocation tags,",
        "  verger:project and verger:run.",
        "Then, as that user: verger cloud upload PHOTOS",
    ]
