"""An archive of Fruits-360's layout, and a server that misbehaves as real ones do, one mood a request."""

import http.server
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from conftest import write_photo

from verger.fetch import FRUITS_360

TOP = f"fruits-360-100x100-{FRUITS_360.commit}"
SMALL = replace(FRUITS_360, photos={"Training": 6, "Test": 2}, needed_bytes=1_000_000)


def write_archive(file: Path, *, extra: Sequence[zipfile.ZipInfo] = (), comment: str = FRUITS_360.commit) -> Path:
    """Eight photos of two classes in two parts, with what else the repository holds."""
    photo = file.with_suffix(".jpg")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = comment.encode()
        for info in extra:  # first, so that another archive differs from its beginning
            archive.writestr(info, b"data")
        archive.mkdir(TOP)
        archive.writestr(f"{TOP}/LICENSE", "CC BY-SA 4.0")
        archive.writestr(f"{TOP}/README.md", "# Fruits-360")
        archive.writestr(f"{TOP}/papers/paper.pdf", b"%PDF")
        for i, (part, kind) in enumerate((part, kind) for part in SMALL.photos for kind in ("Apple 10", "Pear 1")):
            for j in range(SMALL.photos[part] // 2):
                write_photo(photo, 10 * i + j, (100, 100))
                archive.write(photo, f"{TOP}/{part}/{kind}/r0_{j}_100.jpg")
    photo.unlink()
    return file


@dataclass
class Served:
    """A server's content, its mood for each request to come (the last one stays), and what was asked of it."""

    content: bytes
    moods: list[str] = field(default_factory=lambda: ["well"])
    asked: list[str] = field(default_factory=list)
    tag: str = '"v1"'
    address: str = ""
    asked_again: threading.Event = field(default_factory=threading.Event)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers in the server's mood."""

    protocol_version = "HTTP/1.1"
    served: Served

    def do_GET(self) -> None:
        moods = self.served.moods
        mood = moods.pop(0) if len(moods) > 1 else moods[0]
        asked = self.headers.get("Range", "")
        self.served.asked.append(asked)
        if len(self.served.asked) > 1:
            self.served.asked_again.set()
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if "no ranges" in mood or self.headers.get("If-Range", self.served.tag) != self.served.tag:
            start = 0
        whole = len(self.served.content)
        if mood.isdecimal():
            self.begin(int(mood), {"Retry-After": "0", "Content-Length": "0"})
        elif start >= whole:
            self.begin(416, {"Content-Range": f"bytes */{whole}", "Content-Length": "0"})
        else:
            self.send(self.served.content[start:], start, mood)

    def begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, body: bytes, start: int, mood: str) -> None:
        headers = {"ETag": self.served.tag}
        if start:
            whole = start + len(body)
            headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        length = {"Transfer-Encoding": "chunked"} if "chunked" in mood else {"Content-Length": str(len(body))}
        self.begin(206 if start else 200, headers | length)
        sent = body[: len(body) // 2] if "cut" in mood else body
        if "chunked" in mood:
            sent = b"%x\r\n%s\r\n" % (len(sent), sent) + (b"" if "cut" in mood else b"0\r\n\r\n")
        half = len(sent) // 2
        self.wfile.write(sent[:half])
        if "silent" in mood:
            self.served.asked_again.wait(60)
        else:
            self.wfile.write(sent[half:])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(content: bytes, *moods: str) -> Iterator[Served]:
    served = Served(content, list(moods) or ["well"])
    handler = type("Handler", (Handler,), {"served": served})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served.address = f"http://127.0.0.1:{server.server_address[1]}/fruits.zip"
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
