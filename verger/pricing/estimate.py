"""What a run will take, in minutes and in euros, before anything is started: pure functions that ask nobody.

A machine costs its price an hour for as long as it is there: while it starts, embeds, computes components and ends.
Every estimate carries its arithmetic; docs/emr-estimate.md shows one in full.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from verger.errors import SettingError
from verger.pricing.duration import Line, Load, count_vcpus, reckon_time
from verger.pricing.prices import Prices, Serverless

DEFAULT_REGION = "eu-west-1"
# Assumed: asking for machines, starting them, the bootstrap, starting Spark, ending.
EMR_START_SECONDS, SERVERLESS_START_SECONDS, MACHINE_START_SECONDS = 480.0, 150.0, 240.0
EMR_DISK_GB, MACHINE_DISK_GB = 79, 30  # EMR gives an xlarge 64 GiB and a system volume of 15
SHORTEST_BILL_SECONDS = 60.0
SERVERLESS_WORKER_VCPUS, SERVERLESS_GB_PER_VCPU = 4, 4
BIG_MACHINE = "m5.4xlarge"
HOURS_A_MONTH = 730
REQUESTS_A_PHOTO = 2  # a HEAD and a GET (docs/storage.md)
RESULT_BYTES = 5_000  # a photo's vector, components and share of the report


@dataclass(frozen=True)
class Shape:
    """A cluster: one primary node, which runs the driver and no photo, core nodes, and task nodes."""

    primary: str = "m5.xlarge"
    core: str = "m5.xlarge"
    core_count: int = 2
    task: str = "m5.xlarge"
    task_count: int = 0

    @property
    def workers(self) -> list[tuple[str, int]]:
        """Types and counts of the nodes that embed."""
        return [(kind, count) for kind, count in ((self.core, self.core_count), (self.task, self.task_count)) if count]

    @property
    def nodes(self) -> list[tuple[str, int]]:
        """Types and counts of all nodes, the primary first."""
        return [(self.primary, 1), *self.workers]


@dataclass(frozen=True)
class Estimate:
    """What one way of running would take. `eur` is rounded up to the cent, and is what ceilings are held against."""

    name: str
    where: str  # emr, emr-spot, serverless or one machine
    seconds: float
    eur: float
    usd: float
    lines: tuple[Line, ...]


def estimate_runs(
    photos: int, total_bytes: int | None, region: str, prices: Prices, shape: Shape | None = None
) -> list[Estimate]:
    """Every way of running so many photos that already lie in a bucket; see `estimate_load`.

    Args:
        photos: how many, at least one.
        total_bytes: of all of them; None for photos of 100×100 pixels.
        region: one whose prices are known.
        prices: as `load_prices` gives them.
        shape: of the cluster; by default three m5.xlarge.
    """
    return estimate_load(Load(photos, total_bytes), region, prices, shape or Shape())


def estimate_load(load: Load, region: str, prices: Prices, shape: Shape) -> list[Estimate]:
    """Every way of running that a region offers, in this order: EMR on demand, on spot, EMR Serverless, one machine.

    Raises:
        SettingError: a price is not known, or there is no node or no photo.
    """
    if load.photos < 1 or not shape.workers:
        received = f"{load.photos} photos, {shape.core_count + shape.task_count} nodes"
        raise SettingError("at least one photo, and one node that embeds", received, "Raise the one that is too low.")
    runs = [_emr(load, region, prices, shape, spot=spot) for spot in (False, True)]
    if rates := prices.region(region).serverless:
        runs.append(_serverless(load, prices, shape, rates))
    if BIG_MACHINE in prices.region(region).ec2_usd_per_hour:
        runs.append(_machine(load, region, prices))
    return runs


def usd_per_hour(region: str, prices: Prices, shape: Shape, *, spot: bool = False) -> float:
    """What a cluster costs an hour: machines, EMR's fee, disks, addresses; `spot` is for the workers."""
    return sum(line.usd for line in _nodes(region, prices, shape, 1.0, spot=spot))


def cheapest(estimates: Sequence[Estimate]) -> Estimate:
    """The cheapest way that Verger starts by itself; one machine is only a hint."""
    return min((each for each in estimates if each.where != "one machine"), key=lambda each: each.usd)


def check_ceiling(estimate: Estimate, max_eur: float) -> None:
    """Refuse what would cost more than `max_eur`: 10.00 € pass a ceiling of 10, 10.01 € do not.

    Raises:
        SettingError: it would.
    """
    if not estimate.eur <= max_eur:  # so that a ceiling that is not a number refuses too
        raise SettingError(
            f"an estimate of at most {max_eur:.2f} € (--max-eur)",
            f"{estimate.eur:,.2f} € for {estimate.name}",
            "Take fewer photos, or raise --max-eur if you mean it.",
        )


def to_eur(usd: float, prices: Prices) -> float:
    """Dollars in euros, rounded up to the cent."""
    exact = Decimal(f"{usd / prices.exchange.usd_per_eur:.6f}")
    return float(exact.quantize(Decimal("0.01"), ROUND_CEILING))


def _emr(load: Load, region: str, prices: Prices, shape: Shape, *, spot: bool) -> Estimate:
    seconds, times = reckon_time(load, prices, shape.workers, EMR_START_SECONDS)
    costs = _nodes(region, prices, shape, _billed_hours(seconds), spot=spot)
    alike = {kind for kind, _ in shape.nodes} == {shape.primary}
    machines = " + ".join(f"{count}" if alike else f"{count} {kind}" for kind, count in shape.nodes)
    machines += f" {shape.primary}" if alike else ""
    name = f"EMR on EC2, {'spot' if spot else 'on demand'} ({machines})"
    return _closed(name, "emr-spot" if spot else "emr", seconds, [*times, *costs, *_bucket(load, prices)], prices)


def _nodes(region: str, prices: Prices, shape: Shape, hours: float, *, spot: bool) -> list[Line]:
    """What the nodes of a cluster cost for that long."""
    lines = [
        _term("primary, on demand", [(1, shape.primary), (hours, "h"), (prices.ec2(region, shape.primary), "USD")])
    ]
    for kind, count in shape.workers:
        said = f"workers, spot ({prices.spot_basis(region, kind)})" if spot else "workers, on demand"
        lines.append(_term(said, [(count, kind), (hours, "h"), (prices.ec2(region, kind, spot=spot), "USD")]))
    for kind, count in shape.nodes:
        lines.append(_term("EMR's fee", [(count, kind), (hours, "h"), (prices.instance(kind).emr_usd_per_hour, "USD")]))
    return [*lines, *_disks_and_addresses(prices, sum(count for _, count in shape.nodes), EMR_DISK_GB, hours)]


def _serverless(load: Load, prices: Prices, shape: Shape, rates: Serverless) -> Estimate:
    seconds, times = reckon_time(load, prices, shape.workers, SERVERLESS_START_SECONDS)
    vcpus = count_vcpus(prices, shape.workers) + SERVERLESS_WORKER_VCPUS  # one more worker, for the driver
    memory_gb, hours = vcpus * SERVERLESS_GB_PER_VCPU, _billed_hours(seconds)
    costs = [
        _term("vCPUs, the driver's among them", [(vcpus, "vCPUs"), (hours, "h"), (rates.vcpu_usd_per_hour, "USD")]),
        _term("memory", [(memory_gb, "GB"), (hours, "h"), (rates.gb_usd_per_hour, "USD")]),
    ]
    name = f"EMR Serverless ({vcpus} vCPUs, {memory_gb} GB)"
    return _closed(name, "serverless", seconds, [*times, *costs, *_bucket(load, prices)], prices)


def _machine(load: Load, region: str, prices: Prices) -> Estimate:
    seconds, times = reckon_time(load, prices, [(BIG_MACHINE, 1)], MACHINE_START_SECONDS)
    hours = _billed_hours(seconds)
    costs = [_term("machine, on demand", [(1, BIG_MACHINE), (hours, "h"), (prices.ec2(region, BIG_MACHINE), "USD")])]
    costs += _disks_and_addresses(prices, 1, MACHINE_DISK_GB, hours)
    name = f"one {BIG_MACHINE} without EMR"
    return _closed(name, "one machine", seconds, [*times, *costs, *_bucket(load, prices)], prices)


def _billed_hours(seconds: float) -> float:
    return max(seconds, SHORTEST_BILL_SECONDS) / 3600


def _disks_and_addresses(prices: Prices, nodes: int, gigabytes: int, hours: float) -> list[Line]:
    months, flat = hours / HOURS_A_MONTH, prices.flat
    return [
        _term("disks", [(nodes * gigabytes, "GB"), (months, "months"), (flat.ebs_gb_month_usd, "USD")]),
        _term("public addresses", [(nodes, "IPv4"), (hours, "h"), (flat.public_ipv4_usd_per_hour, "USD")]),
    ]


def _bucket(load: Load, prices: Prices) -> list[Line]:
    """What S3 costs: reading, a month of results, and where photos are uploaded, their upload and month too."""
    flat, stored = prices.flat, load.photos * RESULT_BYTES + (load.bytes if load.upload else 0)
    lines = [
        _term("reading", [(load.photos * REQUESTS_A_PHOTO, "requests"), (flat.s3_get_usd, "USD")]),
        _term("a month in the bucket", [(stored / 1e9, "GB"), (flat.s3_gb_month_usd, "USD")]),
    ]
    if load.upload:
        lines.append(_term("uploading, once", [(load.photos, "requests"), (flat.s3_put_usd, "USD")]))
    return lines


def _term(what: str, factors: Sequence[tuple[float, str]]) -> Line:
    """A product of quantities, with its arithmetic."""
    usd = 1.0
    for quantity, _ in factors:
        usd *= quantity
    shown = ((f"{quantity:,.0f}" if quantity >= 100 else f"{quantity:.4g}", unit) for quantity, unit in factors)
    return Line(what, " × ".join(f"{quantity} {unit}" for quantity, unit in shown), usd)


def _closed(name: str, where: str, seconds: float, lines: Sequence[Line], prices: Prices) -> Estimate:
    usd = sum(line.usd for line in lines)
    return Estimate(name, where, seconds, to_eur(usd, prices), usd, tuple(lines))
