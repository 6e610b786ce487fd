"""What a run or a notebook will be, settled before anything is started: machines, estimate, ceiling, deadline."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from verger.cloud import deadline, emr
from verger.cloud.aws import Aws
from verger.cloud.emr import Nodes, Order
from verger.cloud.regions import check_bucket_region
from verger.errors import SettingError
from verger.photos import EXTENSIONS
from verger.pricing.estimate import (
    SERVERLESS_WORKER_VCPUS,
    Estimate,
    Shape,
    check_ceiling,
    estimate_runs,
    to_eur,
    usd_per_hour,
)
from verger.pricing.prices import Prices, load_prices

if TYPE_CHECKING:
    from verger.cloud.foundation import Foundation

INSTANCE = "m5.xlarge"
NOTEBOOK_HOURS = 4.0


@dataclass(frozen=True)
class Ask:
    """What somebody asks for."""

    source: str
    dest: str
    arguments: Sequence[str] = ()  # for verger run
    instance: str = INSTANCE
    nodes: int = 2
    max_eur: float = 10.0
    serverless: bool = False


@dataclass(frozen=True)
class Plan:
    """What will be ordered, and what it was estimated from."""

    order: Order
    nodes: Nodes
    architecture: str
    executors: int  # of Spark, each with four vCPUs
    photos: int
    estimate: Estimate  # with every node on demand, which is the most it can come to


def plan_run(aws: Aws, foundation: "Foundation", ask: Ask, now: datetime) -> Plan:
    """Settle a run, or refuse it. Nothing is changed.

    Raises:
        SettingError: SOURCE or DEST lies elsewhere or holds no photo, a machine is not to be had in the region, or
            the run could cost more than the ceiling.
    """
    for uri in (ask.source, ask.dest):
        check_place(aws, foundation, uri)
    deadline.check_watch(aws, foundation)
    photos, size = count_photos(aws, ask.source)
    prices = load_prices()
    nodes = choose_nodes(aws, prices, ask.instance, ask.nodes)
    shape = Shape(nodes.primary, ask.instance, ask.nodes)
    where = "serverless" if ask.serverless else "emr"
    chosen = [each for each in estimate_runs(photos, size, aws.region, prices, shape) if each.where == where]
    if not chosen:
        raise SettingError(f"EMR Serverless in {aws.region}", "no price for it", "Leave --serverless out.")
    estimate = chosen[0]
    check_ceiling(estimate, ask.max_eur)
    expected = timedelta(seconds=estimate.seconds)
    rate = to_eur(estimate.usd / (expected / timedelta(hours=1)), prices) if ask.serverless else None
    rate = rate or dearest(prices, aws.region, nodes)
    until = deadline.choose(now, expected, rate, ask.max_eur)
    order = Order(foundation, new_run(now), until, rate, estimate.eur, "")
    machine = prices.instance(ask.instance)
    executors = machine.vcpus * ask.nodes // SERVERLESS_WORKER_VCPUS
    return Plan(order, nodes, machine.architecture, executors, photos, estimate)


def plan_notebook(
    aws: Aws, foundation: "Foundation", ask: Ask, hours: float, now: datetime
) -> tuple[Order, Nodes, str]:
    """Settle a standing cluster for so many hours at most: the order, its nodes and their architecture.

    Raises:
        SettingError: a machine is not to be had in the region, or that long would cost more than the ceiling.
    """
    deadline.check_watch(aws, foundation)
    prices = load_prices()
    nodes = choose_nodes(aws, prices, ask.instance, ask.nodes)
    rate = dearest(prices, aws.region, nodes)
    wanted = timedelta(hours=hours)
    if not deadline.SHORTEST <= wanted <= deadline.LONGEST or hours * rate > ask.max_eur:
        raise SettingError(
            f"between {deadline.SHORTEST.seconds // 60} minutes and {deadline.LONGEST.seconds // 3600} hours, at most"
            f" {ask.max_eur:.2f} € (--max-eur)",
            f"{hours:g} hours at {rate:.2f} € an hour with every node on demand: {hours * rate:.2f} €",
            "Choose other --hours, fewer --nodes, or raise --max-eur if you mean it.",
        )
    order = Order(foundation, new_run(now), now + wanted, rate, hours * rate, "")
    return order, nodes, prices.instance(ask.instance).architecture


def new_run(now: datetime) -> str:
    """The id of a run: when it was asked for, and four letters against twins."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def check_place(aws: Aws, foundation: "Foundation", uri: str) -> None:
    """Make sure that a place lies in the foundation's bucket, and that this bucket lies in the checked region.

    Raises:
        SettingError: it does not.
    """
    parts = urlsplit(uri)
    example = f"s3://{foundation.bucket_name}/photos/NAME"
    if parts.scheme != "s3" or not parts.netloc:
        raise SettingError(f"an address in a bucket, like {example}", uri, "Bring photos there: verger cloud upload.")
    if parts.netloc == "BUCKET":  # copied from the documentation as it stands there
        raise SettingError(f"an address in s3://{foundation.bucket_name}", uri, "Write the bucket's name for BUCKET.")
    check_bucket_region(aws.client("s3"), parts.netloc, aws.region, aws.account)
    if parts.netloc != foundation.bucket_name:
        reason = f"{uri}: the roles of clusters reach no other bucket"
        raise SettingError(f"an address in s3://{foundation.bucket_name}", reason, "Copy the photos there first.")


def count_photos(aws: Aws, source: str) -> tuple[int, int]:
    """How many photos lie below SOURCE, and their bytes.

    Raises:
        SettingError: none does.
    """
    parts = urlsplit(source)
    prefix = parts.path.strip("/")
    pages = aws.pages("s3", "list_objects_v2", Bucket=parts.netloc, Prefix=f"{prefix}/" if prefix else "")
    sizes = [
        entry["Size"]
        for page in pages
        for entry in page.get("Contents", [])
        if entry["Key"].rpartition(".")[2].lower() in EXTENSIONS
    ]
    if not sizes:
        raise SettingError("photos below SOURCE", f"none in {source}", "Bring some there: verger cloud upload DIR.")
    return len(sizes), sum(sizes)


def choose_nodes(aws: Aws, prices: Prices, instance: str, count: int) -> Nodes:
    """The asked machine, and for spot those like it: as many vCPUs, the same architecture, offered, price known.

    Raises:
        SettingError: the region does not offer the machine, or too few like it for spot.
    """
    known = prices.region(aws.region).ec2_usd_per_hour
    prices.ec2(aws.region, instance)
    asked = prices.instance(instance)
    alike = [
        name
        for name, machine in prices.instances.items()
        if (machine.vcpus, machine.architecture) == (asked.vcpus, asked.architecture) and name in known
    ]
    filters = [{"Name": "instance-type", "Values": sorted(alike)}]
    pages = aws.pages("ec2", "describe_instance_type_offerings", LocationType="region", Filters=filters)
    offered = {offering["InstanceType"] for page in pages for offering in page["InstanceTypeOfferings"]}
    if instance not in offered:
        received = f"{instance}, which it lacks"
        raise SettingError(f"a machine that {aws.region} offers", received, "Choose another --instance or --region.")
    workers = tuple(name for name in alike if name in offered)
    if len(workers) < emr.LEAST_TYPES:
        wanted = f"{emr.LEAST_TYPES} types of machines like {instance} in {aws.region}, for spot to choose from"
        raise SettingError(wanted, ", ".join(workers), "Choose another --instance or --region.")
    return Nodes(instance, workers, count)


def dearest(prices: Prices, region: str, nodes: Nodes) -> float:
    """Euros an hour, if every node were of the dearest of its types and bought on demand."""
    shapes = [Shape(nodes.primary, kind, nodes.core, kind, nodes.task) for kind in nodes.workers]
    return to_eur(max(usd_per_hour(region, prices, shape) for shape in shapes), prices)
