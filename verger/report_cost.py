"""What this run would cost on AWS, for the report: from dated prices, and from the speed that this run showed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from verger.errors import SettingError
from verger.pricing.duration import PHOTOS_PER_SECOND_PER_VCPU, VCPU_SHARE, Load
from verger.pricing.estimate import DEFAULT_REGION, Estimate, Shape, cheapest, estimate_load
from verger.pricing.prices import load_prices

MEASURED_PHOTOS = 500  # fewer of them measure how a run starts, not how fast it is


@dataclass(frozen=True)
class Cost:
    """What a run of as many photos would cost."""

    region: str
    dated: date  # of the prices
    days: int  # since then, when the run finished
    rate: float  # photos a second and vCPU
    basis: str  # where that rate comes from
    usd_per_eur: float
    estimates: Sequence[Estimate]
    cheapest: Estimate


def reckon_cost(manifest: Mapping[str, Any], total_bytes: int) -> Cost | None:
    """The cost of a run on EMR, in the default region; None where the file of prices cannot be read.

    Args:
        manifest: of this run.
        total_bytes: of all its photos.
    """
    try:
        prices = load_prices()
    except SettingError:  # the user's own file; `verger cloud` says what is wrong with it, and a run goes on
        return None
    rate, basis = rate_per_vcpu(manifest)
    upload = not str(manifest["source"]).startswith(("s3:", "s3a:", "s3n:"))
    load = Load(manifest["photos"]["found"], total_bytes, rate, upload=upload)
    if rate != PHOTOS_PER_SECOND_PER_VCPU:
        load = Load(load.photos, total_bytes, rate, upload=upload, decode_seconds_per_megabyte=0.0)
    estimates = estimate_load(load, DEFAULT_REGION, prices, Shape())
    dated = prices.region(DEFAULT_REGION).dated
    days = (date.fromisoformat(manifest["finished"][:10]) - dated).days
    usd_per_eur = prices.exchange.usd_per_eur
    return Cost(DEFAULT_REGION, dated, days, rate, basis, usd_per_eur, estimates, cheapest(estimates))


def rate_per_vcpu(manifest: Mapping[str, Any]) -> tuple[float, str]:
    """Photos a second that a vCPU will embed, and a sentence on where that comes from."""
    embedded, cores = manifest["photos"]["embedded"], manifest["spark"].get("cores")
    if embedded < MEASURED_PHOTOS or not cores or manifest["settings"].get("device", "cpu") != "cpu":
        said = "This run embedded too few photos on processors to measure a rate: the rate is that of another run, "
        return PHOTOS_PER_SECOND_PER_VCPU, f"{said}with efficientnet_lite0."
    measured = manifest["embed_photos_per_second"] / cores
    said = f"This run embedded {measured:.1f} photos a second on each of {cores} cores"
    if not str(manifest["spark"]["master"]).startswith("local"):
        return measured, f"{said}; each is taken for a vCPU."
    shown = f"{VCPU_SHARE:g} of that, assumed and never measured on AWS"
    return measured * VCPU_SHARE, f"{said}. A vCPU is half a core of an older kind: {shown}."
