"""`verger cloud estimate` and `verger cloud prices`: what a run would cost, and what AWS asks for."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from verger.cloud.regions import check_region
from verger.errors import MissingError, RunFailedError, SettingError
from verger.photos import list_photos
from verger.pricing.duration import BASIS, PHOTO_BYTES, PHOTOS_PER_SECOND_PER_VCPU, Load, minutes
from verger.pricing.estimate import DEFAULT_REGION, Estimate, Shape, cheapest, check_ceiling, estimate_load
from verger.pricing.prices import Prices, load_prices, refresh_prices, save_prices
from verger.storage import open_place

PRICE_LIST_REGION = "eu-central-1"  # where AWS answers questions about prices within the EU
console = Console(highlight=False)
notes = Console(stderr=True, highlight=False)

region_option = click.option(
    "--region",
    envvar=["VERGER_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"],
    default=DEFAULT_REGION,
    show_default=True,
    callback=lambda _ctx, _parameter, value: check_region(value),
    help="A region of the EU.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.command()
@click.argument("what", metavar="N|SOURCE")
@region_option
@click.option("--max-eur", type=click.FloatRange(min=0), default=10.0, show_default=True, help="Ceiling in euros.")
@click.option("--nodes", type=click.IntRange(1, 1000), default=2, show_default=True, help="Machines that embed.")
@click.option("--instance", default="m5.xlarge", show_default=True, help="Their type, and the primary node's.")
@click.option(
    "--bytes-per-photo",
    type=click.IntRange(min=1),
    show_default=f"{PHOTO_BYTES:,}",
    help="With N: the photos' size, on average.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=PHOTOS_PER_SECOND_PER_VCPU,
    show_default=f"{PHOTOS_PER_SECOND_PER_VCPU:.1f}",
    help="Photos a second that a vCPU embeds, where you have measured it.",
)
@click.option("--explain", is_flag=True, help="Show the arithmetic.")
@json_option
def estimate(what: str, region: str, max_eur: float, *, explain: bool, as_json: bool, **asked: Any) -> None:
    """Say what a run would take, in minutes and euros, and refuse what passes the ceiling.

    N is a number of photos; SOURCE is listed. Nothing is started, and nobody is asked for an account.

    \b
    Example:
        verger cloud estimate 67692 --explain
    """
    load = Load(
        *_count(what, asked["bytes_per_photo"]), asked["rate"], upload=not what.startswith(("s3:", "s3a:", "s3n:"))
    )
    known = load_prices()
    runs = estimate_load(load, region, known, Shape(asked["instance"], asked["instance"], asked["nodes"]))
    if as_json:
        click.echo(json.dumps(_as_json(runs, load, region, max_eur, known), indent=2))
    else:
        console.print(_table(runs, f"{load.photos:,} photos, {load.bytes / 1e6:,.0f} MB, in {region}", max_eur))
        if explain:
            console.print(_explanation(runs, known, load), soft_wrap=True)
        _warn(known, region)
    check_ceiling(cheapest(runs), max_eur)


@click.command()
@region_option
@click.option("--refresh", is_flag=True, help="Ask AWS for today's prices of the region, and keep them.")
@json_option
def prices(region: str, *, refresh: bool, as_json: bool) -> None:
    """Show what AWS asks for in a region, and how old that knowledge is.

    \b
    Example:
        verger cloud prices --region eu-central-1 --refresh
    """
    known = _refresh(region) if refresh else load_prices()
    if as_json:
        click.echo(json.dumps(asdict(known.region(region)), indent=2, default=str))
        return
    console.print(_price_table(known, region))
    _warn(known, region)


def _warn(known: Prices, region: str) -> None:
    for warning in known.warnings(region, datetime.now(UTC).date()):
        notes.print(warning, soft_wrap=True)


def _count(what: str, bytes_per_photo: int | None) -> tuple[int, int | None]:
    """How many photos, and their bytes where known."""
    number = what.replace(",", "").replace("_", "")
    if number.isdecimal():
        return int(number), bytes_per_photo * int(number) if bytes_per_photo else None
    if bytes_per_photo:
        advice = "Leave --bytes-per-photo out: photos that are listed have sizes of their own."
        raise SettingError("a number of photos with --bytes-per-photo", what, advice)
    place = open_place(what)
    photos = list_photos(place, place, 1).photos
    return len(photos), sum(photo.bytes for photo in photos)


def _refresh(region: str) -> Prices:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise MissingError("boto3, which talks to AWS", "none", "Install it: pip install 'verger[aws]'.") from error
    try:
        pricing = boto3.client("pricing", region_name=PRICE_LIST_REGION)
        known = refresh_prices(pricing, boto3.client("ec2", region_name=region), region)
    except (BotoCoreError, ClientError) as error:
        advice = "Check the credentials: they need pricing:GetProducts and ec2:DescribeSpotPriceHistory."
        raise RunFailedError("AWS to tell its prices", str(error), advice) from error
    notes.print(f"Kept in {save_prices(known)}", soft_wrap=True)
    return known


def _table(runs: Sequence[Estimate], title: str, max_eur: float) -> Table:
    """One line for each way of running; the cheapest that Verger starts is marked, and what passes the ceiling."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column("Way")
    table.add_column("Time", justify="right")
    table.add_column("Euros", justify="right")
    table.add_column("")
    best = cheapest(runs)
    for run in runs:
        marks = ["cheapest"] if run is best else ["by hand"] if run.where == "one machine" else []
        marks += ["above --max-eur"] if run.eur > max_eur else []
        style = "bold" if run is best else None
        table.add_row(run.name, minutes(run.seconds), f"{run.eur:,.2f}", ", ".join(marks), style=style)
    return table


def _explanation(runs: Sequence[Estimate], prices: Prices, load: Load) -> str:
    """Every term of every estimate."""
    rate = load.photos_per_second_per_vcpu
    text = [BASIS if rate == PHOTOS_PER_SECOND_PER_VCPU else f"{rate} photos/s per vCPU, as given"]
    for run in runs:
        text.append(f"\n{run.name}")
        text += [
            f"  {line.what}: {line.arithmetic}" + (f" = {line.usd:.4f} USD" if line.usd else "") for line in run.lines
        ]
        rate_line = f"{run.usd:.4f} USD / {prices.exchange.usd_per_eur} USD per EUR ({prices.exchange.dated})"
        text.append(f"  sum: {rate_line} = {run.eur:.2f} €, rounded up, without tax")
    return "\n".join(text)


def _price_table(known: Prices, region: str) -> Table:
    prices = known.region(region)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"USD an hour in {region}, {prices.dated}")
    for heading in ("Machine", "vCPUs", "GiB", "On demand", "Spot", "EMR's fee"):
        table.add_column(heading, justify="left" if heading == "Machine" else "right")
    for name, usd in prices.ec2_usd_per_hour.items():
        machine, about = known.instance(name), "" if name in prices.spot_usd_per_hour else "~"
        spot = f"{about}{known.ec2(region, name, spot=True):.4f}"
        row = (
            name,
            f"{machine.vcpus}",
            f"{machine.memory_gib:g}",
            f"{usd:.4f}",
            spot,
            f"{machine.emr_usd_per_hour:.4f}",
        )
        table.add_row(*row)
    if rates := prices.serverless:
        table.add_row("EMR Serverless", "1", "", f"{rates.vcpu_usd_per_hour:.4f}", "", "")
        table.add_row("", "", "1", f"{rates.gb_usd_per_hour:.5f}", "", "")
    table.caption = "~ assumed. Without tax."
    return table


def _as_json(runs: Sequence[Estimate], load: Load, region: str, max_eur: float, prices: Prices) -> dict[str, Any]:
    """Everything that the table and the explanation say; `cheapest` is what `max_eur` is held against."""
    return {
        "photos": load.photos,
        "bytes": load.bytes,
        "photos_per_second_per_vcpu": load.photos_per_second_per_vcpu,
        "region": region,
        "max_eur": max_eur,
        "prices_dated": str(prices.region(region).dated),
        "usd_per_eur": prices.exchange.usd_per_eur,
        "cheapest": cheapest(runs).where,
        "estimates": [{**asdict(run), "lines": [line._asdict() for line in run.lines]} for run in runs],
    }
