"""A prefix in an object store as a `Place`: listed in parallel, read and written whole.

`verger/stores.py` connects to the stores and knows their habits; docs/storage.md says what each one needs.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType

from verger import stores
from verger.storage import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, StoredFile

Result = TypeVar("Result")

LISTINGS = 8  # folders listed at a time, and so the number whose files are held in memory
ENOUGH_FOLDERS = 64  # to keep them busy; with fewer, the listing looks for some one level further down
DEEPEST = 3  # levels


@dataclass(frozen=True)
class Bucket:
    """A prefix in an object store (S3, Azure, Google Cloud) or in HDFS, through `pyarrow.fs`."""

    scheme: str
    authority: str  # bucket, container@account or host:port
    key: str  # no slash at either end

    @property
    def uri(self) -> str:
        """The place in full."""
        return f"{self.scheme}://{self.authority}/{self.key}".rstrip("/")

    def exists(self) -> bool:
        """True if anything lies below the prefix, or the bucket itself is meant and is there."""
        root, system = self._root, self._system()
        try:
            return bool(self._call(partial(system.get_file_info, root or "/")).type == FileType.Directory)
        except PermissionError:  # whoever may list below the prefix need not be allowed to ask for its own name
            return any(True for _ in self._list(system, root, recursive=False))

    def check_writable(self) -> None:
        """Raise an OSError if nothing can be written here. Leaves nothing behind, but see docs/storage.md for Azure."""
        name = f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
        self.write(name, b"")
        self.delete(name)

    def files(self, folder: str = "") -> Iterator[StoredFile]:
        """Every file below `folder`, at any depth; folders and the objects that stand for empty ones are none."""
        root, system = self._root, self._system()
        for found in self._walk(system, f"{root}/{folder}" if folder else root):
            for info in found:
                if info.type == FileType.File:
                    yield StoredFile(info.path[len(root) + 1 :], info.size, (info.mtime_ns or 0) // 1000)

    def read(self, path: str) -> bytes:
        """A whole file. Raises FileNotFoundError, PermissionError or another OSError."""
        return self._call(partial(_read, self._system(), f"{self._root}/{path}"))

    def open(self, path: str) -> pa.NativeFile:
        """A file for random access; each read of it is as patient as that of a whole file."""
        file = self._call(partial(self._system().open_input_file, f"{self._root}/{path}"))
        return pa.PythonFile(_PatientFile(file, self._call), mode="r")

    def write(self, path: str, content: bytes | pa.Buffer) -> None:
        """Write a whole file, or leave what was there before."""
        system, target = self._system(), f"{self._root}/{path}"
        if self.scheme in stores.WHOLE_UPLOADS:
            self._call(partial(_upload, system, target, content), len(content))
            return
        # Elsewhere an empty or a growing file shows while it is written; a copy and a rename do not.
        folder, _, name = target.rpartition("/")
        temporary = f"{folder}/{TEMPORARY_PREFIX}{name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
        try:
            if self.scheme == "hdfs":
                self._call(partial(system.create_dir, folder, recursive=True))
            self._call(partial(_upload, system, temporary, content), len(content))
            self._call(partial(_rename, system, temporary, target), len(content))
        except OSError:
            with contextlib.suppress(OSError):
                self._call(partial(system.delete_file, temporary))
            raise

    def delete(self, path: str) -> None:
        """Remove a file; nothing happens where there is none."""
        with contextlib.suppress(FileNotFoundError):
            target = f"{self._root}/{path}"
            self._call(partial(stores.delete_file, self._system(), self.scheme, self.authority, target))

    @property
    def _root(self) -> str:
        """The prefix in the filesystem's own terms."""
        bucket = "" if self.scheme == "hdfs" else self.authority.partition("@")[0]
        return f"{bucket}/{self.key}".rstrip("/")

    def _system(self) -> FileSystem:
        return self._call(partial(stores.connect, self.scheme, self.authority))

    def _call(self, call: Callable[[], Result], size: int = 0) -> Result:
        return stores.patiently(call, self.scheme, self.uri, size)

    def _list(self, system: FileSystem, folder: str, *, recursive: bool) -> list[FileInfo]:
        selector = FileSelector(folder or "/", allow_not_found=True, recursive=recursive)
        return self._call(partial(system.get_file_info, selector))

    def _level(self, system: FileSystem, folder: str) -> list[FileInfo]:
        """The files in a folder and its folders; where a key has an empty step, all files below and no folder."""
        found = self._list(system, folder, recursive=False)
        if all(info.path.startswith(f"{folder}/") and info.base_name for info in found):
            return found
        # Arrow takes the folder "a/" in "a" for "a" itself, and would lead round and round.
        return [info for info in self._list(system, folder, recursive=True) if info.type == FileType.File]

    def _walk(self, system: FileSystem, top: str) -> Iterator[list[FileInfo]]:
        """What a recursive listing of `top` finds, a piece at a time."""
        folders = [top]
        with ThreadPoolExecutor(LISTINGS, thread_name_prefix="list") as pool:
            for _ in range(DEEPEST if self.scheme in stores.KNOW_FOLDERS else 0):
                if len(folders) >= ENOUGH_FOLDERS:
                    break
                deeper = []
                for found in _bounded(pool, partial(self._level, system), folders):
                    yield found
                    deeper += [info.path for info in found if info.type == FileType.Directory]
                folders = deeper
            yield from _bounded(pool, partial(self._list, system, recursive=True), folders)


class _PatientFile:
    """An open file, as much of one as Arrow needs, whose every read is one call that may be repeated."""

    def __init__(self, file: pa.NativeFile, call: Callable[[Callable[[], bytes]], bytes]) -> None:
        self._file, self._call, self._at = file, call, 0
        self.closed = False

    def read(self, size: int) -> bytes:
        content = self._call(partial(self._file.read_at, size, self._at))
        self._at += len(content)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size()}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        self.closed = True


def _bounded(
    pool: ThreadPoolExecutor, call: Callable[[str], list[FileInfo]], folders: list[str]
) -> Iterator[list[FileInfo]]:
    """The results of `call` for every folder, as they come; no more than LISTINGS of them are held."""
    waiting: set[Future[list[FileInfo]]] = set()
    try:
        for folder in folders:
            waiting.add(pool.submit(call, folder))
            if len(waiting) == LISTINGS:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        for future in waiting:
            future.cancel()


def _read(system: FileSystem, path: str) -> bytes:
    with system.open_input_stream(path, compression=None) as file:
        return bytes(file.read())


def _upload(system: FileSystem, path: str, content: bytes | pa.Buffer) -> None:
    # Arrow completes an upload when its stream is closed, and it closes one that is dropped, whatever happened before.
    # So the content goes in with one call, whose failure Arrow remembers, and nothing else can fail before the end.
    file = system.open_output_stream(path, compression=None)
    file.write(content)
    file.close()


def _rename(system: FileSystem, temporary: str, target: str) -> None:
    try:
        system.move(temporary, target)
    except NotImplementedError:  # Azure without a hierarchical namespace
        system.copy_file(temporary, target)
        system.delete_file(temporary)
    except OSError:  # HDFS renames onto nothing
        if not system.get_file_info(temporary).is_file or not system.get_file_info(target).is_file:
            raise
        system.delete_file(target)
        system.move(temporary, target)
