"""What was downloaded or built once, kept by digest in a folder of this machine.

An entry's name ends with the sha-256 of its content, so a damaged entry is recognised and made again, never trusted.
Nothing depends on the folder: where it cannot be written, things are made afresh each time.
"""

import base64
import contextlib
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from verger.errors import MissingError

_TIMEOUT_SECONDS = 30.0  # without an answer for so long, the download is given up
_ADVICE = "Download it on another machine and give --weights FILE."


def cache_folder() -> Path:
    """`$VERGER_CACHE`, else `verger` in the user's cache folder. It may not exist yet."""
    if chosen := os.environ.get("VERGER_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "verger"
    except RuntimeError:  # a container's user without a home
        return Path(tempfile.gettempdir()) / "verger"


def find_entry(folder: Path, name: str) -> bytes | None:
    """The content of entry `name` (as in "mobilenet_v2.h5"), or None where there is none that is whole."""
    stem, suffix = Path(name).stem, Path(name).suffix
    with contextlib.suppress(OSError):  # no folder, or none that may be read: the same as an empty one
        for path in sorted(folder.glob(f"{stem}-*{suffix}")):
            content = path.read_bytes()
            if path.stem == f"{stem}-{hashlib.sha256(content).hexdigest()}":
                return content
    return None


def keep_entry(folder: Path, name: str, content: bytes) -> None:
    """Write an entry, whole or not at all. Does nothing where the folder cannot be written."""
    target = folder / f"{Path(name).stem}-{hashlib.sha256(content).hexdigest()}{Path(name).suffix}"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.replace(temporary, target)  # noqa: PTH105 - a str, on which Path would only be a detour
        finally:
            Path(temporary).unlink(missing_ok=True)


def fetch(url: str, length: int) -> bytes:
    """A file from the web, held in memory so that no partial file can be left behind.

    Args:
        url: its address.
        length: its exact size in bytes.

    Raises:
        MissingError: it cannot be reached, or is not the file that was expected.
    """
    expected = f"{length} bytes from {url}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - the address is ours
            content: bytes = response.read(length + 1)  # one byte more tells a longer file from the right one
            sums = response.headers.get_all("x-goog-hash", [])
    except (OSError, http.client.HTTPException) as error:  # urllib's own errors are OSErrors
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is also the server's answer, with an open connection
        raise MissingError(expected, f"{type(error).__name__}: {error}", _ADVICE) from error
    if len(content) != length:
        received = f"more than {length} bytes" if len(content) > length else f"{len(content)} bytes"
        raise MissingError(expected, received, _ADVICE)
    _check_md5(content, sums, expected)
    return content


def _check_md5(content: bytes, sums: list[str], expected: str) -> None:
    """Compare with the md5 that Google Cloud Storage sends along: "crc32c=n03x6A==,md5=Ojk9c3dhfxgoKVVHYwFbHQ==".

    It guards against damage on the way, not against a forger. The sha-256 of the official file was not at hand when
    this was written; once known, it should be checked here instead.
    """
    received = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    for each in (each.strip() for line in sums for each in line.split(",")):
        if each.startswith("md5=") and each != f"md5={received}":
            raise MissingError(f"{expected}, with {each}", f"md5={received}", _ADVICE)
