"""`verger cloud status`, `costs` and `down`: what is there, what it cost, and its end."""

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import click

from verger.cloud.options import connected, console, every_option, tell, where
from verger.errors import SettingError

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.command()
@json_option
@where
def status(*, as_json: bool, **given: Any) -> None:
    """Say what of ours is there, what it costs by the hour, and what looks wrong.

    Everything with the project's tag is found, whoever started it.

    \b
    Example:
        verger cloud status
    """
    from verger.cloud.status import notes, summary, table, take_stock

    with connected(given) as aws:
        things = take_stock(aws)
        if as_json:
            click.echo(json.dumps([dataclasses.asdict(thing) for thing in things], indent=2, default=str))
            return
        if things:
            console.print(table(things))
            console.print(notes(things), end="", markup=False, soft_wrap=True)
        console.print(f"{summary(things)} Region {aws.region}, account {aws.account}.", soft_wrap=True)


@click.command()
@click.option("--days", type=click.IntRange(1, 365), default=30, show_default=True, help="How far back to look.")
@json_option
@where
def costs(*, days: int, as_json: bool, **given: Any) -> None:
    """Say what was really billed, by run, next to what was estimated. AWS knows it a day later; asking costs a cent.

    \b
    Example:
        verger cloud costs --days 7
    """
    from verger.cloud.costs import ACTIVATE, ask, read_bills, table
    from verger.pricing.prices import load_prices

    today = datetime.now(UTC).date()
    with connected(given) as aws:
        if aws.dry_run:
            click.echo(
                json.dumps({"request": "ce:GetCostAndUsage", "parameters": ask(aws.project, days, today)}, indent=2)
            )
            return
        bills = read_bills(aws, days, today)
    usd_per_eur = load_prices().exchange.usd_per_eur
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(bill) for bill in bills], indent=2))
        return
    if bills:
        console.print(table(bills, usd_per_eur))
        console.print(f"{sum(bill.usd for bill in bills) / usd_per_eur:.2f} € in {days} days, without tax.")
    if not any(bill.usd for bill in bills):
        tell(ACTIVATE)


@click.command()
@click.option("--foundation", "whole", is_flag=True, help="Remove bucket, roles and network too: back to nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before ending what costs by the hour.")
@every_option
@where
def down(*, whole: bool, yes: bool, every: float, **given: Any) -> None:
    """End everything of ours that costs by the hour, and make sure that it is gone.

    The bucket with photos and results stays, and costs its storage; --foundation removes it too, after you have
    written its name.

    \b
    Example:
        verger cloud down
    """
    from verger.cloud.down import end_everything
    from verger.cloud.status import is_ours, notes, summary, table, take_stock

    with connected(given) as aws:
        things = take_stock(aws)
        ours = [thing for thing in things if is_ours(thing)]
        if things:
            console.print(table(things))
            console.print(notes(things), end="", markup=False, soft_wrap=True)
        if ours:
            if not (yes or aws.dry_run) and not click.confirm(f"{summary(things)} End it?", default=True, err=True):
                raise SettingError("a yes", "a no, so nothing was ended", summary(things))
            end_everything(aws, things, aws.project, tell, every)
        if whole:
            _remove_foundation(aws)
        if not aws.dry_run:
            tell(f"Nothing of ours costs by the hour any more in {aws.region}.")


def _remove_foundation(aws: Any) -> None:
    """Remove the foundation, with a name typed by a person where the bucket is not empty."""
    from verger.cloud.foundation import Clients, Wishes, remove_foundation

    wishes = Wishes(aws.region, aws.account, aws.project)
    if aws.dry_run:
        click.echo(
            json.dumps({"request": "cloudformation:DeleteStack", "parameters": {"StackName": wishes.stack_name}})
        )
        return
    clients = Clients(*(aws.client(name) for name in ("cloudformation", "s3", "emr")))
    question = f"All photos and results in {wishes.bucket_name} go, in all their versions. Write its name to confirm"
    named = click.prompt(question, default="", show_default=False, err=True)
    remove_foundation(clients, wishes, tell, confirmed_bucket=named or None)
