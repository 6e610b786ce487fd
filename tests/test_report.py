"""The page of a finished run: true numbers, nothing from elsewhere, and nothing that a file name can break."""

import base64
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from verger.errors import CAUSES
from verger.report import MapPhoto, ReportData, render_report

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
        "spark": {"version": "4.0.1", "master": "local[2]"},
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
        "photos": [MapPhoto("Pear/1.jpg", "Pear", 0.0, 1.0, JPEG), MapPhoto("Apple/1.jpg", "Apple", 1.0, 0.5, JPEG)],
        "failures": [],
        **changes,
    }
    return ReportData(**fields)


def columns(page):
    """The columns behind the map, by name."""
    plots = json.loads(re.search(r'<script type="application/json" id="plots">(.*?)</script>', page, re.S)[1])
    (text,) = re.findall(r'"entries": (\[\["x".*?\]\]\])', json.dumps(plots["map"]))[:1] or ("[]",)
    return dict(json.loads(text))


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
    page = render_report(manifest(), data())
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert "default-src 'none'; img-src data: blob:" in markup
    assert not re.search(r"(src|href|action)\s*=|url\(|@import", markup)
    assert not re.search(r"<script[^>]*src", page)


def test_names_of_files_stay_text():
    photos = [MapPhoto(f"{HOSTILE}/1.jpg", HOSTILE, 0.0, 0.0, JPEG)]
    broken = manifest()["photos"] | {"failed": 1, "causes": {"unreadable": 1}, "left_out": {HOSTILE: 1}}
    page = render_report(
        manifest(photos=broken, source=HOSTILE, settings={"source": HOSTILE}),
        data(labels={HOSTILE: 1}, photos=photos, failures=[(HOSTILE, "unreadable")]),
    )
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&#39;&amp;amp; @path{safe}") >= 6
    assert columns(page)["label"] == [HOSTILE]  # the tooltip escapes it in the browser


def test_the_tooltip_leaves_bokehs_escaping_on():
    tooltip = re.search(r'"tooltips":"(.*?)[^\\]"', render_report(manifest(), data()))[1]
    assert "@path" in tooltip
    assert "safe" not in tooltip


def test_thumbnails_are_in_the_page_and_a_missing_one_is_drawn():
    photos = [MapPhoto("1.jpg", "", 0.0, 0.0, JPEG), MapPhoto("2.jpg", "", 1.0, 1.0, b"")]
    got = columns(render_report(manifest(), data(labels={"": 2}, photos=photos)))
    assert got["thumbnail"][0] == "data:image/jpeg;base64," + base64.b64encode(JPEG).decode()
    assert b"no preview" in base64.b64decode(got["thumbnail"][1].removeprefix("data:image/svg+xml;base64,"))
    assert got["label"] == ["(no label)", "(no label)"]


def test_of_many_failures_the_first_are_listed_and_the_rest_counted():
    counts = manifest()["photos"] | {"failed": 731, "causes": {"truncated": 731}}
    failures = [(f"Pear/broken-{i}.jpg", "truncated") for i in range(731)]
    page = words(render_report(manifest(photos=counts), data(failures=failures)))
    assert "truncated: 731 photos" in page
    assert "a copy or a download was cut off" in page
    assert "Pear/broken-199.jpg" in page
    assert "Pear/broken-200.jpg" not in page
    assert "531 more paths not listed here" in page


def test_every_cause_is_explained():
    failures = [(f"{cause}.jpg", cause) for cause in CAUSES]
    counts = manifest()["photos"] | {"failed": len(CAUSES), "causes": dict.fromkeys(CAUSES, 1)}
    page = words(render_report(manifest(photos=counts), data(failures=failures)))
    assert [cause for cause in CAUSES if f"{cause}: 1 photo" not in page] == []
    assert "no explanation" not in page


def test_what_was_left_out_is_counted():
    left_out = {"left_out": {"hidden": 3, ".txt": 12}}
    page = words(render_report(manifest(photos=manifest()["photos"] | left_out), data()))
    assert ".txt: 12, hidden: 3" in page


def test_one_photo_of_one_label_and_one_component_read_well():
    projection = manifest()["projection"] | {"components": 1, "asked": 1}
    few = data(
        labels={"Pear": 1}, variance=np.array([0.0]), total_variance=0.0, photos=[MapPhoto("1.jpg", "Pear", 0, 0, b"")]
    )
    page = render_report(manifest(projection=projection, embed_photos_per_second=0), few)
    assert "1 photo of 1 label became 1 component. The photos are all alike" in words(page)
    assert " 1 photo; photos that look alike" in words(page)
    assert "(no second component)" in page


def test_the_bars_show_sixty_labels_and_fold_the_rest():
    labels = {f"Fruit {i}": 1000 - i for i in range(200)}
    page = words(render_report(manifest(), data(labels=labels)))
    assert "140 more labels, with 121,870 photos" in page


@pytest.mark.parametrize("number", [12, 49, 180])
def test_labels_look_different_from_each_other(number):
    labels = [f"{fruit} {i}" for i in range(12) for fruit in ("Apple", "Banana", "Cherry", "Date", "Elder", "Fig")]
    labels = (labels + [f"Pear{i}" for i in range(number)])[-number:]
    got = columns(render_report(manifest(), data(photos=[MapPhoto("p", label, 0, 0, b"") for label in labels])))
    assert len(set(zip(got["color"], got["marker"], strict=True))) == number


def test_the_same_run_gives_the_same_page():
    assert render_report(manifest(), data()) == render_report(manifest(), data())


def test_importing_the_report_waits_for_neither_spark_nor_bokeh():
    code = "import sys, verger.report; print({'pyspark', 'bokeh'} & set(sys.modules) or 'neither')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "neither"
