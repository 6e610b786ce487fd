"""The page of a finished run: true numbers, nothing from elsewhere, and nothing that a file name can break."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest

from verger.errors import CAUSES
from verger.pricing.prices import load_prices
from verger.report import Failure, ReportData, render_report
from verger.report_cost import rate_per_vcpu, reckon_cost
from verger.report_map import Map
from verger.report_words import size

JPEG = base64.b64decode(  # 1×1 pixel
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgICAgMCAgIDAwMDBAYEBAQEBAgGBgUGCQgKCgkICQkKDA8MCgsOCwkJDRENDg8QEBEQCgwSExIQEw8Q"
    "EBD/wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAACf/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AVN//2Q=="
)
HOSTILE = """<script>alert("1")</script>'&amp; @path{safe}"""


def manifest(**changes):
    return {
        "verger": "0.1.0",
        "started": "2026-03-12T14:03:12+00:00",
        "finished": "2026-03-12T14:05:01+00:00",
        "source": "file:///orchard",
        "settings": {"source": "/orchard", "components": 2, "weights": None},
        "spark": {"version": "4.0.1", "master": "local[2]", "cores": 2},
        "backbone": {"name": "efficientnet_lite0", "fingerprint": "f00d", "vector_length": 1280, "image_size": 224},
        "photos": {"found": 9800, "embedded": 9800, "failed": 0, "reused": 0, "causes": {}, "left_out": {}},
        "projection": {"components": 2, "explained_variance": 0.7, "standardised": False, "asked": 2},
        "seconds": {"list": 1.5, "embed": 65.3, "components": 3.2, "total": 70.0},
        "embed_photos_per_second": 150.1,
        **changes,
    }


def data(**changes):
    fields = {
        "labels": {"Pear": 8800, "Apple": 1000},
        "variance": np.array([5.0, 2.0, 1.0, 1.0]),
        "total_variance": 10.0,
        "photos": photos(("Pear/1.jpg", "Pear"), ("Apple/1.jpg", "Apple")),
        "failures": [],
        **changes,
    }
    return ReportData(**fields)


def photos(*named, components=((0.0, 1.0), (1.0, 0.5)), pictures=(JPEG, JPEG)):
    """Photos of the map, given as (path, label)."""
    paths, labels = zip(*named, strict=True)
    numbers = np.array(components[: len(named)], np.float32)
    return Map(paths, labels, numbers, dict(enumerate(pictures[: len(named)])))


def block(page, name):
    """What the page carries under a name."""
    return re.search(f'<script type="[a-z]+/[a-z]+" id="{name}">(.*?)</script>', page, re.S)[1]


def array(page, name, kind):
    return np.frombuffer(base64.b64decode(block(page, name)), kind)


def words(page):
    """What a reader reads: the page without scripts, styles and tags."""
    bare = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", bare).replace(" .", ".").replace(" ,", ",")


@pytest.fixture(scope="module")
def plain():
    """What a reader reads of a run without surprises."""
    return words(render_report(manifest(), data()))


def test_the_headline_says_what_happened_in_true_numbers(plain):
    assert "9,800 photos of 2 labels became 2 components that keep 70 % of the variance." in plain


@pytest.mark.parametrize(
    "sentence",
    [
        "A sample of 2 of 9,800 photos",
        "2 components: 70 %. 80 % takes 3; 90 % takes 4; 95 % is not reached by the 4 that are known.",
        "Pear 8,800",
        "No photo failed.",
        "photos to vectors (the network): 1 min 05 s (93.3 %)",
        "asked: 2 components",
        "2026-03-12, 14:05 UTC",
        "f00d",
        "weights not set",
    ],
)
def test_the_page_says(plain, sentence):
    assert sentence in plain


def test_an_asked_share_and_a_kept_projection_are_told_apart():
    projection = manifest()["projection"]
    asked = words(render_report(manifest(projection=projection | {"asked": 0.9}), data()))
    kept = words(render_report(manifest(projection=projection | {"asked": "kept"}), data()))
    assert "asked: 90 %" in asked
    assert "The projection was kept from an earlier run" in kept


def test_nothing_comes_from_elsewhere_and_the_browser_is_told_to_refuse_it():
    page = render_report(manifest(), data(failures=[Failure("1.jpg", "truncated", JPEG, 3)]))
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert "default-src 'none'; img-src data:;" in markup
    assert re.findall(r'(?:src|href|action)\s*=\s*"?(\w+:\w+)', markup) == []
    assert not re.search(r"url\(|@import", markup)
    assert not re.search(r"<script[^>]*src", page)


def test_the_browser_runs_the_pages_own_script_and_no_other():
    page = render_report(manifest(), data())
    script = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_names_of_files_stay_text():
    broken = manifest()["photos"] | {"failed": 1, "causes": {"unreadable": 1}, "left_out": {HOSTILE: 1}}
    page = render_report(
        manifest(photos=broken, source=HOSTILE, settings={"source": HOSTILE}),
        data(
            labels={HOSTILE: 1},
            photos=photos((f"{HOSTILE}/{HOSTILE}.jpg", HOSTILE)),
            failures=[Failure(HOSTILE, "unreadable", b"", 1)],
            confusions=[(HOSTILE, HOSTILE, 3)],
        ),
    )
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&#39;&amp;amp; @path{safe}") >= 6
    carried = json.loads(block(page, "words"))
    assert carried["labels"] == [HOSTILE]
    assert carried["names"] == [f"{HOSTILE}.jpg".rpartition("/")[2]]


def test_photos_travel_as_columns_with_each_folder_named_once():
    named = (("Pear/Conference/1.jpg", "Pear"), ("2.jpg", ""), ("Pear/Conference/3.jpg", "Pear"))
    components = np.array([[4.0, 2.0, 0.5], [-8.0, 1.0, -0.5], [2.0, -2.0, 0.25]])
    page = render_report(manifest(), data(photos=photos(*named, components=components, pictures=(JPEG, b"", JPEG))))
    carried = json.loads(block(page, "words"))
    assert carried["labels"] == ["(no label)", "Pear"]
    assert carried["folders"] == [["Pear/Conference", 1], ["", 0]]
    assert array(page, "folders", "<u2").tolist() == [0, 1, 0]
    assert carried["names"] == ["1.jpg", "2.jpg", "3.jpg"]
    positions = array(page, "positions", "<i2").reshape(3, 2)
    np.testing.assert_allclose(positions * (8 / 32767), components[:, :2], atol=1e-3)
    steps = array(page, "components", "<i1").reshape(3, 3)
    np.testing.assert_allclose(steps * carried["scales"], components, atol=0.04)
    assert carried["pictured"] == [0, 2]
    assert block(page, "thumbnails").split("\n") == [base64.b64encode(JPEG).decode()] * 2


def test_a_hundred_thousand_photos_with_long_paths_fit_in_ten_megabytes_and_their_pictures():
    rng = np.random.default_rng(0)
    folders = [f"warehouse/season/camera-{i:02}/conveyor-belt-north/Apple Golden Delicious {i}" for i in range(90)]
    paths = [f"{folders[i % 90]}/IMG_20260914_{i:09}_original.jpg" for i in range(100_000)]
    labels = [path.split("/")[-2] for path in paths]
    shown = Map(paths, labels, rng.normal(size=(100_000, 32)).astype(np.float32), {0: JPEG})
    assert len(render_report(manifest(), data(photos=shown)).encode()) < 10_000_000


def test_it_says_by_how_many_components_neighbours_are_found():
    shown = photos(("1.jpg", "Pear"))
    assert "Distances are those of all 2 components" in words(render_report(manifest(), data(photos=shown)))
    many = manifest()["projection"] | {"components": 4, "asked": 4}
    page = words(render_report(manifest(projection=many), data(photos=shown)))
    assert "the first 2 of 4 components (70 % of the variance)" in page


def test_failures_are_shown_with_what_is_left_of_them_and_the_rest_counted():
    counts = manifest()["photos"] | {"failed": 731, "causes": {"truncated": 730, "vanished": 1}}
    failures = [Failure(f"Pear/{i}.jpg", "truncated", JPEG, 6_100) for i in range(3)]
    failures.append(Failure("Pear/gone.jpg", "vanished", b"", 2_000_000))
    page = render_report(manifest(photos=counts), data(failures=failures))
    assert "truncated: 730 photos" in words(page)
    assert "a copy or a download was cut off" in words(page)
    assert page.count("data:image/jpeg;base64,") == 3 + page.count("`data:image/jpeg;base64,")
    assert "truncated, 6.1 kB Pear/2.jpg" in words(page)
    assert "vanished vanished, 2.0 MB Pear/gone.jpg" in words(page)
    assert re.findall('data-only="(.*?)"', page) == ["", "truncated", "vanished"]
    assert "727 more photos not shown here" in words(page)


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (999_950, "1.0 MB"), (3_149_999, "3.1 MB")]
)
def test_bytes_read_well(count, said):
    assert size(count).replace("\N{NO-BREAK SPACE}", " ") == said


def test_every_cause_is_explained():
    counts = manifest()["photos"] | {"failed": len(CAUSES), "causes": dict.fromkeys(CAUSES, 1)}
    page = words(render_report(manifest(photos=counts), data()))
    assert [cause for cause in CAUSES if f"{cause}: 1 photo" not in page] == []
    assert "no explanation" not in page


def test_what_was_left_out_is_counted():
    left_out = {"left_out": {"hidden": 3, ".txt": 12}}
    page = words(render_report(manifest(photos=manifest()["photos"] | left_out), data()))
    assert ".txt: 12, hidden: 3" in page


def test_what_changed_stands_beside_the_last_runs_figures():
    counts = {"added": 12, "changed": 3, "removed": 0, "mended": 1}
    last = manifest(finished="2026-03-11T09:00:00+00:00", photos={"found": 9788}, seconds={"total": 65.0})
    page = words(render_report(manifest(changes=counts), data(previous=last)))
    assert "Added 12 Changed 3 other bytes, or another time Removed 0 Mended 1" in page
    assert "2026-03-11, 09:00 UTC" in page
    assert "photos found 9,788 9,800" in page
    assert "time 1 min 05 s 1 min 10 s" in page
    assert "photos failed" not in page  # the last manifest does not say


def test_a_first_run_speaks_of_no_other(plain):
    assert "What changed" not in plain
    assert "What changed" not in words(render_report(manifest(changes=None), data()))


def test_what_did_not_change_is_said():
    none = dict.fromkeys(("added", "changed", "removed", "mended"), 0)
    assert "The photos are the same." in words(render_report(manifest(changes=none), data(previous=manifest())))


def recogniser(**changes):
    figures = {"top1": 0.81, "coverage": 0.5, "accuracy_when_sure": None, "unknown": 0.05, "ece": 0.035}
    return {"labels": 49, "photos": 9800, "judged": 1960, "held_out": "folders", **figures, **changes}


def test_the_recogniser_has_its_figures_and_what_it_takes_for_what():
    page = render_report(manifest(recogniser=recogniser()), data(confusions=[("Apple", "Pear", 31)]))
    assert "Learnt from 9,800 photos of 49 labels, judged on 1,960 photos" in words(page)
    assert "Right at once 81 %" in words(page)
    assert "Right when sure – of those answers" in words(page)
    assert "Apple Pear 31" in words(page)
    assert "too hopeful" not in page


def test_figures_from_neighbouring_photos_come_with_a_warning():
    page = words(render_report(manifest(recogniser=recogniser(held_out="neighbours")), data()))
    assert "These figures are too hopeful" in page
    assert "verger evaluate" in page


@pytest.mark.parametrize("absent", [{}, {"recogniser": None}])
def test_without_a_recogniser_nothing_is_said_of_one(absent):
    assert "recogniser tells" not in words(render_report(manifest(**absent), data()))


def test_the_cost_is_that_of_the_estimate_with_its_date_and_its_rate(monkeypatch, tmp_path):
    monkeypatch.setenv("VERGER_PRICES", str(tmp_path / "none.json"))
    cost = reckon_cost(manifest(), 9800 * 6050)
    page = words(render_report(manifest(), data(cost=cost)))
    assert f"About {cost.cheapest.eur:.2f} € for 9,800 photos: {cost.cheapest.name}" in page
    assert f"from prices of {load_prices().region('eu-west-1').dated}" in page
    assert "This run embedded 75.0 photos a second on each of 2 cores" in page
    assert "assumed and never measured on AWS" in page
    assert "verger cloud estimate 9800 --rate 22.5 --explain" in page


def test_a_run_of_few_photos_measures_no_rate():
    few = manifest(photos=manifest()["photos"] | {"embedded": 12})
    rate, basis = rate_per_vcpu(few)
    assert rate == pytest.approx(30.4, abs=0.1)
    assert "too few photos" in basis


def test_on_a_cluster_a_core_is_a_vcpu_and_large_photos_are_decoded_once():
    spark = {"version": "4.0.1", "master": "yarn", "cores": 8}
    assert rate_per_vcpu(manifest(spark=spark))[0] == pytest.approx(150.1 / 8)
    lines = [line for run in reckon_cost(manifest(spark=spark), 9800 * 3_000_000).estimates for line in run.lines]
    assert not [line for line in lines if "MB ×" in line.arithmetic]  # the measured rate has that in it


def test_a_broken_file_of_prices_breaks_no_run(monkeypatch, tmp_path):
    (tmp_path / "prices.json").write_text("{")
    monkeypatch.setenv("VERGER_PRICES", str(tmp_path / "prices.json"))
    assert reckon_cost(manifest(), 1) is None
    assert "would cost on AWS" not in words(render_report(manifest(), data()))


def test_one_photo_of_one_label_and_one_component_read_well():
    projection = manifest()["projection"] | {"components": 1, "asked": 1}
    one = photos(("1.jpg", "Pear"), components=[[0.0]], pictures=(b"",))
    few = data(labels={"Pear": 1}, variance=np.array([0.0]), total_variance=0.0, photos=one)
    page = render_report(manifest(projection=projection, embed_photos_per_second=0), few)
    assert "1 photo of 1 label became 1 component. The photos are all alike" in words(page)
    assert " 1 photo; photos that look alike" in words(page)
    assert "(no second component)" in page
    assert array(page, "positions", "<i2").tolist() == [0, 0]


def test_the_bars_show_sixty_labels_and_fold_the_rest():
    labels = {f"Fruit {i}": 1000 - i for i in range(200)}
    page = words(render_report(manifest(), data(labels=labels)))
    assert "140 more labels, with 121,870 photos" in page


@pytest.mark.parametrize("number", [12, 49, 180])
def test_labels_look_different_from_each_other(number):
    labels = [f"{fruit} {i}" for i in range(12) for fruit in ("Apple", "Banana", "Cherry", "Date", "Elder", "Fig")]
    labels = (labels + [f"Pear{i}" for i in range(number)])[-number:]
    shown = Map([""] * number, labels, np.zeros((number, 2), np.float32), {})
    carried = json.loads(block(render_report(manifest(), data(photos=shown)), "words"))
    assert len({tuple(look) for look in carried["looks"]}) == number


def test_the_same_run_gives_the_same_page():
    assert render_report(manifest(), data()) == render_report(manifest(), data())
