"""The cache, and downloads from a real server on this machine."""

import base64
import hashlib
import http.server
import threading
from pathlib import Path

import pytest

from verger.cache import cache_folder, fetch, find_entry, keep_entry
from verger.errors import MissingError

CONTENT = bytes(range(256)) * 40
MD5 = base64.b64encode(hashlib.md5(CONTENT).digest()).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    """Google Cloud Storage's manners: /good, /wrong-md5, /short (promises more than it sends); else 404."""

    def do_GET(self):
        if self.path not in ("/good", "/wrong-md5", "/short"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.send_header("x-goog-hash", "crc32c=n03x6A==")
        self.send_header("x-goog-hash", "md5=" + ("AAAAAAAAAAAAAAAAAAAAAA==" if self.path == "/wrong-md5" else MD5))
        self.end_headers()
        self.wfile.write(CONTENT[:100] if self.path == "/short" else CONTENT)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_the_right_file_is_fetched(server):
    assert fetch(f"{server}/good", len(CONTENT)) == CONTENT


@pytest.mark.parametrize(
    ("path", "length", "received"),
    [
        ("/good", 10241, "10240 bytes"),
        ("/good", 10239, "more than 10239 bytes"),
        ("/short", 10240, "100 bytes"),
        ("/wrong-md5", 10240, f"md5={MD5}"),
        ("/nothing", 10240, "HTTP Error 404"),
    ],
)
def test_another_file_is_refused_with_what_came_and_what_to_do(server, path, length, received):
    with pytest.raises(MissingError) as caught:
        fetch(server + path, length)
    assert f"{length} bytes from {server}{path}" in caught.value.expected
    assert received in caught.value.received
    assert caught.value.advice == "Download it on another machine and give --weights FILE."


def test_a_refused_connection_says_so(server):
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_port
    with pytest.raises(MissingError, match="refused") as caught:
        fetch(f"http://127.0.0.1:{port}/good", 10240)
    assert "--weights FILE" in caught.value.advice


def test_what_is_kept_is_found(tmp_path):
    keep_entry(tmp_path / "new" / "folder", "a.h5", CONTENT)
    assert find_entry(tmp_path / "new" / "folder", "a.h5") == CONTENT
    assert [path.suffix for path in (tmp_path / "new" / "folder").iterdir()] == [".h5"]


def test_a_damaged_entry_is_not_found(tmp_path):
    keep_entry(tmp_path, "a.h5", CONTENT)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(CONTENT[:-1])
    assert find_entry(tmp_path, "a.h5") is None


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    keep_entry(tmp_path / "file", "a.h5", CONTENT)
    assert find_entry(tmp_path / "file", "a.h5") is None


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"VERGER_CACHE": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/c"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/verger"),
        ({"HOME": "/h"}, "/h/.cache/verger"),
    ],
)
def test_the_environment_says_where_the_cache_is(monkeypatch, environment, folder):
    for name in ("VERGER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)
