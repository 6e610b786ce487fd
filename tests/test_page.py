"""The page in a real Chromium, as large as a phone's screen: what people see, read and press."""

import io
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from orchard_server import jpeg, running_server
from PIL import Image

from verger.sample import render

pytestmark = pytest.mark.server
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install 'verger[dev]'")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXE = Path(__file__).parents[1] / ".servers" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE_SECONDS = 60  # of a test, on a machine that has much else to do
FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run"
FLAGS += " --disable-background-networking --disable-component-update --disable-sync"  # it talks to our server alone


class Phone:
    """A browser of 390 by 844 pixels, and the few things that people do with it."""

    def __init__(self, address: str, folder: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in (*FLAGS.split(), f"--user-data-dir={folder / 'profile'}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        self.driver.set_script_timeout(PATIENCE_SECONDS)
        self.address, self._folder = address, folder

    def open(self, language: str = "fr-FR", *, dark: bool = False, width: int = 390) -> None:
        """The first page, as for a first visit."""
        self.online(True)
        screen = {"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setDeviceMetricsOverride", **screen)
        self.tell("Emulation.setEmulatedMedia", features=[theme])
        self.tell("Network.setUserAgentOverride", userAgent="a phone", acceptLanguage=language)
        self.driver.get(self.address)
        self.run("localStorage.clear()")
        self.driver.get(self.address)
        self.driver.get_log("browser")

    def tell(self, command: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, parameters)

    def online(self, on: bool) -> None:
        self.tell("Network.enable")
        line = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.tell("Network.emulateNetworkConditions", offline=not on, **line)

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def texts(self, selector: str) -> list[str]:
        """What is shown of each element, all at one moment, with every kind of space as a plain one."""
        visible = "[...document.querySelectorAll(arguments[0])].filter((element) => element.checkVisibility())"
        found = self.driver.execute_script(f"return {visible}.map((element) => element.innerText)", selector)
        return [re.sub(r"\s+", " ", text).strip() for text in found]

    def press(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def upload(self, content: bytes, name: str = "photo.jpg") -> None:
        """Choose a photo, and wait for what the page says of it."""
        file = self._folder / name
        file.write_bytes(content)
        self.driver.find_element("id", "camera").send_keys(str(file))
        self.wait(lambda: self.texts("#shown h1"))

    def wait(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.texts("body")
            time.sleep(0.05)


@pytest.fixture(scope="module")
def phone(orchard: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    if not CHROMIUM or not DRIVER:
        pytest.skip("needs Chromium: sudo apt-get install chromium chromium-driver")
    folder = tmp_path_factory.mktemp("page")
    with running_server(orchard, folder / "log", photos_per_minute=0) as address:
        phone = Phone(f"{address}/", folder)
        yield phone
        phone.driver.quit()


@pytest.fixture(scope="module")
def blends() -> dict[str, bytes]:
    """Photos of no one fruit: between an apple and a pear, and between a pear and a strawberry."""
    apple, pear, strawberry = (render(kind, 7).astype(float) for kind in ("apple", "pear", "strawberry"))
    return {
        "pome": jpeg((apple / 2 + pear / 2).astype(np.uint8)),
        "unsure": jpeg((0.7 * pear + 0.3 * strawberry).astype(np.uint8)),
    }


def test_a_photo_gets_a_name_a_card_and_photos_like_it_in_both_languages(phone: Phone, pear: bytes) -> None:
    phone.open("fr-FR")
    assert phone.texts("h1") == ["Quel est ce fruit ?"]
    phone.upload(pear)
    assert phone.texts("h1") == ["Poire"]
    assert phone.texts(".bars li") == ["Poire 99 %"]
    assert phone.texts(".card h2") == ["Poire Pear"]
    assert "Pyrus communis, famille Rosaceae" in phone.texts(".card")[0]
    assert "De saison en métropole" in phone.texts(".card")[0]
    assert phone.texts(".facts dd")[0] == "57 kcal"
    assert len(phone.texts(".alike img")) == 2
    phone.press("button[value=en]")
    assert phone.texts("h1") == ["Pear"]
    assert "In season in mainland France" in phone.texts(".card")[0]
    assert phone.run("return document.documentElement.lang") == "en"
    phone.driver.refresh()
    assert phone.texts("#welcome p")[0].startswith("Take a photo.")  # it remembers the language


@pytest.mark.parametrize(
    ("language", "taken"), [("en-GB", "Take a photo"), ("de-DE", "Take a photo"), ("fr", "Prendre une photo")]
)
def test_it_speaks_the_browsers_language_or_english(phone: Phone, language: str, taken: str) -> None:
    phone.open(language)
    assert phone.texts(".take") == [taken]


def test_what_it_is_unsure_of_it_says_so(phone: Phone, blends: dict[str, bytes]) -> None:
    phone.open("en")
    phone.upload(blends["unsure"])
    assert phone.texts("h1") == ["I am not sure"]
    assert sorted(bar.split()[0] for bar in phone.texts(".bars li")[:2]) == ["Pear", "Strawberry"]
    assert phone.texts(".card .first") == ["If it is the first one"]


def test_where_it_is_sure_of_the_kind_alone_it_says_perhaps(phone: Phone, blends: dict[str, bytes]) -> None:
    phone.open("fr")
    phone.upload(blends["pome"])
    assert phone.texts("h1") == ["Pome"]
    assert phone.texts(".perhaps") == ["peut-être Pomme"]
    assert phone.texts(".chip")[0].startswith("sûr à 9")


def test_what_it_does_not_know_it_says_so_and_gives_no_card(phone: Phone, noise: bytes) -> None:
    phone.open("en")
    phone.upload(noise)
    assert phone.texts("h1") == ["I do not know this fruit"]
    assert len(phone.texts(".tips li")) == 3
    assert phone.texts(".card, .alike, .bars") == []


def test_what_is_no_photo_is_explained_in_human_words(phone: Phone) -> None:
    phone.open("fr")
    phone.upload(b"apple", "apple.txt")
    assert phone.texts("h1") == ["Cela n’a pas marché"]
    assert "n’est pas une photo que je sais lire" in phone.texts("#shown")[0]
    assert phone.texts(".again") == []  # the same file would fail again


def test_offline_it_opens_explains_itself_and_goes_on_when_the_network_is_back(phone: Phone, pear: bytes) -> None:
    phone.open("en")
    phone.driver.execute_async_script("navigator.serviceWorker.ready.then(arguments[0])")
    phone.wait(lambda: phone.run("return !!navigator.serviceWorker.controller"))
    phone.online(False)
    phone.driver.get(phone.address)
    phone.wait(lambda: phone.texts("#offline"))
    phone.upload(pear)
    assert "Try again when the network is back." in phone.texts("#shown")[0]
    phone.online(True)
    phone.press(".again")
    phone.wait(lambda: phone.texts("h1") == ["Pear"])
    assert phone.texts("#offline") == []


def test_a_phones_photo_is_made_small_and_upright_before_it_leaves(phone: Phone) -> None:
    wide = Image.fromarray(np.random.default_rng(1).integers(0, 256, (2000, 3000, 3), dtype=np.uint8))
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # the camera was held upright
    exif[0x010F] = "a maker"
    wide.save(out, "JPEG", exif=exif)
    phone.open()
    phone.upload(out.getvalue())
    sent = phone.driver.execute_async_script(
        "photo.blob.arrayBuffer().then((b) => arguments[0]([...new Uint8Array(b)]))"
    )
    small = Image.open(io.BytesIO(bytes(sent)))
    assert (small.size, small.format) == ((683, 1024), "JPEG")
    assert len(small.getexif()) == 0


def test_the_keyboard_reaches_everything_and_the_answer_is_where_it_leads(phone: Phone, pear: bytes) -> None:
    phone.open("en")
    reached = []
    for _ in range(5):
        webdriver.ActionChains(phone.driver).send_keys("\ue004").perform()  # the tab key
        reached.append(phone.run("return document.activeElement.id || document.activeElement.value"))
    assert reached == ["home", "fr", "en", "camera", "library"]
    phone.upload(pear)
    assert phone.run("return document.activeElement.textContent") == "Pear"


def test_going_back_leads_to_the_first_page(phone: Phone, pear: bytes) -> None:
    phone.open("en")
    phone.upload(pear)
    phone.driver.back()
    phone.wait(lambda: phone.texts(".take") == ["Take a photo"])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("language", "taken"), [("fr", "Prendre une photo"), ("en", "Take a photo")], ids=["fr", "en"])
def test_axe_finds_no_fault(phone: Phone, pear, blends, noise, language: str, taken: str, *, dark: bool) -> None:
    if not AXE.is_file():
        pytest.skip("needs axe: scripts/servers installs it")
    phone.open(language, dark=dark)
    for content in (None, pear, blends["unsure"], blends["pome"], noise, b"apple"):
        if content:
            phone.upload(content)
        phone.run(AXE.read_text())
        found = phone.driver.execute_async_script("axe.run().then(arguments[0])")
        assert found["passes"]
        assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found["violations"]] == []
        phone.press("#home")
        phone.wait(lambda: phone.texts(".take") == [taken])


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_it_fits_narrow_and_wide_screens(phone: Phone, blends: dict[str, bytes], width: int) -> None:
    phone.open("fr", width=width)
    assert phone.run("return document.documentElement.scrollWidth") <= width
    phone.upload(blends["unsure"])
    assert phone.run("return document.documentElement.scrollWidth") <= width


def test_it_loads_nothing_from_elsewhere_breaks_no_rule_and_can_be_installed(phone: Phone, pear: bytes) -> None:
    phone.open("en")
    phone.upload(pear)
    loaded = phone.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert loaded
    assert [name for name in loaded if not name.startswith((phone.address, "blob:", "data:"))] == []
    weights = "return performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))"
    assert 30_000 < sum(phone.run(f"{weights}.map((entry) => entry.encodedBodySize)")) < 150_000
    assert phone.driver.get_log("browser") == []  # what its policy forbids would be said here
    assert phone.tell("Page.getInstallabilityErrors")["installabilityErrors"] == []
    assert httpx.get(f"{phone.address}healthz").json()["status"] == "ok"
