"""The page's server over real HTTP on 127.0.0.1: what it answers, what it refuses, and what it survives."""

import base64
import contextlib
import io
import os
import re
import resource
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from mutations import mutations, whole_files
from orchard_server import jpeg, plain, running_server
from orchard_worker import DEADLY, ENDLESS
from PIL import Image

from verger.sample import render
from verger.web.answers import AnswerModel, FailureModel
from verger.web.pool import GIVE_BACK
from verger.web.rate import BURST
from verger.web.refusal import TOLD
from verger.web.server import MOST_CONNECTIONS

pytestmark = pytest.mark.server
MAX_BYTES = 200_000
MUTATED = {200, 400, 415, 422}  # what a damaged photo is answered with
POST = b"POST /recognise HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "log"


@pytest.fixture(scope="module")
def server(orchard: Path, log: Path) -> Iterator[httpx.Client]:
    """One server for most tests. It refuses early, and gives up soon."""
    limits = {"max_bytes": MAX_BYTES, "held_bytes": 3 * MAX_BYTES // 2, "max_pixels": 1_000_000, "photos_per_minute": 0}
    patience = {"silence_seconds": 1, "body_seconds": 1, "answer_seconds": 4, "waiting": 2}
    with (
        running_server(orchard, log, **limits, **patience) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        yield client


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a failure, which has the one shape."""
    told = response.json()
    assert set(told) == {"error", "message"}
    FailureModel.model_validate(told)
    return response.status_code, told["error"]


def until(condition: Callable[[], bool]) -> None:
    """Fails unless a condition holds sooner or later."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def raw(client: httpx.Client, request: bytes) -> bytes:
    """What comes back over a plain connection until the server closes it."""
    address = urlsplit(str(client.base_url))
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_photo_gets_an_answer_with_its_card_and_photos_that_look_like_it(server: httpx.Client, pear: bytes) -> None:
    response = server.post("/recognise", content=pear)
    answer = response.json()
    assert response.status_code == 200
    AnswerModel.model_validate(answer)
    assert (answer["label"], answer["sure"], answer["known"], answer["error"]) == ("pear", True, True, None)
    assert (answer["french"], answer["english"]) == ("Poire", "Pear")
    assert answer["guesses"][0] == {
        "label": "pear", "parents": ["pome"], "probability": answer["probability"], "french": "Poire", "english": "Pear"
    }  # fmt: skip
    assert answer["fruit"]["species"] == "Pyrus communis"
    sizes = [Image.open(io.BytesIO(base64.b64decode(photo.partition(",")[2]))).size for photo in answer["lookalikes"]]
    assert sizes == [(224, 224)] * 2


def test_a_form_gets_the_same_answer(server: httpx.Client, pear: bytes) -> None:
    form = server.post("/recognise", files={"photo": ("../../etc/passwd", pear, "text/plain")}, data={"language": "fr"})
    assert form.json() == server.post("/recognise", content=pear).json()


def test_what_is_unlike_any_fruit_is_unknown_and_has_no_card(server: httpx.Client, noise: bytes) -> None:
    answer = server.post("/recognise", content=noise).json()
    assert (answer["known"], answer["label"], answer["fruit"], answer["lookalikes"]) == (False, None, None, [])


def bomb() -> bytes:
    """A PNG of 57 bytes that claims 3.6 billion pixels."""
    chunks = [(b"IHDR", b"\0\0\xea\x60" * 2 + b"\x08\x02\0\0\0"), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    packed = [len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4) for kind, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", (400, "empty")),
        (b"apple", (415, "not_an_image")),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", (415, "not_an_image")),
        (plain((1, 2, 3))[:60], (422, "truncated")),
        (bomb(), (422, "too_many_pixels")),
        (plain((1, 2, 3), side=1001), (422, "too_many_pixels")),
        (b"\0" * (MAX_BYTES + 1), (413, "too_large")),
        (b"\0" * (4 * MAX_BYTES), (413, "too_large")),
        (zlib.compress(b"\0" * 1_000_000), (415, "not_an_image")),
    ],
    ids=["empty", "text", "drawing", "truncated", "bomb", "pixels", "large", "very large", "compressed"],
)
def test_what_is_no_photo_is_refused_with_its_cause(
    server: httpx.Client, content: bytes, expected: tuple[int, str]
) -> None:
    assert refusal(server.post("/recognise", content=content, headers={"content-encoding": "gzip"})) == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/nowhere", (404, "not_found")),
        ("GET", "/../../etc/passwd", (404, "not_found")),
        ("GET", "/%2e%2e%2fpages.py", (404, "not_found")),
        ("GET", "/recognise", (405, "method_not_allowed")),
        ("DELETE", "/", (405, "method_not_allowed")),
        ("POST", "/healthz", (405, "method_not_allowed")),
    ],
)
def test_other_addresses_and_methods_are_refused_in_the_same_shape(
    server: httpx.Client, method: str, path: str, expected: tuple[int, str]
) -> None:
    assert refusal(server.request(method, path)) == expected


def test_a_body_without_end_is_refused_and_then_hung_up_on(server: httpx.Client) -> None:
    address, said = urlsplit(str(server.base_url)), b""
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for sent in range(500):  # 20 MB, and 20 s, at the most
                connection.sendall(20 * (b"7d0\r\n" + bytes(2000) + b"\r\n"))
                if said:
                    time.sleep(0.04)
                elif sent * 40_000 > 3 * MAX_BYTES:
                    said = connection.recv(1000)
            pytest.fail("it listens for ever")
    assert b"413 " in said


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (POST + b"Content-Length: 5000\r\n\r\nshort", b"too_slow"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", b"too_slow"),
        (POST + b"Content-Length: 5000000\r\nExpect: 100-continue\r\n\r\n", b"too_large"),
        (POST + b"Content-Length: 3\r\n\r\nappleapple", b"not_an_image"),
        (POST + b"Content-Length: -1\r\n\r\n", b"bad_request"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"bad_request"),
        (b"HELLO\r\n\r\n", b"bad_request"),
        (b"POST /recognise HTTP/1.1\r\nX: " + b"x" * 100_000, b"bad_request"),
        (POST, b""),
        (b"", b""),
    ],
    ids=["lie", "chunk", "expect", "short lie", "negative", "no chunk", "no HTTP", "headers", "half a head", "silence"],
)  # fmt: skip
def test_slow_and_lying_clients_are_told_so_or_hung_up_on(server: httpx.Client, request_: bytes, code: bytes) -> None:
    said = raw(server, request_)
    assert f'"error":"{code.decode()}"'.encode() in said.replace(b'": "', b'":"') if code else said == b""
    assert server.get("/healthz").json()["status"] == "ok"


def test_all_uploads_together_take_no_more_memory_than_was_allowed(server: httpx.Client, pear: bytes) -> None:
    address = urlsplit(str(server.base_url))

    def second() -> tuple[int, str]:
        return refusal(server.post("/recognise", content=bytes(190_000)))

    def while_another_is_held() -> tuple[int, str]:
        with socket.create_connection((address.hostname, address.port)) as first:
            first.sendall(POST + b"Content-Length: 199999\r\n\r\n" + bytes(190_000))
            time.sleep(0.1)
            return second()

    until(lambda: while_another_is_held() == (503, "busy"))
    until(lambda: second() == (415, "not_an_image"))


def test_a_client_that_leaves_takes_nothing_with_it(server: httpx.Client, pear: bytes) -> None:
    address = urlsplit(str(server.base_url))
    for _ in range(20):
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(POST + b"Content-Length: 90000\r\n\r\n" + pear[:5000])
    assert server.post("/recognise", content=pear).status_code == 200


def test_a_photo_that_kills_decoders_costs_nobody_else_an_answer(server: httpx.Client, pear: bytes) -> None:
    assert refusal(server.post("/recognise", content=plain(DEADLY))) == (422, "unreadable")
    assert server.post("/recognise", content=pear).json()["label"] == "pear"


def test_a_photo_without_end_is_given_up_and_overload_is_told_at_once(server: httpx.Client, pear: bytes) -> None:
    with ThreadPoolExecutor(6) as clients:
        endless = clients.submit(server.post, "/recognise", content=plain(ENDLESS))
        time.sleep(1)  # a worker has it
        others = [clients.submit(server.post, "/recognise", content=pear) for _ in range(5)]
        answers = [other.result() for other in others]
    assert refusal(endless.result()) == (503, "busy")
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503]  # two may wait
    assert all(answer.headers["retry-after"] == "2" for answer in answers if answer.status_code == 503)


def test_every_request_ends_and_so_many_connections_are_open_at_most(orchard: Path, tmp_path: Path) -> None:
    with running_server(orchard, tmp_path / "log", request_seconds=1) as address, contextlib.ExitStack() as silent:
        assert refusal(httpx.post(f"{address}/recognise", content=plain(ENDLESS), timeout=60)) == (408, "too_slow")
        there = urlsplit(address)
        for _ in range(MOST_CONNECTIONS):
            silent.enter_context(socket.create_connection((there.hostname, there.port)))
        assert refusal(httpx.get(f"{address}/healthz")) == (503, "busy")
        silent.close()
        until(lambda: httpx.get(address).status_code == 200)


def test_mutated_photos_get_an_answer_or_a_cause_and_nothing_of_them_stays(
    orchard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What keeps every photo takes twice what is allowed here. benchmarks/mutated.py goes on for longer."""
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.setenv(name, "16384")  # what is let go of goes back to the system at once, and what is kept shows
    photos, others = list(mutations(whole_files(render("apple", 3)), 200)), children(os.getpid())
    with running_server(orchard, tmp_path / "log", photos_per_minute=0) as address, httpx.Client() as client:
        [server] = children(os.getpid()) - others
        [worker] = children(server)
        held = []
        for half in (photos[:100], photos[100:]):
            assert {client.post(f"{address}/recognise", content=photo).status_code for photo in half} <= MUTATED
            held.append([resident_bytes(pid) for pid in (server, worker)])
        assert children(server) == {worker}, "it was replaced"
    leak = sum(map(len, photos[100:])) // 2
    assert leak > 2_000_000
    assert max(after - before for before, after in zip(*held, strict=True)) < leak


def test_workers_are_told_to_give_back_what_a_photo_took(orchard: Path, tmp_path: Path) -> None:
    """benchmarks/mutated.py shows what comes of it, in minutes."""
    others = children(os.getpid())
    with running_server(orchard, tmp_path / "log"):
        [server] = children(os.getpid()) - others
        [worker] = children(server)
        told = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    assert {f"{name}={value}".encode() for name, value in GIVE_BACK.items()} <= set(told)


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def test_no_photo_reaches_a_disk_or_the_log(orchard: Path, tmp_path: Path, pear: bytes) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    log = tmp_path / "log"
    large = jpeg(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8))
    assert len(large) > 2_000_000  # libraries that put uploads on disk do so above one
    samples = b"\x15\x01\x03\x00\x01\x00\x00\x00"  # the TIFF tag of samples a pixel, about which Pillow talks a lot
    tiff = next(file for file in whole_files(render("apple", 3, side=64)) if samples in file)
    tiff = tiff.replace(samples + b"\x03", samples + b"\xff")
    with running_server(orchard, log, folder=folder) as address:
        before = sorted(folder.rglob("*"))  # libraries leave some when they start
        for _ in range(3):
            assert httpx.post(f"{address}/recognise", files={"photo": ("pear.jpg", large)}).status_code == 200
            assert httpx.post(f"{address}/recognise", content=b"secret").status_code == 415
            assert httpx.post(f"{address}/recognise", content=tiff).status_code == 422
        assert sorted(folder.rglob("*")) == before
    assert log.read_bytes() == b""


def test_each_client_has_its_own_rate_and_only_a_proxy_is_believed(orchard: Path, tmp_path: Path) -> None:
    def codes(address: str, clients: list[str]) -> list[int]:
        with httpx.Client(base_url=address) as connection:
            sent = [
                connection.post("/recognise", content=b"apple", headers={"x-forwarded-for": client})
                for client in clients
            ]
        return [response.status_code for response in sent]

    many = [f"203.0.113.{i}" for i in range(BURST + 2)]
    with running_server(orchard, tmp_path / "log", photos_per_minute=1) as address:
        assert codes(address, many) == [415] * BURST + [429] * 2
        late = httpx.post(f"{address}/recognise", content=b"apple")
        assert 1 <= int(late.headers["retry-after"]) <= 61
        assert httpx.get(f"{address}/healthz").status_code == 200
    with running_server(orchard, tmp_path / "log", photos_per_minute=1, proxy="127.0.0.1") as address:
        assert codes(address, many) == [415] * len(many)
        assert codes(address, ["203.0.113.99"] * (BURST + 1)) == [415] * BURST + [429]
    with running_server(orchard, tmp_path / "log", photos_per_minute=1, proxy="192.0.2.1") as address:
        assert codes(address, many) == [415] * BURST + [429] * 2


def test_every_response_says_what_browsers_may_do_with_it(server: httpx.Client) -> None:
    for path in ("/", "/docs", "/icon.svg", "/manifest.webmanifest", "/service-worker.js", "/healthz", "/nowhere"):
        headers = server.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'"), path
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers


@pytest.mark.parametrize("path", ["/", "/docs", "/manifest.webmanifest", "/service-worker.js", "/icon.svg"])
def test_nothing_is_loaded_from_elsewhere(server: httpx.Client, path: str) -> None:
    text = server.get(path).text.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]", text) == []


def test_the_page_weighs_little_and_is_not_sent_twice(server: httpx.Client) -> None:
    page = server.get("/")
    paths = re.findall(r'(?:href|src)="([^"#]+)"', page.text)
    assert {"icon.svg", "icon-180.png", "manifest.webmanifest"} <= set(paths)
    assert len(page.content) + sum(len(server.get(f"/{path}").content) for path in paths) < 150_000
    again = server.get("/", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert server.head("/").headers["content-length"] == str(len(page.content))


def test_the_manifest_names_icons_that_are_there(server: httpx.Client) -> None:
    for icon in server.get("/manifest.webmanifest").json()["icons"]:
        response = server.get(f"/{icon['src']}")
        assert response.headers["content-type"] == icon["type"]
        if icon["type"] == "image/png":
            assert "{}x{}".format(*Image.open(io.BytesIO(response.content)).size) == icon["sizes"]


def test_the_api_page_names_every_code_and_every_field(server: httpx.Client) -> None:
    page, schema = server.get("/docs").text, server.get("/openapi.json").json()
    assert all(code in page for code in TOLD if code not in {"not_found", "method_not_allowed"})
    assert all(field in page for field in AnswerModel.model_fields)
    assert set(schema["paths"]) == {"/recognise", "/healthz"}
    assert set(schema["paths"]["/recognise"]["post"]["requestBody"]["content"]) == {"image/*", "multipart/form-data"}


def test_health_counts_workers(server: httpx.Client) -> None:
    assert server.get("/healthz").json() == {"status": "ok", "verger": "0.1.0", "workers": 1, "waiting": 0}


def test_what_a_worker_cannot_use_ends_the_server_with_its_own_words(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="a file of class means"),
        running_server(tmp_path / "none", tmp_path / "log"),
    ):
        pass
