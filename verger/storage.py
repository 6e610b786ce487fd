"""A place to list, read and write whole files: a folder on local disk, or a prefix in an object store.

`open_place` turns a URI into a `Place`; those in object stores are in `verger/bucket.py`. A file written through a
`Place` appears whole or not at all. Places are small values that travel to Spark workers; every process opens its own
connection, with its own role, so that no credential travels.
"""

import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from verger.errors import SettingError

SCHEMES = {"s3": "s3", "s3a": "s3", "s3n": "s3", "abfs": "abfs", "abfss": "abfss", "gs": "gs", "hdfs": "hdfs"}
# Names of unfinished files start and end so; a run removes those that a killed one left.
TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".verger-", ".tmp"


class StoredFile(NamedTuple):
    """A file as a listing shows it."""

    path: str  # relative to the place, with "/"
    bytes: int
    modified_us: int  # microseconds since 1970, UTC


class Place(Protocol):
    """A folder or a bucket's prefix. Paths are relative to it, with `/`."""

    @property
    def uri(self) -> str:
        """The place in full, for people and for the manifest."""

    def exists(self) -> bool:
        """True if the place itself is there."""

    def check_writable(self) -> None:
        """Raise an OSError if nothing can be written here. Leaves nothing behind."""

    def files(self, folder: str = "") -> Iterator[StoredFile]:
        """Every file below `folder`, at any depth, in no particular order; nothing where it does not exist."""

    def read(self, path: str) -> bytes:
        """A whole file. Raises FileNotFoundError or another OSError."""

    def open(self, path: str) -> pa.NativeFile:
        """A file for random access, so that a reader fetches no more than it needs."""

    def write(self, path: str, content: bytes | pa.Buffer) -> None:
        """Write a whole file, or leave what was there before."""

    def delete(self, path: str) -> None:
        """Remove a file; nothing happens where there is none."""


@dataclass(frozen=True)
class Folder:
    """A folder on local disk. `root` is absolute."""

    root: str

    @property
    def uri(self) -> str:
        return self.root

    def exists(self) -> bool:
        return Path(self.root).is_dir()

    def check_writable(self) -> None:
        # Where the folder does not exist yet, the nearest one above it must let it be made.
        there = next(folder for folder in (Path(self.root), *Path(self.root).parents) if os.path.lexists(folder))
        with tempfile.TemporaryFile(dir=there, prefix=TEMPORARY_PREFIX, suffix=TEMPORARY_SUFFIX):
            pass

    def files(self, folder: str = "") -> Iterator[StoredFile]:
        top = Path(self.root, folder)
        if top.is_dir():
            yield from self._walk(str(top), f"{folder}/" if folder else "", ())

    def _walk(self, folder: str, prefix: str, ancestors: tuple[tuple[int, int], ...]) -> Iterator[StoredFile]:
        status = os.stat(folder)  # noqa: PTH116  (os.scandir's own currency; Path costs twice the time here)
        identity = (status.st_dev, status.st_ino)
        if identity in ancestors:  # a link to a folder above itself would be walked for ever
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from self._walk(entry.path, f"{prefix}{entry.name}/", (*ancestors, identity))
                elif entry.is_file():  # neither sockets nor links to nowhere
                    status = entry.stat()
                    yield StoredFile(prefix + entry.name, status.st_size, status.st_mtime_ns // 1000)

    def read(self, path: str) -> bytes:
        with open(f"{self.root}/{path}", "rb") as file:  # noqa: PTH123  (once a photo: Path doubles the cost of small files)
            return file.read()

    def open(self, path: str) -> pa.NativeFile:
        return pa.OSFile(f"{self.root}/{path}", "rb")

    def write(self, path: str, content: bytes | pa.Buffer) -> None:
        target = Path(self.root, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{TEMPORARY_PREFIX}{target.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # otherwise a power cut may leave the new name on an empty file
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, path: str) -> None:
        Path(self.root, path).unlink(missing_ok=True)


def open_place(uri: str) -> Place:
    """The place that a path or URI names: `/path`, `file:`, `s3:` (`s3a:`), `abfs:` (`abfss:`), `gs:` or `hdfs:`.

    Raises:
        SettingError: the scheme is unknown, or there is no bucket in the URI.
    """
    scheme, _, rest = uri.partition(":")
    if scheme == "file":
        return Folder(os.path.abspath(unquote(urlsplit(uri.split("#", 1)[0]).path)))
    if not rest.startswith("//"):
        return Folder(os.path.abspath(uri))
    authority, _, key = rest[2:].partition("/")
    if scheme not in SCHEMES or not authority:
        raise SettingError(
            f"a path, file: or one of {', '.join(f'{s}:' for s in SCHEMES)} followed by //BUCKET/KEY",
            repr(uri),
            "Write for instance s3://my-bucket/photos.",
        )
    if ":" in authority.rpartition("@")[0] or ("@" in authority and scheme not in {"abfs", "abfss"}):
        raise SettingError(
            "a URI without credentials: it is shown, and written to the manifest",
            f"a {scheme}: URI with some (not repeated here)",
            "Give them through the environment or a role, as the store's own tools take them.",
        )
    from verger.bucket import Bucket  # most runs need none

    return Bucket(SCHEMES[scheme], authority, key.strip("/"))


def path_within(outer: Place, inner: Place) -> str | None:
    """Where `inner` lies in `outer`: "" if it is the same place, None if it lies elsewhere."""
    a, b = outer.uri, inner.uri
    if isinstance(outer, Folder) and isinstance(inner, Folder):
        a, b = os.path.realpath(a), os.path.realpath(b)
    a, b = f"{a.rstrip('/')}/", f"{b.rstrip('/')}/"
    return b[len(a) :].rstrip("/") if b.startswith(a) else None
