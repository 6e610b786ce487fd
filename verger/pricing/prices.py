"""What AWS asks for: a dated file of public prices, its age, and how it is renewed from the AWS Price List.

Prices are USD without tax. Euros come from a dated rate in the same file. Where a figure is not known, it is not there.
"""

import json
import os
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from verger.cache import cache_folder
from verger.errors import RunFailedError, SettingError

OLD_DAYS = 90
REFRESH = "verger cloud prices --refresh"


@dataclass(frozen=True)
class Instance:
    """A type of machine. The network is what it carries for hours on end, not its peak."""

    vcpus: int
    memory_gib: float
    network_gbit_per_second: float
    architecture: str  # x86_64 or aarch64
    emr_usd_per_hour: float


@dataclass(frozen=True)
class Serverless:
    """Rates of EMR Serverless, x86."""

    vcpu_usd_per_hour: float
    gb_usd_per_hour: float


@dataclass(frozen=True)
class Region:
    """Prices of one region."""

    dated: date
    ec2_usd_per_hour: Mapping[str, float]  # on demand, Linux
    spot_usd_per_hour: Mapping[str, float]  # empty until AWS was asked
    serverless: Serverless | None


@dataclass(frozen=True)
class Flat:
    """Figures that stand for every region: what costs little, and what spot is assumed to cost until AWS is asked."""

    s3_put_usd: float  # a request
    s3_get_usd: float
    s3_gb_month_usd: float
    ebs_gb_month_usd: float
    public_ipv4_usd_per_hour: float
    spot_share_of_on_demand: float
    note: str


@dataclass(frozen=True)
class Exchange:
    """How many dollars a euro buys."""

    usd_per_eur: float
    dated: date
    note: str


@dataclass(frozen=True)
class Prices:
    """A file of prices."""

    about: str
    exchange: Exchange
    flat: Flat
    instances: Mapping[str, Instance]
    regions: Mapping[str, Region]
    left_out: Mapping[str, str]  # region: reason

    def region(self, name: str) -> Region:
        """Prices of a region. Raises SettingError where none is known."""
        if name not in self.regions:
            reason = f" ({self.left_out[name]})" if name in self.left_out else ""
            wanted = f"a region whose prices are known: {', '.join(self.regions)}"
            raise SettingError(wanted, f"{name}{reason}", "Choose one of them with --region.")
        return self.regions[name]

    def instance(self, name: str) -> Instance:
        """What is known of a machine. Raises SettingError where nothing is."""
        if name not in self.instances:
            advice = "Choose one of them with --instance."
            raise SettingError(f"a machine among {', '.join(self.instances)}", name, advice)
        return self.instances[name]

    def ec2(self, region: str, instance: str, *, spot: bool = False) -> float:
        """USD an hour of a machine. Raises SettingError where it is not known."""
        known = self.region(region)
        if instance not in known.ec2_usd_per_hour:
            wanted = f"a machine whose price in {region} is known: {', '.join(known.ec2_usd_per_hour)}"
            raise SettingError(wanted, instance, "Choose one of them with --instance.")
        on_demand = known.ec2_usd_per_hour[instance]
        return (
            known.spot_usd_per_hour.get(instance, on_demand * self.flat.spot_share_of_on_demand) if spot else on_demand
        )

    def spot_basis(self, region: str, instance: str) -> str:
        """Where the spot price of a machine comes from, in a few words."""
        asked = instance in self.region(region).spot_usd_per_hour
        return "as AWS said" if asked else f"assumed: {self.flat.spot_share_of_on_demand:.0%} of the price on demand"

    def warnings(self, region: str, today: date) -> list[str]:
        """One line where the prices of a region are older than 90 days; otherwise none."""
        days = (today - (dated := self.region(region).dated)).days
        line = f"Prices of {region} are of {dated}, {days} days ago. Renew them: {REFRESH} --region {region}"
        return [line] if days > OLD_DAYS else []


def own_file() -> Path:
    """Where renewed prices are kept: `$VERGER_PRICES`, else in the user's cache folder."""
    return Path(os.environ.get("VERGER_PRICES") or cache_folder() / "prices.json")


def load_prices() -> Prices:
    """The user's renewed prices, or those that came with Verger, whichever are of the later date.

    Raises:
        SettingError: the user's file is not one of prices.
    """
    own, shipped = own_file(), _parse(json.loads(files("verger.pricing").joinpath("prices.json").read_text("utf-8")))
    if not own.is_file():
        return shipped
    try:
        renewed = _parse(json.loads(own.read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        advice = f"Delete it, or renew it: {REFRESH}"
        raise SettingError("a readable file of prices", f"{own}: {error!r}", advice) from error
    return max(shipped, renewed, key=_latest)


def save_prices(prices: Prices) -> Path:
    """Write prices to the user's file, whole or not at all. Returns where."""
    target = own_file()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(prices), indent=2, default=date.isoformat) + "\n", "utf-8")
    temporary.replace(target)
    return target


def refresh_prices(pricing_client: Any, ec2_client: Any, region: str) -> Prices:
    """The prices at hand, with those of one region as AWS has them today.

    Machines on demand and the fees of EMR come from the Price List's GetProducts, spot prices from
    DescribeSpotPriceHistory (the median of the zones now). The exchange rate and the flat figures stay as they are.

    Args:
        pricing_client: boto3's `pricing`, which AWS offers in the EU in eu-central-1.
        ec2_client: boto3's `ec2`, in `region`.
        region: of the EU.

    Raises:
        RunFailedError: AWS names no price for any machine that Verger knows.
    """
    prices = load_prices()
    on_demand = {name: usd for name in prices.instances if (usd := _ec2_price(pricing_client, region, name))}
    if not on_demand:
        wanted, received = f"prices of {', '.join(prices.instances)} in {region}", "none from the AWS Price List"
        raise RunFailedError(wanted, received, "The prices at hand stay; try again later, or choose another --region.")
    fees, serverless = _emr_prices(pricing_client, region)
    instances = {
        name: replace(instance, emr_usd_per_hour=fees.get(name, instance.emr_usd_per_hour))
        for name, instance in prices.instances.items()
    }
    spot = _spot_prices(ec2_client, list(on_demand))
    renewed = Region(datetime.now(UTC).date(), on_demand, spot, serverless)
    return replace(prices, instances=instances, regions={**prices.regions, region: renewed})


def _latest(prices: Prices) -> date:
    return max(region.dated for region in prices.regions.values())


def _parse(read: Mapping[str, Any]) -> Prices:
    regions = {
        name: Region(
            date.fromisoformat(region["dated"]),
            region["ec2_usd_per_hour"],
            region["spot_usd_per_hour"],
            Serverless(**region["serverless"]) if region["serverless"] else None,
        )
        for name, region in read["regions"].items()
    }
    return Prices(
        about=read["about"],
        exchange=Exchange(**{**read["exchange"], "dated": date.fromisoformat(read["exchange"]["dated"])}),
        flat=Flat(**read["flat"]),
        instances={name: Instance(**instance) for name, instance in read["instances"].items()},
        regions=regions,
        left_out=read["left_out"],
    )


def _products(client: Any, service: str, filters: Mapping[str, str]) -> Iterator[tuple[Mapping[str, str], float]]:
    """Attributes and USD an hour of every product on demand that the Price List holds for these filters."""
    wanted = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in filters.items()]
    for page in client.get_paginator("get_products").paginate(ServiceCode=service, Filters=wanted):
        for text in page["PriceList"]:
            product = json.loads(text)
            for term in product.get("terms", {}).get("OnDemand", {}).values():
                for dimension in term["priceDimensions"].values():
                    yield product["product"]["attributes"], float(dimension["pricePerUnit"].get("USD", 0))


def _ec2_price(client: Any, region: str, instance: str) -> float:
    """USD an hour, on demand, Linux, on shared hardware; 0 where the region does not have it."""
    filters = {"regionCode": region, "instanceType": instance, "operatingSystem": "Linux", "tenancy": "Shared"}
    filters |= {"preInstalledSw": "NA", "capacitystatus": "Used"}
    return max((usd for _, usd in _products(client, "AmazonEC2", filters)), default=0.0)


def _emr_prices(client: Any, region: str) -> tuple[dict[str, float], Serverless | None]:
    """EMR's fee an hour by machine, and the rates of EMR Serverless where the region has it."""
    fees: dict[str, float] = {}
    rates: dict[str, float] = {}
    for attributes, usd in _products(client, "ElasticMapReduce", {"regionCode": region}):
        usage = attributes.get("usagetype", "")  # EU-BoxUsage:m5.xlarge, EU-EMR-SERVERLESS-vCPUHours
        before, box, machine = usage.rpartition("BoxUsage:")
        if box and "Outpost" not in before:
            fees[machine] = max(usd, fees.get(machine, 0.0))
        elif "-ARM-" not in usage:
            rates[usage.rpartition("EMR-SERVERLESS-")[2]] = usd
    vcpu, memory = rates.get("vCPUHours"), rates.get("MemoryGBHours")
    return fees, Serverless(vcpu, memory) if vcpu and memory else None


def _spot_prices(client: Any, instances: list[str]) -> dict[str, float]:
    """USD an hour of each machine on spot now, the median of the region's zones."""
    pages = client.get_paginator("describe_spot_price_history").paginate(
        InstanceTypes=instances, ProductDescriptions=["Linux/UNIX"], StartTime=datetime.now(UTC)
    )
    found: dict[str, list[float]] = {}
    for page in pages:
        for entry in page["SpotPriceHistory"]:
            found.setdefault(entry["InstanceType"], []).append(float(entry["SpotPrice"]))
    return {name: statistics.median(prices) for name, prices in found.items()}
