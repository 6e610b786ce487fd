"""`verger explore`: neighbours, the table, the server, the command; and the page itself in a real Chromium."""

import asyncio
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import servers
from PIL import Image

from verger.cli import main
from verger.errors import MissingError, SettingError
from verger.explore import server
from verger.explore.neighbours import nearest
from verger.explore.rows import label_places, photo_table, read_rows
from verger.parts import components_path, list_column, table_bytes
from verger.settings import Limits
from verger.storage import open_place

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("rows", [1, 2, 10, 11, 700])
def test_neighbours_are_those_that_sorting_every_distance_gives(rows: int) -> None:
    points = np.random.default_rng(rows).normal(5, 2, (rows, 20)).astype(np.float32)
    distances = np.linalg.norm(points[:, None].astype(float) - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    found, apart = nearest(points)
    assert found.shape == apart.shape == (rows, min(10, rows - 1))
    np.testing.assert_array_equal(found, np.argsort(distances, axis=1)[:, : found.shape[1]])
    np.testing.assert_allclose(apart, np.sort(distances, axis=1)[:, : found.shape[1]], rtol=1e-4)


def test_neighbours_come_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    whole, done = nearest(points), list[int]()
    monkeypatch.setattr("verger.explore.neighbours.BLOCK_DISTANCES", 128 * 30)
    for one, other in zip(whole, nearest(points, progress=done.append), strict=True):
        np.testing.assert_array_equal(one, other)
    assert done == [30, 60, 90, 100]


@pytest.fixture
def dest(tmp_path: Path, photos: Path) -> Path:
    """What a run of the twelve photos leaves, as far as it matters here: apples left, pears right, with an apple."""
    paths = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))
    labels = [path.partition("/")[0] for path in paths]
    spots = np.array([[9.0 if label == "pear" else -9.0, i, 0.5] for i, label in enumerate(labels)], np.float32)
    spots[0] = 9, 8.5, 0.5
    place = open_place(str(tmp_path / "out"))
    for name, rows in {"a": slice(0, 8), "b": slice(8, 12)}.items():
        columns = {"path": paths[rows], "label": labels[rows], "components": list_column(spots[rows])}
        place.write(components_path(name), table_bytes(pa.table(columns)))
    manifest = {
        "source": str(photos),
        "settings": {"max_bytes": 10**7, "max_pixels": 10**7},
        "photos": {"found": 13, "failed": 1},
        "projection": {"components": 3},
    }
    place.write("manifest.json", json.dumps(manifest).encode())
    return tmp_path / "out"


def test_a_photo_among_other_fruit_shows_it(dest: Path) -> None:
    table = photo_table(read_rows(open_place(str(dest))), "http://127.0.0.1:1/photos/{}.jpg")
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == list(range(12))
    assert (rows[0]["path"], rows[0]["folder"], rows[0]["label"]) == ("apple/00.jpg", "apple", "apple")
    assert (rows[0]["x"], rows[0]["y"]) == (9, 8.5)
    assert rows[0]["neighbours"]["ids"][:2] == [8, 9]
    assert rows[0]["neighbours"]["distances"][:2] == pytest.approx([0.5, 0.5], rel=1e-4)
    assert rows[11]["photo"] == "http://127.0.0.1:1/photos/11.jpg"
    assert rows[0]["neighbours_alike"] < min(row["neighbours_alike"] for row in rows[1:])
    assert label_places(table) == [
        {"content": "apple", "x": -9.0, "y": 3.5, "level": 0, "priority": 6},
        {"content": "pear", "x": 9.0, "y": 8.5, "level": 0, "priority": 6},
    ]


def test_of_too_many_photos_every_third_is_shown(dest: Path) -> None:
    rows = read_rows(open_place(str(dest)), most=4)
    assert rows.paths == ["apple/00.jpg", "apple/03.jpg", "pear/06.jpg", "pear/09.jpg"]
    assert rows.components[:, 1].tolist() == [8.5, 3, 6, 9]
    assert rows.left_out == 8


def test_one_component_makes_a_line(dest: Path) -> None:
    rows = read_rows(open_place(str(dest)))
    table = photo_table(rows._replace(components=rows.components[:, :1]), None)
    assert set(table["y"].to_pylist()) == {0.0}
    assert "photo" not in table.column_names


def test_a_run_without_photos_is_refused(tmp_path: Path) -> None:
    manifest = {"photos": {"found": 0, "failed": 0}, "projection": {"components": 2}}
    open_place(str(tmp_path)).write("manifest.json", json.dumps(manifest).encode())
    with pytest.raises(SettingError, match="a run with photos to show"):
        read_rows(open_place(str(tmp_path)))


Get = Callable[..., httpx.Response]


@pytest.fixture
def get(dest: Path, photos: Path, tmp_path: Path) -> Get:
    """Asks the application, without a socket."""
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("the page")
    (tmp_path / "secret.txt").write_text("secret")
    table = photo_table(read_rows(open_place(str(dest))), "http://127.0.0.1/photos/{}.jpg")
    app = server.create_app(tmp_path / "page", table, open_place(str(photos)), Limits(10**7, 10**7))

    async def ask(path: str, headers: dict[str, str]) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8001") as client:
            return await client.get(path, headers=headers)

    return lambda path, **headers: asyncio.run(ask(path, headers))


def test_the_page_gets_its_data_and_small_photos(get: Get, photos: Path) -> None:
    assert get("/").text == "the page"
    props = get("/data/metadata.json").json()["props"]
    columns = pq.read_table(io.BytesIO(get("/data/dataset.parquet").content)).column_names
    assert {props["data"]["id"], *props["data"]["projection"].values(), props["data"]["neighbors"]} <= set(columns)
    assert get("/data/cache/labels").json() is None
    with Image.open(io.BytesIO(get("/photos/11.jpg").content)) as shown:
        assert shown.size == (160, 120)
    (photos / "pear" / "11.jpg").unlink()
    assert [get(f"/photos/{row}.jpg").status_code for row in (11, 12, -1)] == [404, 404, 404]


@pytest.mark.server
def test_nobody_else_is_asked_or_answered(get: Get) -> None:
    policy = get("/").headers["content-security-policy"]
    assert "http" not in policy
    assert policy.startswith("default-src 'none'")
    assert get("/data/dataset.parquet", host="evil.example").status_code == 400
    assert get("/photos/%2e%2e/secret.txt").status_code == 404
    assert get("/%2e%2e/secret.txt").status_code == 404


def package(folder: Path, version: str) -> Path:
    """A stand-in for the package: its metadata, and a page that says hello."""
    page = folder / "embedding_atlas" / "static"
    page.mkdir(parents=True)
    (page / "index.html").write_text("hello")
    (folder / "embedding_atlas" / "__init__.py").touch()  # a folder without it comes after the real package
    info = folder / f"embedding_atlas-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: embedding-atlas\nVersion: {version}\n")
    return folder


WANTED = server.ATLAS.partition("==")[2]


@contextmanager
def explored(dest: Path | str, *paths: Path) -> Iterator[tuple[str, list[str], subprocess.Popen[str]]]:
    """A server of the command's: its address, what it said before it, and its process."""
    command = [sys.executable, "-m", "verger", "explore", str(dest), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT)))}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr
        said: list[str] = []
        while "http" not in (line := process.stderr.readline()):
            assert line, said
            said.append(line)
        try:
            yield line.split(" is on ")[1].split()[0], said, process
        finally:
            process.kill()


@pytest.mark.server
def test_the_command_serves_until_ctrl_c(dest: Path, tmp_path: Path) -> None:
    with explored(dest, package(tmp_path / "site", WANTED)) as (address, said, process):
        assert httpx.get(address).text == "hello"
        assert httpx.get(f"{address}/photos/0.jpg").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr
        assert process.stderr.read() == "Stopped.\n"
    assert "No pictures" not in "".join(said)


@pytest.mark.server
def test_without_the_photos_there_are_no_pictures_and_it_says_so(dest: Path, photos: Path, tmp_path: Path) -> None:
    photos.rename(tmp_path / "moved")
    with explored(dest, package(tmp_path / "site", WANTED)) as (address, said, _):
        assert "image" not in httpx.get(f"{address}/data/metadata.json").json()["props"]["data"]
    assert f"No pictures: the photos are not in {photos} any more." in "".join(said)


def test_without_the_page_the_command_says_how_to_get_it(
    dest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(package(tmp_path / "site", "0.1.0")))
    with pytest.raises(SystemExit) as exited:
        main(["explore", str(dest)])
    said = capsys.readouterr().err
    assert exited.value.code == 2
    assert "Received: version 0.1.0." in said
    assert f"pip install --no-deps embedding-atlas=={WANTED}" in said


@pytest.mark.server
def test_a_run_in_a_bucket_is_explored(
    dest: Path, photos: Path, tmp_path: Path, ministack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers.use_s3(monkeypatch, ministack)
    bucket = open_place(f"s3://results/{tmp_path.name}")
    for file in (path for path in dest.rglob("*") if path.is_file()):
        bucket.write(str(file.relative_to(dest)), file.read_bytes())
    with explored(bucket.uri, package(tmp_path / "site", WANTED)) as (address, _, _process):
        content = httpx.get(f"{address}/data/dataset.parquet").content
        assert httpx.get(f"{address}/photos/0.jpg").status_code == 200
    assert len(pq.read_table(io.BytesIO(content))) == 12


@pytest.fixture
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install 'verger[dev]'")
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("needs Chromium: sudo apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.mark.server
def test_the_real_page_shows_map_and_photos_and_asks_nobody_else(dest: Path, browser: Any) -> None:
    try:
        server.atlas_page()
    except MissingError as missing:
        pytest.skip(f"needs the page: pip install --no-deps {server.ATLAS} ({missing.received})")

    def shows(script: str) -> bool:
        deadline = time.monotonic() + 120
        while not (shown := browser.execute_script(f"return {script}")) and time.monotonic() < deadline:
            time.sleep(0.2)
        return bool(shown)

    site = server.atlas_page().parents[1]
    with explored(dest, site) as (address, _, _process):
        browser.get(address)
        assert shows("document.body.innerText.includes('12 / 12 points')")
        assert shows("[...document.images].filter(it => it.src.includes('/photos/') && it.naturalWidth).length == 12")
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    assert {url.partition("/photos/")[0] for url in asked if url.endswith(".jpg")} == {address}
    assert all(url.startswith((f"{address}/", "data:", "blob:")) for url in asked), asked
    assert not [entry for entry in browser.get_log("browser") if "Content Security Policy" in entry["message"]]
