"""The page of a run in a real Chromium: what people point at, click, type and print."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from orchard_server import jpeg
from test_page import AXE, CHROMIUM, DRIVER, Phone
from test_report import data, manifest, recogniser

from verger.report import Failure, render_report
from verger.report_cost import reckon_cost
from verger.report_map import Map
from verger.sample import render

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install 'verger[dev]'")
pytestmark = pytest.mark.server
KINDS = ("apple", "pear", "strawberry")
EACH = 20
ENTER, ESCAPE = "\ue007", "\ue00c"


def orchard_map() -> Map:
    """Sixty photos of three kinds, each kind in a cloud of its own; every second one with a picture."""
    paths = [f"{kind}/no {i}.jpg" for kind in KINDS for i in range(EACH)]
    centres = np.repeat(10 * np.eye(3), EACH, axis=0)
    spread = np.random.default_rng(0).normal(size=centres.shape)
    components = ((centres + spread) * (1, 2, 0.5)).astype(np.float32)
    pictures = {at: jpeg(render(paths[at].split("/")[0], at)) for at in range(0, len(paths), 2)}
    return Map(paths, [path.split("/")[0] for path in paths], components, pictures)


def run_of_sixty() -> str:
    """A page that shows everything that a page can show."""
    causes = {"truncated": 1, "vanished": 1}
    changes = {"added": 1, "changed": 2, "removed": 3, "mended": 4}
    of_run = manifest(
        photos=manifest()["photos"] | {"failed": 2, "causes": causes},
        projection=manifest()["projection"] | {"components": 3},
        recogniser=recogniser(held_out="neighbours"),
        changes=changes,
    )
    lost = [Failure("cut.jpg", "truncated", jpeg(render("pear", 3)), 9), Failure("gone.jpg", "vanished", b"", 9)]
    shown = data(
        labels=dict.fromkeys(KINDS, EACH),
        photos=orchard_map(),
        failures=lost,
        confusions=[("apple", "pear", 3)],
        previous=manifest(),
        cost=reckon_cost(of_run, 10**6),
    )
    return render_report(of_run, shown)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    if not CHROMIUM or not DRIVER:
        pytest.skip("needs Chromium: sudo apt-get install chromium chromium-driver")
    folder = tmp_path_factory.mktemp("report")
    (folder / "report.html").write_text(run_of_sixty())
    page = Phone((folder / "report.html").as_uri(), folder)
    yield page
    page.driver.quit()


@pytest.fixture(autouse=True)
def _no_error_in_the_console(page: Phone) -> Iterator[None]:
    page.open("en", width=1280)
    yield
    assert page.driver.get_log("browser") == []  # what the page's own policy forbids would be said here


def type_into_search(page: Phone, *keys: str) -> None:
    page.driver.find_element("id", "search").send_keys(*keys)


def bright(page: Phone) -> int:
    """How many photos are in colour."""
    return page.run("return map.bright.reduce((sum, one) => sum + one, 0)")


def colours_at(page: Phone, photo: int) -> list[int]:
    """Red, green and blue where a photo is drawn."""
    x, y = page.driver.execute_script("return map.place(arguments[0]).map((pixel) => pixel * map.ratio)", photo)
    return pixel(page, round(x), round(y))


def pixel(page: Phone, x: int, y: int) -> list[int]:
    """Red, green and blue of a pixel of the map, after all that was asked for is drawn."""
    script = """map.paint()
    const copy = document.createElement("canvas").getContext("2d")
    copy.drawImage(map.canvas, -arguments[0], -arguments[1])
    return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3)"""
    return page.driver.execute_script(script, x, y)


def point_at(page: Phone, photo: int) -> Any:
    """A real mouse, on its way to a photo; what it does there is for the caller to add."""
    x, y = page.driver.execute_script("map.canvas.scrollIntoView(); return map.place(arguments[0])", photo)
    middle = page.run("return [map.width / 2, map.height / 2]")
    canvas = page.driver.find_element("id", "map")
    return webdriver.ActionChains(page.driver).move_to_element_with_offset(
        canvas, round(x - middle[0]), round(y - middle[1])
    )


def test_every_photo_is_drawn_in_the_colour_of_its_label(page: Phone) -> None:
    looks = json.loads(page.run("return document.getElementById('words').textContent"))["looks"]
    hexes = ["#{:02x}{:02x}{:02x}".format(*colours_at(page, photo)) for photo in (0, EACH, 2 * EACH)]
    assert hexes == [colour for colour, _ in looks]
    assert page.texts("#labels li") == ["apple 20", "pear 20", "strawberry 20"]


def test_a_label_that_is_clicked_is_dimmed_and_comes_back(page: Phone) -> None:
    before = colours_at(page, 0)
    page.press("#labels button")
    assert bright(page) == 2 * EACH
    assert colours_at(page, 0) != before
    page.press("#all")
    assert (bright(page), colours_at(page, 0)) == (3 * EACH, before)
    page.press("#none")
    assert bright(page) == 0


def test_what_is_typed_dims_all_others_and_enter_goes_from_one_to_the_next(page: Phone) -> None:
    type_into_search(page, "PEAR/no 1")
    page.wait(lambda: bright(page) == 11)
    assert page.texts("#found") == ["11 photos of 1 label. Enter goes from one to the next."]
    assert page.texts("#labels li") == ["pear 11"]
    type_into_search(page, ENTER, ENTER)
    assert page.texts("#chosen code") == ["pear/no 10.jpg"]
    type_into_search(page, ESCAPE)
    assert (bright(page), page.texts("#found")) == (3 * EACH, [""])
    type_into_search(page, "quince")
    page.wait(lambda: page.texts("#found") == ["No label and no path has this in it."])


@pytest.mark.parametrize(("text", "found"), [("pear", 20), ("r/no 7", 1), ("no 19.JPG", 3), ("y/no", 20)])
def test_labels_folders_and_names_are_searched_and_what_lies_across(page: Phone, text: str, found: int) -> None:
    type_into_search(page, text)
    page.wait(lambda: page.texts("#found")[0].startswith(f"{found} photo"))


def test_a_click_shows_the_nearest_photos_as_the_components_say(page: Phone) -> None:
    shown = orchard_map()
    photo = 2 * EACH + 4
    point_at(page, photo).click().perform()
    assert page.texts("#chosen code") == [shown.paths[photo]]
    order = np.argsort(((shown.components - shown.components[photo]) ** 2).sum(1), kind="stable")[1:]
    pictured = [shown.paths[at] for at in order if at in shown.thumbnails][:12]
    names = page.run("return [...document.querySelectorAll('#nearest button')].map((one) => one.title)")
    assert len(set(names) & set(pictured)) >= 11  # a byte a component leaves the last ones open
    labels = [shown.labels[at] for at in order[:50]]
    same = f"{labels.count('strawberry')} of the 50 nearest have the same label."
    assert page.texts("#chosen p") == [f"{same} 19 other photos on this map have it."]
    assert "strawberry 19" in page.texts("#kinds li")
    assert page.run("return document.querySelectorAll('#nearest img').length") == 12
    page.press("#nearest button")
    assert page.texts("#chosen code") == names[:1]


def test_the_map_is_moved_and_zoomed_by_keyboard_and_a_photo_chosen(page: Phone) -> None:
    page.run("map.canvas.focus()")
    keys = webdriver.ActionChains(page.driver)
    keys.send_keys("+", "\ue014", ENTER).perform()  # closer, to the right, choose
    assert page.run("return map.view.scale / map.whole") == pytest.approx(1.5)
    assert page.texts("#chosen code")
    webdriver.ActionChains(page.driver).send_keys("0").perform()
    assert page.run("return map.view.scale / map.whole") == 1


def test_dragging_moves_the_map_and_chooses_nothing(page: Phone) -> None:
    before = page.run("return map.place(0)")
    point_at(page, 0).click_and_hold().move_by_offset(30, 12).release().perform()
    after = page.run("return map.place(0)")
    assert np.subtract(after, before) == pytest.approx([30, 12], abs=1)
    assert page.texts("#chosen code") == []


def test_pointing_at_a_photo_shows_its_picture_label_and_path(page: Phone) -> None:
    point_at(page, 0).perform()
    assert page.texts("#tip") == ["apple apple/no 0.jpg"]
    assert page.run("return document.querySelector('#tip img').complete")


def test_failures_are_filtered_by_cause(page: Phone) -> None:
    assert page.texts(".tiles code") == ["cut.jpg", "gone.jpg"]
    page.press("[data-only=vanished]")
    assert page.texts(".tiles code") == ["gone.jpg"]
    page.press("[data-only='']")
    assert page.texts(".tiles code") == ["cut.jpg", "gone.jpg"]


def test_the_switch_turns_the_page_and_the_map_dark_and_paper_is_light(page: Phone) -> None:
    light = page.run("return getComputedStyle(document.body).backgroundColor")
    page.press("#theme")
    assert page.texts("#theme") == ["Light page"]
    assert page.run("return getComputedStyle(document.body).backgroundColor") != light
    assert pixel(page, 2, 2)[0] < 50
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert pixel(page, 2, 2) == [255, 255, 255]
    page.run("dispatchEvent(new Event('afterprint'))")
    assert pixel(page, 2, 2)[0] < 50


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_fault(page: Phone, *, dark: bool) -> None:
    if not AXE.is_file():
        pytest.skip("needs axe: scripts/servers installs it")
    page.open("en", dark=dark, width=1280)
    type_into_search(page, "pear", ENTER)
    found = axe(page)
    assert found["passes"]
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found["violations"]] == []


def axe(page: Phone) -> dict[str, Any]:
    """What axe says, let into the page past its policy, which runs no script but its own."""
    page.tell("Runtime.evaluate", expression=AXE.read_text())
    return page.driver.execute_async_script("axe.run().then(arguments[0])")


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_it_fits_narrow_and_wide_screens(page: Phone, width: int) -> None:
    page.open("en", width=width)
    type_into_search(page, "pear", ENTER)
    assert page.run("return document.documentElement.scrollWidth") <= width


def test_it_loads_nothing(page: Phone) -> None:
    type_into_search(page, "pear", ENTER)
    loaded = page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_a_page_without_any_photo_with_a_picture_works(page: Phone, tmp_path: Path) -> None:
    shown = Map(["1.jpg"], [""], np.zeros((1, 1), np.float32), {0: b""})
    alone = data(labels={"": 1}, variance=np.zeros(1), total_variance=0.0, photos=shown)
    projection = manifest()["projection"] | {"components": 1}
    (tmp_path / "report.html").write_text(render_report(manifest(projection=projection), alone))
    page.driver.get((tmp_path / "report.html").as_uri())
    type_into_search(page, "1", ENTER)
    assert page.texts("#chosen") == ["no picture in this page (no label) 1.jpg There is no other photo."]
