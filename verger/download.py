"""A large file from the web, straight to disk, that goes on where it was cut off."""

import email.utils
import errno
import http.client
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from verger import __version__
from verger.errors import RunFailedError

TRIES = 5  # that bring nothing new, one after the other
SILENCE_SECONDS = 30.0  # without a byte for so long, a connection is given up; slow ones are not
FIRST_WAIT_SECONDS = 1.0  # doubled with every try that brings nothing
LONGEST_WAIT_SECONDS = 120.0  # a server that asks for more is asked another day
CHUNK_BYTES = 1 << 18
BUSY = {408, 425, 429, 500, 502, 503, 504}  # what may pass
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416
_ELSEWHERE = "Check the network and the address; or take the archive from elsewhere, with --from."
_ADVICE = "Run the same command again: it goes on with what it has."


class Received(NamedTuple):
    """How far a download is, in bytes; `total` is None where the server does not say."""

    bytes: int
    total: int | None


class _Cut(Exception):  # noqa: N818  (not an error yet: it is tried again)
    """A try ended early; `wait_seconds` is what the server asked for."""

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


def download(url: str, target: Path) -> Iterator[Received]:
    """Fetch `url` into `target`; says how far it is after each chunk. What `target` holds already is not fetched again.

    A server that cannot send from the middle sends everything again. Where it names a version of the file (ETag), that
    is kept beside `target`, and parts of two versions are never joined.

    Raises:
        RunFailedError: the server refuses, or tries bring nothing new; what came stays, and the next call goes on.
    """
    best, failures = _size(target), 0
    while True:
        try:
            yield from _attempt(url, target)
        except _Cut as cut:
            size = _size(target)
            best, failures = max(best, size), 0 if size > best else failures + 1
            wait = FIRST_WAIT_SECONDS * 2**failures if cut.wait_seconds is None else cut.wait_seconds
            if failures >= TRIES or wait > LONGEST_WAIT_SECONDS:
                raise RunFailedError(f"{_shown(url)} in full", f"{size:,} bytes, then {cut}", _ADVICE) from cut
            time.sleep(wait)
        else:
            _tag_file(target).unlink(missing_ok=True)
            return


def _attempt(url: str, target: Path) -> Iterator[Received]:
    """One request. Returns when the file is whole."""
    start = _size(target)
    request = urllib.request.Request(url, headers={"User-Agent": f"verger/{__version__}"})  # noqa: S310
    if start:
        request.add_header("Range", f"bytes={start}-")
        if tag := _read_tag(target):
            request.add_header("If-Range", tag)
    try:
        with closing(urllib.request.urlopen(request, timeout=SILENCE_SECONDS)) as response:  # noqa: S310
            yield from _save(response, target, start)
    except urllib.error.HTTPError as error:
        with error:
            yield from _refused(error, url, target, start)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # the disk's fault: asking again would not help
        if isinstance(error, urllib.error.URLError) and isinstance(error.reason, socket.gaierror):
            raise RunFailedError(f"a way to {_shown(url)}", f"{error.reason.strerror}", _ELSEWHERE) from error
        raise _Cut(f"{type(error).__name__}: {error}") from error


def _refused(error: urllib.error.HTTPError, url: str, target: Path, start: int) -> Iterator[Received]:
    """What a refusal means: all is here already, or another try is worth it, or not."""
    said = f"HTTP {error.code} {error.reason}"
    if error.code == RANGE_NOT_SATISFIABLE:
        total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if total is None or int(total[1]) != start:
            target.unlink()
            raise _Cut(f"{said}: it has another length now") from error
        yield Received(start, start)  # the last call ended after the last byte
    elif error.code in BUSY:
        raise _Cut(said, _asked_wait_seconds(error.headers.get("Retry-After"))) from error
    else:
        raise RunFailedError(f"a file at {_shown(url)}", said, _ELSEWHERE) from error


def _save(response: http.client.HTTPResponse, target: Path, start: int) -> Iterator[Received]:
    """Write what comes, after `start` bytes where the server goes on there."""
    if response.status == PARTIAL_CONTENT:
        place = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if place is None or int(place[1]) != start:
            raise _Cut(f"bytes from elsewhere than {start}")
        total = int(place[2]) if place[2] != "*" else None
    else:
        start = 0
        length = response.headers.get("Content-Length")
        total = int(length) if length and length.isdecimal() else None
        tag = response.headers.get("ETag", "")
        _tag_file(target).write_text("" if tag.startswith("W/") else tag)  # a weak one says nothing of bytes
    with target.open("r+b" if start else "wb") as file:
        file.seek(start)
        yield Received(start, total)
        while chunk := response.read1(CHUNK_BYTES):  # read() would lose what came before a cut
            file.write(chunk)
            yield Received(file.tell(), total)
        if total is not None and file.tell() != total:
            raise _Cut(f"the connection ended at {file.tell():,} of {total:,} bytes")


def _shown(url: str) -> str:
    """An address as messages show it: what follows the question mark may be a signature."""
    return url.partition("?")[0]


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _tag_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.etag")


def _read_tag(target: Path) -> str:
    file = _tag_file(target)
    return file.read_text() if file.exists() else ""


def _asked_wait_seconds(retry_after: str | None) -> float | None:
    """Seconds that a server asks for, as a number or as a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
