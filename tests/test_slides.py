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

import facts  # noqa: E402
from costs import DBU_PER_NODE_HOUR, USD_PER_DBU, Way, reckon  # noqa: E402
from facts import MEASURED, RECOGNISED, ROOT, find_numbers  # noqa: E402
from slides import SOURCES, build  # noqa: E402

from verger.errors import SettingError  # noqa: E402
from verger.parts import COMPONENTS, list_column, table_bytes  # noqa: E402
from verger.pricing.duration import PHOTOS_PER_SECOND_PER_VCPU  # noqa: E402
from verger.pricing.estimate import Shape, usd_per_hour  # noqa: E402
from verger.pricing.prices import load_prices  # noqa: E402
from verger.projection import Statistics, fit_projection  # noqa: E402

CRITIQUE = (ROOT / "docs" / "critique.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
RECOGNISER = (ROOT / "benchmarks" / "RECOGNISER.md").read_text(encoding="utf-8")


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


def test_a_number_changed_in_the_benchmarks_changes_the_slides(run: Path, tmp_path, monkeypatch) -> None:
    assert {"0,81", "81,2"} <= set(re.findall(r"\d+,\d+", "".join(pages(run))))
    monkeypatch.setattr(facts, "ROOT", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    for name, text, old, new in (
        ("RESULTS.md", RESULTS, "embedding alone | 0.81", "embedding alone | 0.61"),
        ("RECOGNISER.md", RECOGNISER, "mean 81.2, folds", "mean 71.9, folds"),
    ):
        assert old in text
        (tmp_path / "benchmarks" / name).write_text(text.replace(old, new), encoding="utf-8")
    after = set(re.findall(r"\d+,\d+", "".join(pages(run))))
    assert {"0,61", "71,9"} <= after
    assert not {"0,81", "81,2"} & after


@pytest.mark.parametrize(("held_out", "said"), [("folders", "dossiers entiers"), ("neighbours", "trop beau")])
def test_what_a_run_says_of_its_recogniser_is_on_the_slides_with_how_it_was_judged(
    run, held_out: str, said: str
) -> None:
    assert "Aucun réseau n’est entraîné" in "".join(pages(run))
    its = {"labels": 49, "photos": 9800, "judged": 1960, "held_out": held_out, "top1": 0.876, "coverage": 0.5}
    told = json.loads((run / "manifest.json").read_text()) | {"recogniser": its}
    (run / "manifest.json").write_text(json.dumps(told))
    text = "".join(pages(run))
    assert "87,6 % justes sur 1 960 photos, 49 étiquettes" in text
    assert said in text


def test_every_slide_is_one_page(run: Path) -> None:
    """What overflows goes to another page."""
    source = (SOURCES / "verger.typ").read_text(encoding="utf-8")
    assert len(pages(run, photos={"found": 12_345_678})) == source.count("\n#slide[") + 1


def test_commands_on_the_slides_exist(run: Path) -> None:
    from verger.cli import cli

    named = set(re.findall(r"verger (\w+)", (SOURCES / "verger.typ").read_text(encoding="utf-8")))
    assert {"run", "show", "recognise", "serve", "cloud", "forget"} <= named
    assert named <= set(cli.commands)


def test_numbers_of_the_benchmarks_and_prices_are_on_the_slides(run: Path) -> None:
    text = "".join(pages(run))
    measured = find_numbers(RESULTS, MEASURED, "RESULTS.md") | find_numbers(RECOGNISER, RECOGNISED, "RECOGNISER.md")
    for name in ("verger_of_limit", "daft_of_limit", "times_spark_pca", "lite0_accuracy", "varieties", "shops_fine"):
        assert f"{measured[name]:g}".replace(".", ",") in text, name
    for way in ways():
        assert f"{french(way.eur)} €" in text


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


def test_the_numbers_of_the_recogniser_are_the_ones_meant() -> None:
    its = find_numbers(RECOGNISER, RECOGNISED, "RECOGNISER.md")
    assert its["varieties_worst"] < its["varieties"] < its["varieties_best"] <= 100
    assert its["shops_fine"] < its["shops_coarse"] < 100
    assert its["varieties"] < its["varieties_right_when_sure"] < 100
    assert its["shops_false_alarms"] < 50 < its["packages_unknown"]
    assert 0 < its["shops_calibration_error"] < its["varieties_sure"]


def test_the_critical_review_quotes_the_benchmarks_as_they_are() -> None:
    measured = find_numbers(RESULTS, MEASURED, "RESULTS.md") | find_numbers(RECOGNISER, RECOGNISED, "RECOGNISER.md")
    elsewhere = {"photos", "driver_ten_million_megabytes"}  # written there as 9 800 and 3,2 Go
    on_slides_only = {"reference_of_limit", "start_seconds", "mobilenet_accuracy"}
    for name in measured.keys() - elsewhere - on_slides_only:
        text = (f"{measured[name]:.1f}" if name.startswith("times_") else f"{measured[name]:g}").replace(".", ",")
        assert re.search(rf"(?<![\d,]){text}(?![\d,]\d)", CRITIQUE), name


def french(number: float, digits: int = 2) -> str:
    return f"{number:.{digits}f}".replace(".", ",")


def ways(photos: int = 1_000_000, rate: float = PHOTOS_PER_SECOND_PER_VCPU) -> list[Way]:
    measured = find_numbers(RESULTS, MEASURED, "RESULTS.md")
    return reckon(photos, load_prices(), measured["daft_of_limit"] / measured["verger_of_limit"], rate)


def test_the_euros_of_the_critical_review_are_those_of_the_estimates() -> None:
    few, million, many = ways(10_000), ways(), ways(10_000_000)
    for one, two, three in zip(few, million, many, strict=True):
        row = re.search(rf"^\| \*\*{re.escape(two.name)}\*\* \|.*$", CRITIQUE, re.MULTILINE)
        assert row, two.name
        cells = [cell.strip(" *") for cell in row[0].split("|")[3:-1]]
        assert cells == [french(one.eur), french(two.eur), f"{two.minutes:.0f}", french(three.eur)], two.name
    by_name = {way.where: way for way in million}
    assert f"**S3 pèse {french(million[0].bucket_eur)} € par million**" in CRITIQUE
    slow = {way.where: french(way.eur) for way in ways(rate=PHOTOS_PER_SECOND_PER_VCPU / 3)}
    assert f"coûte {slow['emr']} € sur EMR, {slow['one machine']} € sur la grosse machine" in CRITIQUE
    known = load_prices()
    weekend = 60 * usd_per_hour("eu-west-1", known, Shape()) / known.exchange.usd_per_eur
    millions = weekend / by_name["emr"].eur
    assert f"week-end de 60 heures coûte {weekend:.0f} €, le prix de {millions:.0f} millions" in CRITIQUE
    assert f"à {french(by_name['emr'].eur)} € le million" in CRITIQUE


def test_what_the_euros_rest_on_is_in_the_critical_review() -> None:
    known = load_prices()
    months = ("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août")
    months += ("septembre", "octobre", "novembre", "décembre")
    for day in (known.region("eu-west-1").dated, known.exchange.dated):
        assert f"**{day.day} {months[day.month - 1]} {day.year}**" in CRITIQUE
    assert f"1 € = {known.exchange.usd_per_eur} $".replace(".", ",") in CRITIQUE
    assert f"= **{french(PHOTOS_PER_SECOND_PER_VCPU, 1)} photos/s par vCPU**" in CRITIQUE
    assert f"{french(DBU_PER_NODE_HOUR)} DBU par m5.xlarge et par heure à {french(USD_PER_DBU)} $" in CRITIQUE


def test_files_that_the_critical_review_names_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", CRITIQUE):
        assert (ROOT / "docs" / target).exists(), target
    for file in re.findall(r"`((?:docs|benchmarks)/[\w./]+)`", CRITIQUE):
        assert (ROOT / file).exists(), file
