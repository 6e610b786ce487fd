"""The slides and the critical review: where their numbers come from, and whether the arithmetic is right."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import write_photo

pytest.importorskip("typst")
pytest.importorskip("font_lato")
pypdf = pytest.importorskip("pypdf")

from facts import MEASURED, PRICE, ROOT, find_numbers, parse  # noqa: E402
from slides import SOURCES, build  # noqa: E402

from verger.errors import SettingError  # noqa: E402
from verger.parts import COMPONENTS, list_column, table_bytes  # noqa: E402
from verger.projection import Statistics, fit_projection  # noqa: E402

CRITIQUE = (ROOT / "docs" / "critique.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of twelve photos, made without Spark."""
    vectors = np.random.default_rng(0).normal(size=(40, 6)) * [6, 5, 4, 3, 2, 1]
    projection = fit_projection(Statistics.of(vectors), 3)
    paths = [f"{'apple' if i < 6 else 'pear'}/{i:02}.jpg" for i in range(12)]
    for i, path in enumerate(paths):
        write_photo(tmp_path / "photos" / path, i)
    components = list_column(projection.apply(vectors[:12]))
    table = pa.table([paths, [path.split("/")[0] for path in paths], components], schema=COMPONENTS)
    for file, content in (
        ("components/part-0.parquet", table_bytes(table).to_pybytes()),
        ("model/projection.npz", projection.to_bytes()),
        ("manifest.json", json.dumps(manifest(tmp_path / "photos")).encode()),
    ):
        (tmp_path / "out" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / file).write_bytes(content)
    return tmp_path / "out"


def manifest(photos: Path) -> dict[str, object]:
    return {
        "source": str(photos),
        "settings": {"source": str(photos), "dest": "out"},
        "finished": "2026-11-21T12:00:00+00:00",
        "spark": {"version": "4.3.0"},
        "backbone": {"name": "efficientnet_lite0", "vector_length": 1280, "image_size": 224},
        "photos": {"found": 1234, "embedded": 1234, "failed": 0},
        "projection": {"components": 47, "explained_variance": 0.9},
        "seconds": {"total": 56.7},
    }


def pages(run: Path, **changes: dict[str, object]) -> list[str]:
    """The text of every page, with changed entries in the manifest."""
    told = json.loads((run / "manifest.json").read_text())
    for key, values in changes.items():
        told[key] |= values
    (run / "manifest.json").write_text(json.dumps(told))
    build(str(run), run.parent / "slides.pdf")
    read = pypdf.PdfReader(io.BytesIO((run.parent / "slides.pdf").read_bytes()))
    return [re.sub(r"\s+", " ", page.extract_text()) for page in read.pages]


def test_a_number_changed_in_the_manifest_changes_the_slides(run: Path) -> None:
    before = pages(run)
    after = pages(run, photos={"found": 4321, "embedded": 4321}, projection={"components": 53})
    assert "47 composantes gardent 90 %" in "".join(before)
    assert "1 234" in "".join(before)
    assert "53 composantes gardent 90 %" in "".join(after)
    assert "4 321" in "".join(after)
    assert not re.search(r"47 composantes|1 234", "".join(after))


def test_every_slide_is_one_page(run: Path) -> None:
    """What overflows goes to another page."""
    source = (SOURCES / "verger.typ").read_text(encoding="utf-8")
    assert len(pages(run, photos={"found": 12_345_678})) == source.count("\n#slide[") + 1


def test_numbers_of_results_and_prices_are_on_the_slides(run: Path) -> None:
    text = "".join(pages(run))
    measured = find_numbers(RESULTS, MEASURED, "RESULTS.md")
    for name in ("verger_of_limit", "daft_of_limit", "times_spark_pca", "lite0_accuracy"):
        assert f"{measured[name]:g}".replace(".", ",") in text, name
    for found in PRICE.finditer(CRITIQUE):
        assert f"{found['total']} €" in text


def test_a_number_that_is_not_found_is_named(run: Path) -> None:
    with pytest.raises(SettingError, match=r"the number `times_spark_pca` in RESULTS\.md"):
        find_numbers(RESULTS.replace("Spark ML's PCA", "Somebody's PCA"), MEASURED, "RESULTS.md")
    told = json.loads((run / "manifest.json").read_text())
    del told["projection"]["explained_variance"]
    (run / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(SettingError, match=r"the number `explained_variance` in manifest\.json"):
        build(str(run), run.parent / "slides.pdf")


def test_the_numbers_of_results_are_the_ones_meant() -> None:
    measured = find_numbers(RESULTS, MEASURED, "RESULTS.md")
    assert 0 < measured["reference_of_limit"] < measured["daft_of_limit"] < measured["verger_of_limit"] <= 1
    assert measured["mobilenet_accuracy"] < measured["lite0_accuracy"] < 100
    assert measured["photos"] == 9800


def test_the_critical_review_quotes_results_as_they_are() -> None:
    measured = find_numbers(RESULTS, MEASURED, "RESULTS.md")
    elsewhere = {"photos", "driver_ten_million_megabytes"}  # written there as 9 800 and 3,2 Go
    on_slides_only = {"reference_of_limit", "start_seconds", "mobilenet_accuracy"}
    for name in measured.keys() - elsewhere - on_slides_only:
        text = (f"{measured[name]:.1f}" if name.startswith("times_") else f"{measured[name]:g}").replace(".", ",")
        assert re.search(rf"(?<![\d,]){text}(?![\d,]\d)", CRITIQUE), name


def test_the_prices_of_the_critical_review_are_reckoned_right() -> None:
    usd_per_eur = parse(re.search(r"1 € = ([\d,]+) \$", CRITIQUE)[1], ",")
    measured = find_numbers(RESULTS, MEASURED, "RESULTS.md")
    rate = measured["photos"] / measured["embed_seconds"] / 2 * 0.8 * 0.3
    assert f"= **{rate:.1f} photos/s par vCPU**".replace(".", ",") in CRITIQUE
    node = 0.214 + 0.048 + 0.005  # m5.xlarge, EMR's fee, IPv4
    hourly_usd = {
        "EMR sur EC2, à la demande": 3 * node,
        "EMR sur EC2, ouvriers en spot": 3 * node - 2 * 0.214 / 2,
        "EMR Serverless": 12 * 0.0526 + 48 * 0.00578,
        "Databricks": 3 * (0.214 + 0.69 * 0.15 + 0.005),
        "Une grosse machine": 0.856 + 0.005,
    }
    rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in CRITIQUE.splitlines() if PRICE.match(line)]
    assert [row[0] for row in rows] == list(hourly_usd)
    for name, _, hourly, speed, *euros in rows:
        assert parse(hourly, ",") == pytest.approx(hourly_usd[name], abs=0.0005)
        assert parse(speed, ",") == round((16 if name == "Une grosse machine" else 8) * rate), name
        computing = parse(hourly, ",") * 1e6 / (3600 * parse(speed, ",")) / usd_per_eur
        s3 = 0.8 / usd_per_eur
        assert [parse(cell, ",") for cell in euros] == pytest.approx([computing, s3, computing + s3], abs=0.0051), name


def test_the_prices_of_the_critical_review_are_those_of_the_estimates() -> None:
    file = ROOT / "verger" / "pricing" / "prices.json"
    if not file.exists():
        pytest.skip("needs verger/pricing/prices.json, which comes with the commands for AWS")
    known = json.loads(file.read_text())
    ireland, node = known["regions"]["eu-west-1"], known["instances"]["m5.xlarge"]
    for price in (
        ireland["ec2_usd_per_hour"]["m5.xlarge"],
        ireland["ec2_usd_per_hour"]["m5.4xlarge"],
        ireland["serverless"]["vcpu_usd_per_hour"],
        ireland["serverless"]["gb_usd_per_hour"],
        node["emr_usd_per_hour"],
        known["exchange"]["usd_per_eur"],
    ):
        assert f"{price:g}".replace(".", ",") in CRITIQUE, price


def test_files_that_the_critical_review_names_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", CRITIQUE):
        assert (ROOT / "docs" / target).exists(), target
    for file in re.findall(r"`((?:docs|benchmarks)/[\w./]+)`", CRITIQUE):
        assert (ROOT / file).exists(), file
