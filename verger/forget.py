"""Forgetting photos: their rows go from every table, and no later run brings them back.

Article 17 of the GDPR lets people have what concerns them erased. What remembers a forgotten photo must not itself say
whose it was: the list holds digests of paths, the receipt digests of contents.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from fnmatch import translate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from verger.claim import claimed
from verger.errors import SettingError
from verger.gallery import GALLERY
from verger.manifest import remove_manifest
from verger.parts import IndexedPart, components_path, read_index, rewrite_part, vectors_path
from verger.photos import Listing, Photos
from verger.recogniser import RECOGNISER, RECOGNISER_GRAPH
from verger.storage import Folder, Place
from verger.versions import older_versions

LIST = "forgotten.txt"  # one SHA-256 of a path a line; whoever removes a line lets that photo in again
RECEIPTS = "receipts"
# Thumbnails, and sums over photos: of a label with one photo, a sum is that photo.
FITTED_ON_PHOTOS = ("report.html", "evaluation.html", RECOGNISER, RECOGNISER_GRAPH, GALLERY)


def forget(dest: Place, pattern: str, *, dry_run: bool = False) -> dict[str, Any]:
    """Remove every photo whose path matches `pattern` from DEST, and put its path on DEST's list.

    Vectors, components, the report and what was fitted on the photos go. What is left is an unfinished run: the next
    run computes components without these photos, and writes a new report. Older versions that a bucket on S3 keeps of
    anything in DEST go too: a row may be in any of them. If it is interrupted, the same call finishes it.

    Args:
        dest: of one or more runs, finished or not.
        pattern: as in a shell, compared with whole paths; `*` matches `/` too, so that `Apple/*` is all below Apple.
        dry_run: only say what would go.

    Returns:
        The receipt, as written to DEST/receipts: when, how many photos, the SHA-256 of their files, and how many older
        versions of objects went (null on other stores, which may keep some that only their own tools reach).

    Raises:
        SettingError: no photo matches, a run works on DEST, or older versions may not be seen. Nothing was changed.
        MissingError: DEST is on S3, and boto3 is not installed. Nothing was changed.
        RunFailedError: some older versions are left; the message says why.
    """
    if dry_run:
        return _Forgetting(dest, pattern).receipt
    with claimed(dest) as check_claim:
        forgetting = _Forgetting(dest, pattern)
        check_claim()
        return forgetting.carry_out()


class _Forgetting:
    """What has to go, found out; and its receipt, written before anything goes and finished when all is gone."""

    def __init__(self, dest: Place, pattern: str) -> None:
        self.dest, self.versions = dest, older_versions(dest)
        self.none_known = 0 if isinstance(dest, Folder) else None
        self.unfinished = list(_unfinished_receipts(dest))
        index, on_list = read_index(dest), _read_list(dest)
        self.matched = {part.name: _matches(part, pattern) | _listed(part, on_list) for part in index}
        self.parts = [part for part in index if self.matched[part.name].any()]
        if not self.parts and not self.unfinished:
            rows = sum(len(part.rows) for part in index)
            advice = "Patterns are compared with whole paths below SOURCE, case and all; quote them: 'Apple/*'."
            raise SettingError(f"a pattern that matches some of the {rows} photos in {dest.uri}", repr(pattern), advice)
        digests = [digest for part in self.parts for digest in _digests(dest, part, self.matched[part.name])]
        moment = datetime.now(UTC)
        self.receipt: dict[str, Any] = {
            "forgotten": moment.isoformat(timespec="seconds"),
            "finished": None,
            "receipt": f"{RECEIPTS}/{moment:%Y%m%dT%H%M%S%fZ}.json",
            "photos": len(digests),
            "sha256": sorted(digests),
            "versions": self.versions.count() if self.versions else self.none_known,
        }

    def carry_out(self) -> dict[str, Any]:
        """Do it; returns the finished receipt."""
        _add_to_list(self.dest, self._paths())  # first of all: whatever happens next, no run brings them back
        self._write(self.receipt)
        remove_manifest(self.dest)
        for part in self.parts:
            _remove_rows(self.dest, part, self.matched[part.name])
        for path in FITTED_ON_PHOTOS:
            self.dest.delete(path)
        removed = self.versions.remove() if self.versions else self.none_known
        for receipt in (*self.unfinished, self.receipt):
            finished = datetime.now(UTC).isoformat(timespec="seconds")
            self._write(receipt | {"finished": finished, "versions": removed})
        return self.receipt | {"finished": finished, "versions": removed}

    def _paths(self) -> list[str]:
        rows = [part.rows["path"].filter(pa.array(self.matched[part.name])) for part in self.parts]
        return [path for paths in rows for path in paths.to_pylist()]

    def _write(self, receipt: dict[str, Any]) -> None:
        self.dest.write(receipt["receipt"], (json.dumps(receipt, indent=2) + "\n").encode())


def leave_out_forgotten(listing: Listing, dest: Place) -> Listing:
    """The listing without the photos that are on DEST's list; they are counted among those left out."""
    on_list = _read_list(dest)
    if not on_list:
        return listing
    wanted = np.array([_digest_of(photo.path) not in on_list for photo in listing.photos], dtype=bool)
    left_out = listing.left_out.copy()
    left_out["forgotten"] += int((~wanted).sum())
    return Listing(listing.photos.take(np.flatnonzero(wanted)), +left_out)


def _matches(part: IndexedPart, pattern: str) -> NDArray[np.bool_]:
    """Which rows of a part match."""
    matches: NDArray[np.bool_] = pc.match_substring_regex(part.rows["path"], _to_re2(pattern)).to_numpy()
    return matches.astype(bool)


def _listed(part: IndexedPart, on_list: set[str]) -> NDArray[np.bool_]:
    """Which rows of a part are on the list already: an interrupted forgetting left them, and this one takes them."""
    if not on_list:
        return np.zeros(len(part.rows), dtype=bool)
    return np.array([_digest_of(path) in on_list for path in part.rows["path"].to_pylist()], dtype=bool)


def _to_re2(pattern: str) -> str:
    """A shell's pattern as a regular expression of Arrow's, which knows neither `(?>…)` nor `\\Z`."""
    return "^" + translate(pattern).replace("(?>", "(?:").removesuffix(r"\Z") + "$"


def _digests(dest: Place, part: IndexedPart, matched: NDArray[np.bool_]) -> list[str]:
    """SHA-256 of the files of matched photos; of those that could never be read, of their paths."""
    with dest.open(vectors_path(part.name)) as content:
        table = pq.read_table(content, columns=["path", "digest"]).filter(pa.array(matched))
    rows = zip(table["path"].to_pylist(), table["digest"].to_pylist(), strict=True)
    return [digest or _digest_of(path) for path, digest in rows]


def _remove_rows(dest: Place, part: IndexedPart, matched: NDArray[np.bool_]) -> None:
    """Replace a part of vectors by one without the matched rows; its components, which the next run makes, go."""
    kept = Photos(part.rows.filter(pa.array(~matched)).drop_columns("error"))
    if kept:
        rewrite_part(dest, part, kept)
    for path in (vectors_path(part.name), components_path(part.name)):
        dest.delete(path)


def _read_list(dest: Place) -> set[str]:
    try:
        return set(dest.read(LIST).decode().split())
    except FileNotFoundError:
        return set()


def _add_to_list(dest: Place, paths: Iterable[str]) -> None:
    listed = sorted(_read_list(dest) | {_digest_of(path) for path in paths})
    dest.write(LIST, "".join(f"{digest}\n" for digest in listed).encode())


def _digest_of(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()


def _unfinished_receipts(dest: Place) -> Iterator[dict[str, Any]]:
    for file in dest.files(RECEIPTS):
        with contextlib.suppress(ValueError):  # what is no receipt of ours
            receipt = json.loads(dest.read(file.path))
            if isinstance(receipt, dict) and receipt.get("receipt") == file.path and not receipt.get("finished", True):
                yield receipt
