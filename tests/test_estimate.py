"""Estimates: every figure computed by hand beside it, and the ceiling held to the cent."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from verger.cloud.cli_estimate import estimate, prices
from verger.errors import SettingError
from verger.pricing import duration
from verger.pricing.duration import Load
from verger.pricing.estimate import Estimate, Shape, cheapest, check_ceiling, estimate_load, estimate_runs, usd_per_hour
from verger.pricing.prices import Prices, Region, Serverless, load_prices

ROOT = Path(__file__).parents[1]
# The public run of the same size: three m5.2xlarge for 83 minutes.
PUBLIC_PHOTOS, PUBLIC_MINUTES = 67_692, 83
SAME_MACHINES = Shape("m5.2xlarge", "m5.2xlarge", 2)


@pytest.fixture(autouse=True)
def _shipped_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERGER_PRICES", str(tmp_path / "prices.json"))
    for name in ("VERGER_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def round_prices() -> Prices:
    """Prices with which one can reckon in the head: 1 USD an hour on demand, a euro a dollar, nothing else costs."""
    shipped = load_prices()
    nothing = replace(
        shipped.flat, s3_put_usd=0, s3_get_usd=0, s3_gb_month_usd=0, ebs_gb_month_usd=0, public_ipv4_usd_per_hour=0
    )
    machine = replace(shipped.instance("m5.xlarge"), emr_usd_per_hour=0.25)
    region = Region(shipped.region("eu-west-1").dated, {"m5.xlarge": 1.0}, {}, Serverless(0.5, 0.125))
    exchange = replace(shipped.exchange, usd_per_eur=1.0)
    return replace(
        shipped, flat=nothing, instances={"m5.xlarge": machine}, regions={"eu-west-1": region}, exchange=exchange
    )


def by_place(runs: list[Estimate]) -> dict[str, Estimate]:
    return {run.where: run for run in runs}


def test_the_arithmetic_is_that_of_a_head(round_prices: Prices) -> None:
    # 2 nodes × 4 vCPUs × 10 photos/s embed 80 photos/s; an hour of them, and what does not depend on photos.
    load = Load(80 * 3600, photos_per_second_per_vcpu=10)
    runs = by_place(estimate_load(load, "eu-west-1", round_prices, Shape()))
    components = 10 + 288_000 * duration.COMPONENTS_SECONDS_PER_PHOTO / 8
    hours = (480 + 3600 + components) / 3600
    assert runs["emr"].seconds == pytest.approx(480 + 3600 + components)
    assert runs["emr"].usd == pytest.approx(hours * 3 * (1 + 0.25))
    assert runs["emr-spot"].usd == pytest.approx(hours * (1 + 2 * 0.5 + 3 * 0.25))
    serverless_hours = (150 + 3600 + components) / 3600
    assert runs["serverless"].usd == pytest.approx(serverless_hours * 12 * (0.5 + 4 * 0.125))
    assert "one machine" not in runs
    assert usd_per_hour("eu-west-1", round_prices, Shape()) == 3.75
    assert usd_per_hour("eu-west-1", round_prices, Shape(), spot=True) == 2.75


def test_the_lines_of_an_estimate_add_up_to_it() -> None:
    for run in estimate_runs(PUBLIC_PHOTOS, None, "eu-west-1", load_prices()):
        assert sum(line.usd for line in run.lines) == pytest.approx(run.usd)
        assert 0 <= run.eur - run.usd / 1.0389 < 0.0101


def test_large_photos_take_their_decoding_and_very_large_ones_the_network() -> None:
    prices, photos = load_prices(), 10_000
    small = by_place(estimate_runs(photos, photos * duration.PHOTO_BYTES, "eu-west-1", prices))["emr"]
    large = by_place(estimate_runs(photos, photos * (duration.PHOTO_BYTES + 3_000_000), "eu-west-1", prices))["emr"]
    assert large.seconds - small.seconds == pytest.approx(30_000 * duration.DECODE_SECONDS_PER_MEGABYTE / 8)
    slow = Load(photos, photos * 60_000_000, photos_per_second_per_vcpu=1e6)
    wide = replace(prices.instance("m5.xlarge"), network_gbit_per_second=0.1)
    bound = replace(prices, instances={**prices.instances, "m5.xlarge": wide})
    run = by_place(estimate_load(slow, "eu-west-1", bound, Shape()))["emr"]
    reading = 600e9 / (0.2 * 125e6)
    assert run.seconds == pytest.approx(480 + reading + 10 + photos * duration.COMPONENTS_SECONDS_PER_PHOTO / 8)
    assert "600.0 GB / 0.2 Gbit/s" in run.lines[1].arithmetic


def test_the_rate_is_the_one_in_the_results_of_the_benchmark() -> None:
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    assert f"embed {duration.MEASURED_SECONDS}, components 2.2" in results
    assert "MobileNetV2 at 224, 9,800 real photos of 100×100, two cores" in results
    assert pytest.approx(30.4, abs=0.05) == duration.PHOTOS_PER_SECOND_PER_VCPU
    assert "assumed" in duration.BASIS


def test_uploading_is_counted_where_photos_are_not_in_a_bucket_yet() -> None:
    prices = load_prices()
    there = estimate_load(Load(1_000_000), "eu-west-1", prices, Shape())
    here = estimate_load(Load(1_000_000, upload=True), "eu-west-1", prices, Shape())
    for a, b in zip(there, here, strict=True):
        assert b.usd - a.usd == pytest.approx(1_000_000 * 5.4e-6 + 6.05 * 0.0245)


def test_one_machine_is_a_hint_and_never_the_cheapest() -> None:
    runs = estimate_runs(PUBLIC_PHOTOS, None, "eu-west-1", load_prices())
    assert min(runs, key=lambda run: run.usd).where == "one machine"
    assert cheapest(runs).where == "serverless"


def test_serverless_wins_small_runs_and_spot_large_ones_as_the_page_says() -> None:
    assert "from about 130,000 small photos on" in (ROOT / "docs" / "emr-serverless.md").read_text()
    for photos, where in ((120_000, "serverless"), (140_000, "emr-spot")):
        assert cheapest(estimate_runs(photos, None, "eu-west-1", load_prices())).where == where


def ten_euros(usd: float, round_prices: Prices) -> Estimate:
    """An estimate of so many dollars, at a euro a dollar."""
    from verger.pricing.estimate import to_eur

    return Estimate("EMR", "emr", 60.0, to_eur(usd, round_prices), usd, ())


def test_ten_euros_pass_a_ceiling_of_ten_and_one_cent_more_does_not(round_prices: Prices) -> None:
    check_ceiling(ten_euros(10.00, round_prices), 10.0)
    for usd in (10.01, 10.0001):
        with pytest.raises(SettingError, match=r"at most 10.00 € \(--max-eur\). Received: 10.01 €"):
            check_ceiling(ten_euros(usd, round_prices), 10.0)
    with pytest.raises(SettingError):
        check_ceiling(ten_euros(0.01, round_prices), float("nan"))


@pytest.mark.parametrize(("photos", "shape"), [(0, Shape()), (-1, Shape()), (5, Shape(core_count=0))])
def test_nothing_to_do_or_nobody_to_do_it_is_refused(photos: int, shape: Shape) -> None:
    with pytest.raises(SettingError, match="at least one photo"):
        estimate_runs(photos, None, "eu-west-1", load_prices(), shape)


def test_the_public_run_of_the_same_size_beside_ours_is_what_the_page_says() -> None:
    page = (ROOT / "docs" / "emr-estimate.md").read_text()
    shipped = load_prices()
    hours = PUBLIC_MINUTES / 60
    public = hours * usd_per_hour("eu-west-1", shipped, SAME_MACHINES)
    assert f"| the public run | three m5.2xlarge | {PUBLIC_MINUTES} min | {public:.2f} USD |" in page
    for shape, machines in ((SAME_MACHINES, "three m5.2xlarge"), (Shape(), "three m5.xlarge")):
        ours = by_place(estimate_runs(PUBLIC_PHOTOS, None, "eu-west-1", shipped, shape))["emr"]
        assert f"| Verger, estimated | {machines} | {ours.seconds / 60:.1f} min | {ours.usd:.2f} USD |" in page
    for line in by_place(estimate_runs(PUBLIC_PHOTOS, None, "eu-west-1", shipped, SAME_MACHINES))["emr"].lines:
        assert line.arithmetic in page, line


def run_command(command: Any, *arguments: str) -> tuple[int, str]:
    """A command as a user gives it, with the exit code that `verger` makes of its errors."""
    result = CliRunner().invoke(command, arguments)
    if isinstance(result.exception, SettingError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


def test_estimate_prints_a_table_its_arithmetic_and_json() -> None:
    code, text = run_command(estimate, "67692", "--explain")
    assert code == 0
    assert "cheapest" in text
    assert "67,692 photos / (30.4 photos/s × 8 vCPUs) = 4.6 min" in text
    code, text = run_command(estimate, "67,692", "--json", "--nodes", "4", "--region", "eu-central-1")
    said = json.loads(text)
    assert (said["photos"], said["region"], said["cheapest"]) == (67_692, "eu-central-1", "serverless")
    assert [run["where"] for run in said["estimates"]] == ["emr", "emr-spot", "serverless", "one machine"]


def test_estimate_lists_a_place(photos: Path) -> None:
    code, text = run_command(estimate, str(photos), "--json")
    assert code == 0
    said = json.loads(text)
    assert (said["photos"], said["bytes"]) == (12, sum(file.stat().st_size for file in photos.rglob("*.jpg")))


def test_estimate_refuses_with_exit_code_2() -> None:
    code, text = run_command(estimate, "500000", "--bytes-per-photo", "3000000")
    assert (code, "Received: " in text, "--max-eur" in text) == (2, True, True)
    for region in ("eu-west-2", "us-east-1"):
        assert run_command(estimate, "5", "--region", region)[0] == 2
    assert run_command(estimate, "5", "--instance", "m5.nano")[0] == 2
    assert run_command(estimate, "nowhere")[0] == 2
    assert run_command(estimate, ".", "--bytes-per-photo", "5")[0] == 2


def test_prices_prints_what_is_known() -> None:
    code, text = run_command(prices, "--region", "eu-north-1")
    assert code == 0
    assert re.search(r"m5\.xlarge\s+4\s+16\s+0\.2040\s+~0\.1020\s+0\.0480", text)
    assert "m4.xlarge" not in text


def test_estimating_needs_neither_boto3_nor_spark() -> None:
    code = "import sys, verger.cloud.cli_estimate; print(sorted({'boto3', 'botocore', 'pyspark'} & sys.modules.keys()))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "[]\n"
