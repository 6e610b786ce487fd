"""How long a run takes on machines of the cloud: from measured photos a second, with the arithmetic beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from verger.pricing.prices import Prices

# Measured (benchmarks/RESULTS.md): 9,800 photos of 6 kB through mobilenet_v2 in 38.7 s of embedding on two cores.
MEASURED_PHOTOS, MEASURED_SECONDS, MEASURED_CORES = 9_800, 38.7, 2
LITE0_SHARE = 0.8  # efficientnet_lite0, the default, takes 1.25 times as long as mobilenet_v2
# Assumed, never measured on AWS: a vCPU of the m5 family is half a core, and an older one.
VCPU_SHARE = 0.3
PHOTOS_PER_SECOND_PER_VCPU = MEASURED_PHOTOS / MEASURED_SECONDS / MEASURED_CORES * LITE0_SHARE * VCPU_SHARE
BASIS = (
    f"{MEASURED_PHOTOS:,} photos / {MEASURED_SECONDS} s / {MEASURED_CORES} cores with mobilenet_v2 "
    f"(benchmarks/RESULTS.md) × {LITE0_SHARE} for efficientnet_lite0 × {VCPU_SHARE} for a vCPU, which is half a core "
    f"of an older kind (assumed, never measured on AWS) = {PHOTOS_PER_SECOND_PER_VCPU:.1f} photos/s per vCPU"
)
PHOTO_BYTES = 6_050  # of Fruits-360's photos on average, 100×100 pixels: what the rate was measured with
# Measured: photos of 12 megapixels and 3 MB, decoded at reduced scale, take a core 12.6 ms a megabyte.
DECODE_SECONDS_PER_MEGABYTE = 0.0126 / VCPU_SHARE
# Measured: 2.2 s for the same 9,800 photos and cores; the eigenvectors and the report do not spread over machines.
COMPONENTS_SECONDS, COMPONENTS_SECONDS_PER_PHOTO = 10.0, 2.2 * MEASURED_CORES / MEASURED_PHOTOS / VCPU_SHARE
BYTES_PER_GBIT = 125e6


class Line(NamedTuple):
    """One term of an estimate: what it is, how it was reckoned, and what it comes to (0.0 for a time)."""

    what: str
    arithmetic: str
    usd: float


@dataclass(frozen=True)
class Load:
    """The work: how many photos, how large, and how fast a vCPU embeds small ones."""

    photos: int
    total_bytes: int | None = None  # None: as small as Fruits-360's
    photos_per_second_per_vcpu: float = PHOTOS_PER_SECOND_PER_VCPU
    upload: bool = False  # the photos have yet to be put into the bucket
    decode_seconds_per_megabyte: float = DECODE_SECONDS_PER_MEGABYTE  # 0 where the rate is that of these very photos

    @property
    def bytes(self) -> int:
        """Of all photos."""
        return self.photos * PHOTO_BYTES if self.total_bytes is None else self.total_bytes


def count_vcpus(prices: Prices, workers: Sequence[tuple[str, int]]) -> int:
    """How many vCPUs some machines have, given as types and counts."""
    return sum(prices.instance(kind).vcpus * count for kind, count in workers)


def reckon_time(
    load: Load, prices: Prices, workers: Sequence[tuple[str, int]], start_seconds: float
) -> tuple[float, list[Line]]:
    """Seconds from asking for machines to their end, and how they come about.

    Photos are read while others are embedded, so the slower of the two counts.

    Args:
        load: the work.
        prices: for what is known of machines.
        workers: types and counts of the machines that embed.
        start_seconds: for asking, starting and ending.
    """
    vcpus = count_vcpus(prices, workers)
    gbit = sum(prices.instance(kind).network_gbit_per_second * count for kind, count in workers)
    slow = load.decode_seconds_per_megabyte
    excess = max(0, load.bytes - load.photos * PHOTO_BYTES) / 1e6  # megabytes that small photos would not have
    computing = load.photos / (load.photos_per_second_per_vcpu * vcpus) + excess * slow / vcpus
    reading = load.bytes / (gbit * BYTES_PER_GBIT)
    if reading > computing:
        said = f"reading {load.bytes / 1e9:,.1f} GB / {gbit} Gbit/s (embedding takes {minutes(computing)})"
    else:
        said = f"{load.photos:,} photos / ({load.photos_per_second_per_vcpu:.1f} photos/s × {vcpus} vCPUs)"
        said += f" + {excess:,.0f} MB × {slow * 1e3:.0f} ms / {vcpus} vCPUs" if excess * slow else ""
    components = COMPONENTS_SECONDS + load.photos * COMPONENTS_SECONDS_PER_PHOTO / vcpus
    each = f"{COMPONENTS_SECONDS_PER_PHOTO * 1e3:.1f} ms"
    lines = [
        Line("start and end", f"{minutes(start_seconds)}, assumed", 0.0),
        Line("photos → vectors", f"{said} = {minutes(max(computing, reading))}", 0.0),
        Line(
            "vectors → components, report",
            f"{COMPONENTS_SECONDS:.0f} s + {load.photos:,} × {each} / {vcpus} vCPUs = {minutes(components)}",
            0.0,
        ),
    ]
    return start_seconds + max(computing, reading) + components, lines


def minutes(seconds: float) -> str:
    """A time for people: 0.4 min, 13.2 min, 2.5 h."""
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
