"""Euros for so many photos in each way of running, by the estimates of `verger cloud estimate`; nothing is typed twice.

Two ways are not among those estimates: Databricks, which is the same cluster with Databricks' units in place of EMR's
fee, and one machine with Daft in place of Spark, at the speed at which it was measured beside Verger.
"""

from typing import NamedTuple

from verger.pricing.duration import PHOTOS_PER_SECOND_PER_VCPU, Load
from verger.pricing.estimate import Estimate, Shape, estimate_load, to_eur
from verger.pricing.prices import Prices

REGION = "eu-west-1"
DBU_PER_NODE_HOUR, USD_PER_DBU = 0.69, 0.15  # an m5.xlarge, public rate of jobs; it depends on the contract
BUCKET = ("reading", "a month in the bucket")
NAMES = {
    "emr": "EMR sur EC2, à la demande",
    "emr-spot": "EMR sur EC2, ouvriers en spot",
    "serverless": "EMR Serverless",
    "databricks": "Databricks",
    "one machine": "Une grosse machine, Spark local",
    "daft": "La même, sans Spark (Daft)",
}


class Way(NamedTuple):
    """One way of running."""

    where: str
    name: str
    minutes: float
    eur: float  # rounded up to the cent
    bucket_eur: float  # of which S3


def reckon(photos: int, prices: Prices, daft_share: float, rate: float = PHOTOS_PER_SECOND_PER_VCPU) -> list[Way]:
    """Every way, for photos of 100×100 pixels that lie in a bucket of Ireland.

    Args:
        photos: how many.
        prices: as `load_prices` gives them.
        daft_share: the speed of Daft, as a share of Verger's.
        rate: photos a second that a vCPU embeds.
    """
    load = Load(photos, photos_per_second_per_vcpu=rate)
    found = {each.where: each for each in estimate_load(load, REGION, prices, Shape())}
    slower = estimate_load(Load(photos, photos_per_second_per_vcpu=rate * daft_share), REGION, prices, Shape())
    emr, daft = found["emr"], slower[-1]
    units = sum(count for _, count in Shape().nodes) * emr.seconds / 3600 * DBU_PER_NODE_HOUR * USD_PER_DBU
    databricks = emr.usd - sum(line.usd for line in emr.lines if line.what == "EMR's fee") + units
    usd = {**{where: each.usd for where, each in found.items()}, "databricks": databricks, "daft": daft.usd}
    like: dict[str, Estimate] = {**found, "databricks": emr, "daft": daft}
    return [
        Way(where, name, like[where].seconds / 60, to_eur(usd[where], prices), _bucket_eur(like[where], prices))
        for where, name in NAMES.items()
    ]


def _bucket_eur(estimate: Estimate, prices: Prices) -> float:
    return sum(line.usd for line in estimate.lines if line.what in BUCKET) / prices.exchange.usd_per_eur
