"""Public data sets, whole or not at all: downloaded, checked, unpacked, and with a receipt beside them."""

import fcntl
import itertools
import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from verger.archive import AGAIN, DAMAGE, check_space, members, unpack
from verger.download import download
from verger.errors import RunFailedError, SettingError
from verger.git_tree import tree_id
from verger.stages import Stages

RECEIPT, WORK = "fetched.json", ".verger-fetch"
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class DataSet:
    """Where a data set is, and what is known of it.

    Attributes:
        name: as people type it.
        title: as people read it, with its version.
        url: of a zip archive with one top folder; its comment, as Git writes it, is the commit.
        commit: the version that everybody gets.
        photos: how many photos each part holds, by its folder, as the author counts them.
        beside: files to keep with the photos.
        attribution: what its licence asks to say.
        needed_bytes: of disk, for the archive and the photos together.
    """

    name: str
    title: str
    url: str
    commit: str
    photos: Mapping[str, int]
    beside: Sequence[str]
    attribution: str
    needed_bytes: int


# docs/fetch.md says where these facts come from; nothing was ever fetched where this was written.
_COMMIT = "019ab6f4eec0f6b9bdae4efe8ee55f377bef8812"
FRUITS_360 = DataSet(
    name="fruits-360",
    title="Fruits-360, 100×100 pixels, version 2025.03.09.0",
    url=f"https://github.com/fruits-360/fruits-360-100x100/archive/{_COMMIT}.zip",
    commit=_COMMIT,
    photos={"Training": 76_893, "Test": 25_746},
    beside=("LICENSE", "README.md"),
    attribution="Fruits-360, Mihai Oltean, 2017-, CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/): "
    "name him and this licence wherever you show the photos; what you derive from them bears it too.",
    needed_bytes=2_000_000_000,  # reckoned from 9,800 of the photos: 0.6 GB of archive, 0.9 GB of files
)
DATA_SETS = {FRUITS_360.name: FRUITS_360}


def fetch(data_set: DataSet, directory: Path, parts: Sequence[str], archive: str, stages: Stages) -> dict[str, Any]:
    """Bring parts of a data set into `directory`, or check those that are there. Returns the receipt, `fetched.json`.

    A part appears under its name when it is whole. What a stopped call left is used by the next one.

    Args:
        data_set: which.
        directory: new, empty, or one that this function made.
        parts: names of folders, keys of `data_set.photos`.
        archive: an address, or a file, to take the archive from.
        stages: shows how far it is.

    Raises:
        SettingError: the directory is somebody else's, the disk is too full, or there is no such archive.
        RunFailedError: the download, the archive or photos on disk are not what they should be.
    """
    receipt = _receipt(data_set, directory)
    there = [part for part in parts if part in receipt["parts"] and (directory / part).is_dir()]
    for part in there:
        _check_unchanged(directory / part, receipt["parts"][part]["tree"], stages)
    missing = [part for part in parts if part not in there]
    if missing:
        begun = sum(path.stat().st_size for path in (directory / WORK).rglob("*") if path.is_file())
        check_space(directory, data_set.needed_bytes - begun)
        with _work_folder(directory) as work:
            file = _archive_file(archive, work / f"{data_set.commit}.zip", stages)
            _unpack_parts(data_set, file, missing, work, stages)
            _install(data_set, directory, missing, receipt, stages)
    elif all((directory / part).is_dir() for part in data_set.photos):
        shutil.rmtree(directory / WORK, ignore_errors=True)  # of a call that was killed at its very end
    return receipt


def _receipt(data_set: DataSet, directory: Path) -> dict[str, Any]:
    """The receipt of what is there, or a new one."""
    fresh = {"data_set": data_set.name, "commit": data_set.commit, "attribution": data_set.attribution, "parts": {}}
    try:
        held = {path.name for path in directory.iterdir()} if directory.exists() else set()
        if not held or (WORK in held and not held - {WORK, *data_set.beside}):
            return fresh
        receipt: dict[str, Any] = json.loads((directory / RECEIPT).read_text("utf-8"))
        if (receipt["data_set"], receipt["commit"]) == (data_set.name, data_set.commit):
            return receipt
        received = f"{directory}, with another version ({receipt['commit']})"
    except NotADirectoryError:
        received = f"{directory}, which is a file"
    except (OSError, ValueError, KeyError, TypeError):
        received = f"{directory}, which holds something else"
    raise SettingError("a new or empty folder, or one that this command made", received, "Choose another folder.")


@contextmanager
def _work_folder(directory: Path) -> Iterator[Path]:
    """A hidden folder for what is not whole yet; removed when all is done, kept when something stops it."""
    work = directory / WORK
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError("a folder that can be written", f"{directory}: {error}", "Choose another folder.") from error
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingError("one fetch at a time", f"another one at work in {directory}", "Wait for it.") from error
        yield work
    shutil.rmtree(work)


def _archive_file(archive: str, target: Path, stages: Stages) -> Path:
    """The archive on disk: the file that was named, or the address's content, whole."""
    if not re.match(r"https?://[^/@]+/", archive):
        if Path(archive).is_file():
            return Path(archive)
        advice = "Check the path, or give an address without a name and password."
        raise SettingError("a file, or an http or https address", archive.rpartition("@")[2], advice)
    if not target.exists():
        partial = target.with_suffix(".part")
        steps = download(archive, partial)
        first = next(steps)
        with stages("download", first.total and first.total // MEGABYTE) as done:
            for step in steps:
                done(step.bytes // MEGABYTE)
        partial.rename(target)
    return target


def _unpack_parts(data_set: DataSet, file: Path, parts: Sequence[str], work: Path, stages: Stages) -> None:
    """Bring parts from the archive into the work folder. A damaged archive that was downloaded is deleted."""
    try:
        with _opened(file) as archive:
            found = _members(data_set, archive, parts)
            with stages("unpack", len(found)) as done:
                for count in unpack(archive, found, work):
                    done(count)
    except RunFailedError:
        if file.parent == work:
            file.unlink()
        raise


def _members(data_set: DataSet, archive: zipfile.ZipFile, parts: Sequence[str]) -> Mapping[str, zipfile.ZipInfo]:
    """The files of these parts, by path, where this is the right archive."""
    commit = archive.comment.decode(errors="replace")
    if re.fullmatch("[0-9a-f]{40}", commit) and commit != data_set.commit:
        raise RunFailedError(f"the archive of commit {data_set.commit}", f"that of {commit}", AGAIN)
    photos = rf"(?:{'|'.join(map(re.escape, parts))})/[^/]+/[^/]+\.jpg"
    found = members(archive, re.compile("|".join([photos, *map(re.escape, data_set.beside)])))
    for part in parts:
        if not any(path.startswith(f"{part}/") for path in found):
            raise RunFailedError(f"photos as TOP/{part}/CLASS/NAME.jpg", f"none, of {len(found)} files", AGAIN)
    return found


@contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(file)
    except DAMAGE as error:
        raise RunFailedError("a whole zip archive", f"{file.stat().st_size:,} bytes: {error}", AGAIN) from error
    with archive:
        yield archive


def _install(
    data_set: DataSet, directory: Path, missing: Sequence[str], receipt: dict[str, Any], stages: Stages
) -> None:
    """Give whole parts their names. The receipt knows a part before it appears, so that none is there unknown."""
    work = directory / WORK
    for name in data_set.beside:
        if (work / name).exists():
            (work / name).replace(directory / name)
    for part in missing:
        known = receipt["parts"].get(part, {}).get("tree")
        tree = _tree(work / part, stages)
        if known not in (None, tree):
            advice = f"Where that is meant, delete {directory / RECEIPT} and {directory / part}, and run again."
            raise RunFailedError(f"the photos of the first time (Git tree {known})", f"others (tree {tree})", advice)
        classes = {path.name: len(list(path.iterdir())) for path in sorted((work / part).iterdir())}
        counted = {"photos": sum(classes.values()), "classes": classes}
        receipt["parts"][part] = {"fetched": datetime.now(UTC).isoformat(timespec="seconds"), "tree": tree, **counted}
        (work / RECEIPT).write_text(json.dumps(receipt, indent=2, ensure_ascii=False) + "\n", "utf-8")
        (work / RECEIPT).replace(directory / RECEIPT)
        (work / part).rename(directory / part)


def _check_unchanged(folder: Path, known: str, stages: Stages) -> None:
    if (tree := _tree(folder, stages)) != known:
        advice = f"Delete {folder} and run the same command again."
        raise RunFailedError(f"the photos that were fetched (Git tree {known})", f"others (tree {tree})", advice)


def _tree(folder: Path, stages: Stages) -> str:
    counted = itertools.count(1)
    with stages("check") as done:
        return tree_id(folder, lambda: done(next(counted)))
