"""The photos of a zip archive, as files. Nothing is written outside the folder, and what is there already is kept."""

import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from verger.errors import RunFailedError, SettingError

BLOCK_BYTES = 4096  # what a file takes on disk is a multiple of this
PHOTO_MOST_BYTES = 4_000_000
AGAIN = "Run the same command again: an archive that it downloaded is deleted, and fetched anew."
# What zipfile raises on files that are none, or damaged, encrypted, or packed in a way that it does not know.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
_HOSTILE = "Do not use this archive; report it to whoever serves it."


def members(archive: zipfile.ZipFile, wanted: re.Pattern[str]) -> Mapping[str, zipfile.ZipInfo]:
    """Files of an archive, by their path below its one top folder, where `wanted` matches that path.

    Raises:
        RunFailedError: a path leads out of the folder, is a link, stands twice, or its file is implausibly large.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = PurePosixPath(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if name.is_absolute() or ".." in name.parts or re.search(r"[\\:\0]", info.filename):
            raise _refused("paths below its own folder", info)
        path = "/".join(name.parts[1:])
        if info.is_dir() or not wanted.fullmatch(path):
            continue
        if kind not in (0, stat.S_IFREG):
            raise _refused("plain files", info)
        if path in found:
            raise _refused("each path once", info)
        if info.file_size > PHOTO_MOST_BYTES:
            raise _refused(f"files of at most {PHOTO_MOST_BYTES:,} bytes", info)
        found[path] = info
    return found


def _refused(expected: str, info: zipfile.ZipInfo) -> RunFailedError:
    return RunFailedError(f"an archive with {expected}", repr(info.filename), _HOSTILE)


def check_space(folder: Path, needed_bytes: int) -> None:
    """Raise a SettingError where the disk of `folder` has less room than this."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < needed_bytes:
        received = f"{free / 1e9:.1f} GB in {folder}"
        raise SettingError(
            f"{needed_bytes / 1e9:.1f} GB of free disk", received, "Make room, or choose another folder."
        )


def unpack(archive: zipfile.ZipFile, found: Mapping[str, zipfile.ZipInfo], folder: Path) -> Iterator[int]:
    """Write the members below `folder`; yields how many are there, after each. Every file's CRC is checked.

    Files that an earlier call wrote are not written again, except one that it was killed at.

    Raises:
        SettingError: the disk has too little room; nothing was written.
        RunFailedError: a file is damaged.
    """
    missing = {path: info for path, info in found.items() if not _is_there(folder / path, info)}
    check_space(folder, sum(-(-info.file_size // BLOCK_BYTES) * BLOCK_BYTES for info in missing.values()))
    for done, (path, info) in enumerate(missing.items(), start=len(found) - len(missing) + 1):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            content = archive.read(info)
        except DAMAGE as error:
            raise RunFailedError("an archive without damage", f"{info.filename!r}: {error}", AGAIN) from error
        target.write_bytes(content)
        yield done


def _is_there(file: Path, info: zipfile.ZipInfo) -> bool:
    return file.is_file() and file.stat().st_size == info.file_size and zlib.crc32(file.read_bytes()) == info.CRC
