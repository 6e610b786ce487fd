"""Prices: what the file holds, how old it is, and how it is renewed from AWS's answers, here written by hand."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from verger.cloud.regions import EU_REGIONS
from verger.errors import RunFailedError, SettingError
from verger.pricing.prices import Serverless, load_prices, own_file, refresh_prices, save_prices

boto3 = pytest.importorskip("boto3", reason="needs boto3: pip install 'verger[aws]'")
from botocore.stub import Stubber  # noqa: E402  (comes with boto3)

KEYS = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}


@pytest.fixture(autouse=True)
def _own_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERGER_PRICES", str(tmp_path / "prices.json"))


def product(attributes: dict[str, str], usd: str, unit: str = "Hrs") -> str:
    """One entry of the Price List, with as many of its fields as are read."""
    dimension = {"unit": unit, "pricePerUnit": {"USD": usd}, "description": "…"}
    terms = {"OnDemand": {"SKU.TERM": {"priceDimensions": {"SKU.TERM.RATE": dimension}}}}
    return json.dumps({"product": {"sku": "SKU", "attributes": attributes}, "terms": terms, "version": "1"})


def asked_ec2(instance: str) -> dict[str, Any]:
    """What is asked of the Price List for a machine."""
    values = {"regionCode": "eu-west-1", "instanceType": instance, "operatingSystem": "Linux", "tenancy": "Shared"}
    values |= {"preInstalledSw": "NA", "capacitystatus": "Used"}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in values.items()]
    return {"ServiceCode": "AmazonEC2", "Filters": filters}


@pytest.fixture
def clients() -> Iterator[tuple[Any, Any, Stubber, Stubber]]:
    """Clients whose questions and answers are held against botocore's models; nothing is sent."""
    pricing = boto3.client("pricing", region_name="eu-central-1", **KEYS)
    ec2 = boto3.client("ec2", region_name="eu-west-1", **KEYS)
    with Stubber(pricing) as asked_pricing, Stubber(ec2) as asked_ec2:
        yield pricing, ec2, asked_pricing, asked_ec2
    pricing.close()
    ec2.close()


def test_prices_are_there_for_every_region_of_the_eu_or_the_file_says_why_not() -> None:
    prices = load_prices()
    assert prices.regions.keys() | prices.left_out.keys() == set(EU_REGIONS)
    for region in prices.regions.values():
        assert set(region.ec2_usd_per_hour) <= set(prices.instances)
        assert region.ec2_usd_per_hour["m5.2xlarge"] == 2 * region.ec2_usd_per_hour["m5.xlarge"]
    ireland = prices.region("eu-west-1")
    assert (ireland.ec2_usd_per_hour["m5.xlarge"], prices.instance("m5.xlarge").emr_usd_per_hour) == (0.214, 0.048)
    assert ireland.serverless == Serverless(0.0526, 0.00578)


def test_an_unknown_region_or_machine_is_refused_with_those_that_are_known() -> None:
    prices = load_prices()
    with pytest.raises(SettingError, match=r"eu-west-1.*Received: eusc-de-east-1 .no figure"):
        prices.region("eusc-de-east-1")
    with pytest.raises(SettingError, match=r"price in eu-north-1 is known: m5.xlarge.*Received: m4.xlarge"):
        prices.ec2("eu-north-1", "m4.xlarge")
    with pytest.raises(SettingError, match="a machine among"):
        prices.instance("z9.nano")


def test_prices_of_ninety_days_pass_in_silence_and_of_ninety_one_warn() -> None:
    prices = load_prices()
    region = replace(prices.region("eu-west-1"), dated=date(2026, 1, 1))
    prices = replace(prices, regions={"eu-west-1": region})
    assert prices.warnings("eu-west-1", date(2026, 4, 1)) == []
    assert prices.warnings("eu-west-1", date(2026, 4, 2)) == [
        "Prices of eu-west-1 are of 2026-01-01, 91 days ago. "
        "Renew them: verger cloud prices --refresh --region eu-west-1"
    ]


def test_spot_is_a_share_of_the_price_on_demand_until_aws_was_asked() -> None:
    prices = load_prices()
    assert prices.ec2("eu-west-1", "m5.xlarge", spot=True) == pytest.approx(0.214 * 0.5)
    assert "assumed: 50%" in prices.spot_basis("eu-west-1", "m5.xlarge")
    region = replace(prices.region("eu-west-1"), spot_usd_per_hour={"m5.xlarge": 0.08})
    prices = replace(prices, regions={"eu-west-1": region})
    assert prices.ec2("eu-west-1", "m5.xlarge", spot=True) == 0.08
    assert prices.spot_basis("eu-west-1", "m5.xlarge") == "as AWS said"


def test_renewed_prices_come_from_the_price_list_and_from_the_history_of_spot(clients: Any) -> None:
    pricing, ec2, asked_pricing, asked_spot = clients
    for instance in load_prices().instances:
        found = {"m5.xlarge": "0.2500000000", "m5.2xlarge": "0.5000000000"}.get(instance)
        answer = [product({"instanceType": instance, "regionCode": "eu-west-1"}, found)] if found else []
        asked_pricing.add_response("get_products", {"PriceList": answer}, asked_ec2(instance))
    filters = [{"Type": "TERM_MATCH", "Field": "regionCode", "Value": "eu-west-1"}]
    first = [
        product({"usagetype": "EU-BoxUsage:m5.xlarge", "instanceType": "m5.xlarge"}, "0.0500000000"),
        product({"usagetype": "EU-OutpostBoxUsage:m5.2xlarge", "instanceType": "m5.2xlarge"}, "9.0"),
        product({"usagetype": "EU-EMR-SERVERLESS-vCPUHours"}, "0.0600000000", "vCPU-Hours"),
    ]
    second = [
        product({"usagetype": "EU-EMR-SERVERLESS-MemoryGBHours"}, "0.0060000000", "GB-Hours"),
        product({"usagetype": "EU-EMR-SERVERLESS-ARM-MemoryGBHours"}, "0.0010000000", "GB-Hours"),
    ]
    emr = {"ServiceCode": "ElasticMapReduce", "Filters": filters}
    asked_pricing.add_response("get_products", {"PriceList": first, "NextToken": "next"}, emr)
    asked_pricing.add_response("get_products", {"PriceList": second}, emr | {"NextToken": "next"})
    zones = [("a", "0.10"), ("b", "0.11"), ("c", "0.30")]
    history = [
        {"InstanceType": "m5.xlarge", "AvailabilityZone": f"eu-west-1{zone}", "SpotPrice": usd} for zone, usd in zones
    ]
    asked_spot.add_response("describe_spot_price_history", {"SpotPriceHistory": history})

    prices = refresh_prices(pricing, ec2, "eu-west-1")

    region = prices.region("eu-west-1")
    assert region.ec2_usd_per_hour == {"m5.xlarge": 0.25, "m5.2xlarge": 0.5}
    assert region.spot_usd_per_hour == {"m5.xlarge": 0.11}
    assert region.serverless == Serverless(0.06, 0.006)
    assert prices.instance("m5.xlarge").emr_usd_per_hour == 0.05
    assert prices.instance("m5.2xlarge").emr_usd_per_hour == 0.096
    assert region.dated == datetime.now(UTC).date()
    asked_pricing.assert_no_pending_responses()
    asked_spot.assert_no_pending_responses()
    save_prices(prices)
    assert load_prices() == prices


def test_a_price_list_without_any_machine_changes_nothing(clients: Any) -> None:
    pricing, ec2, asked_pricing, _ = clients
    for instance in load_prices().instances:
        asked_pricing.add_response("get_products", {"PriceList": []}, asked_ec2(instance))
    with pytest.raises(RunFailedError, match="none from the AWS Price List"):
        refresh_prices(pricing, ec2, "eu-west-1")


def test_the_users_prices_hold_only_while_they_are_newer() -> None:
    shipped = load_prices()
    region = shipped.region("eu-west-1")
    for dated, wins in ((date(2030, 1, 1), True), (date(2020, 1, 1), False)):
        other = replace(region, dated=dated, ec2_usd_per_hour={"m5.xlarge": 9.0})
        save_prices(replace(shipped, regions={"eu-west-1": other}))
        assert (load_prices().ec2("eu-west-1", "m5.xlarge") == 9.0) is wins


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"about": 1}'])
def test_a_damaged_file_of_prices_is_named(content: str) -> None:
    own_file().write_text(content)
    with pytest.raises(SettingError, match=r"prices.json.*Delete it"):
        load_prices()
