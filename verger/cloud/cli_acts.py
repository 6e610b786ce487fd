"""`verger cloud upload`, `run` and `open`: what brings something into being. Imports what it uses when it is used."""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from verger.cloud.options import (
    every_option,
    instance_option,
    max_eur_option,
    nodes_option,
    opened,
    problems,
    stoppable,
    sure,
    tell,
    where,
)
from verger.errors import SettingError


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--name", show_default="the folder's name", help="What the photos are called in the bucket.")
@where
def upload(directory: Path, *, name: str | None, **given: Any) -> None:
    """Bring the photos of DIRECTORY to the bucket, without EXIF and GPS; again: only what is missing.

    \b
    Example:
        verger cloud upload photos
    """
    from verger.cloud.upload import upload as bring
    from verger.stages import Stages
    from verger.terminal import TerminalDisplay

    with (
        opened(given) as (aws, foundation),
        TerminalDisplay(problems) as display,
        Stages(display)("upload") as progress,
    ):
        done = bring(aws, foundation, directory, name, progress)
    would = "would be sent" if given["dry_run"] else "sent"
    tell(f"{done.sent:,} photos {would} without metadata, {done.there:,} were there already: {done.uri}")
    for reason, count in done.left_out.most_common():
        tell(f"{count:,} left out: {reason}")
    if done.examples:
        tell(f"Among them: {', '.join(done.examples)}")
    tell(f"Next: verger cloud run {done.uri} --to s3://{foundation.bucket_name}/runs/{done.uri.rpartition('/')[2]}")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("source")
@click.option("--to", "dest", metavar="DEST", required=True, help="Where the results go, in the bucket's runs/.")
@nodes_option
@instance_option
@max_eur_option
@click.option("--serverless", is_flag=True, help="EMR Serverless instead of a cluster.")
@every_option
@where
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- SETTINGS OF VERGER RUN]")
def run(source: str, dest: str, arguments: tuple[str, ...], *, every: float, **given: Any) -> None:
    """Run photo → vector → components on a cluster that exists for this run alone, and wait for it.

    The cluster ends with its step, with any failure, when this command is interrupted, and at a deadline that lies in
    AWS: after twice the estimated time, and always before the ceiling is spent.

    \b
    Example:
        verger cloud run s3://BUCKET/photos/orchard --to s3://BUCKET/runs/orchard -- --components 50
    """
    from verger.cloud import emr, job
    from verger.cloud.code import publish
    from verger.cloud.plan import Ask, plan_run
    from verger.cloud.run import command, costing, run_cluster, run_serverless

    settings = run_settings(source, dest, arguments)
    asked = {key: given.pop(key) for key in ("instance", "nodes", "max_eur", "serverless")}
    ask = Ask(source, dest, settings, **asked)
    with stoppable(), opened(given) as (aws, foundation):
        plan = plan_run(aws, foundation, ask, datetime.now(UTC))
        minutes = plan.estimate.seconds / 60
        tell(f"{plan.photos:,} photos: about {minutes:.0f} minutes, {plan.estimate.eur:.2f} € without spot.")
        code = publish(aws, foundation, plan.architecture, tell)
        plan = dataclasses.replace(plan, order=dataclasses.replace(plan.order, code=code))
        if ask.serverless:
            driver = job.serverless_driver(source, dest, settings, code, plan.executors)
            run_serverless(aws, plan, driver, ask, tell, sure, every)
        else:
            step = job.step_arguments(source, dest, settings, code, plan.executors)
            action, configuration = job.bootstrap_action(code), job.spark_configuration()
            request = emr.transient_cluster(plan.order, plan.nodes, step, action, configuration)
            run_cluster(aws, plan, request, ask, tell, sure, every)
        if aws.dry_run:
            tell(f"If it ran: {costing(plan.order)}.")
        else:
            tell(f"Done. {dest}/manifest.json is there; nothing of this run costs any more.")
            tell(f"Look: verger show {dest}; what it was billed, from tomorrow: {command(aws, 'costs')}")


def run_settings(source: str, dest: str, arguments: Sequence[str]) -> list[str]:
    """The settings of `verger run` as the cluster gets them: checked here, where a mistake costs nothing.

    Raises:
        SettingError: one cannot be used, or names what only this computer has.
    """
    from verger.cli import run as local
    from verger.settings import Settings

    with local.make_context("verger run", [source, "--to", dest, *arguments]) as context:
        chosen = Settings(**context.params)
    given = []
    for setting in dataclasses.fields(Settings):
        value = getattr(chosen, setting.name)
        if setting.name in {"source", "dest"} or value == setting.default:
            continue
        option = f"--{setting.name.replace('_', '-')}"
        if setting.name in {"master", "weights"} or (setting.name == "backbone" and Path(value).suffix):
            advice = "Leave it out: the cluster has its own Spark, and the built-in networks."
            raise SettingError("settings that mean something on a cluster", f"{option} {value}", advice)
        given += [option] if value is True else [option, str(value)]
    return given


@click.command("open")
@click.option("--hours", type=float, default=4.0, show_default=True, help="It ends then, whatever it does.")
@click.option("--idle-minutes", type=click.IntRange(5, 120), default=30, show_default=True, help="It ends when idle.")
@click.option(
    "--notebook", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A notebook to take along."
)
@nodes_option
@instance_option
@max_eur_option
@every_option
@where
def open_notebook(*, hours: float, idle_minutes: int, notebook: Path | None, every: float, **given: Any) -> None:
    """Start a cluster with JupyterHub for a demonstration, and say how to reach it.

    Nobody can reach it from outside: a tunnel of AWS Session Manager leads there. An open notebook keeps a cluster
    alive, so idle kernels end after --idle-minutes, and the whole cluster after --hours.

    \b
    Example:
        verger cloud open --hours 2 --notebook demo.ipynb
    """
    from verger.cloud import emr, job
    from verger.cloud.code import publish
    from verger.cloud.open import directions, open_cluster, upload_notebook
    from verger.cloud.plan import Ask, plan_notebook

    ask = Ask("", "", (), **{key: given.pop(key) for key in ("instance", "nodes", "max_eur")})
    with stoppable(), opened(given) as (aws, foundation):
        order, nodes, architecture = plan_notebook(aws, foundation, ask, hours, datetime.now(UTC))
        order = dataclasses.replace(order, code=publish(aws, foundation, architecture, tell))
        if notebook is not None:
            tell(f"Notebook: {upload_notebook(aws, foundation, notebook)}")
        request = emr.notebook_cluster(
            order, nodes, job.bootstrap_action(order.code), job.spark_configuration(), idle_minutes * 60
        )
        cluster = open_cluster(aws, order, request, tell, sure, every)
        if not aws.dry_run:
            click.echo(directions(aws, cluster))
