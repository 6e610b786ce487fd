"""Forgetting photos: their rows go from every table, and no later run brings them back.

Article 17 of the GDPR lets people have what concerns them erased. What remembers a forgotten photo must not itself say
whose it was: the list holds digests of paths, the receipt digests of contents.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from fnmatch import translate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from verger.errors import SettingError
from verger.gallery import GALLERY
from verger.manifest import remove_manifest
from verger.parts import IndexedPart, components_path, read_index, rewrite_part, vectors_path
from verger.photos import Listing, Photos
from verger.storage import Place

LIST = "forgotten.txt"  # one SHA-256 of a path a line; whoever removes a line lets that photo in again
REPORT = "report.html"


def forget(dest: Place, pattern: str, *, dry_run: bool = False) -> dict[str, Any]:
    """Remove every photo whose path matches `pattern` from DEST, and put its path on DEST's list.

    Vectors, components and the report go. What is left is an unfinished run: the next run computes components without
    these photos, and writes a new report. Older versions that a bucket keeps of its objects stay until its own rules
    delete them.

    Args:
        dest: of one or more runs, finished or not.
        pattern: as in a shell, compared with whole paths; `*` matches `/` too, so that `Apple/*` is all below Apple.
        dry_run: only say what would go.

    Returns:
        The receipt, as written to DEST/receipts: when, how many photos, and the SHA-256 of their files.

    Raises:
        SettingError: no photo matches.
    """
    index = read_index(dest)
    matched = {part.name: _matches(part, pattern) for part in index}
    touched = [part for part in index if matched[part.name].any()]
    if not touched:
        rows = sum(len(part.rows) for part in index)
        advice = "Patterns are compared with whole paths below SOURCE, case and all; quote them: 'Apple/*'."
        raise SettingError(f"a pattern that matches some of the {rows} photos in {dest.uri}", repr(pattern), advice)
    digests = [digest for part in touched for digest in _digests(dest, part, matched[part.name])]
    moment = datetime.now(UTC)
    receipt: dict[str, Any] = {
        "forgotten": moment.isoformat(timespec="seconds"),
        "receipt": f"receipts/{moment:%Y%m%dT%H%M%S%fZ}.json",
        "photos": len(digests),
        "sha256": sorted(digests),
    }
    if not dry_run:
        gone = [path for part in touched for path in part.rows["path"].filter(pa.array(matched[part.name])).to_pylist()]
        _add_to_list(dest, gone)  # first of all: whatever happens next, no run brings them back
        remove_manifest(dest)
        for part in touched:
            _remove_rows(dest, part, matched[part.name])
        dest.delete(REPORT)
        dest.delete(GALLERY)
        dest.write(receipt["receipt"], (json.dumps(receipt, indent=2) + "\n").encode())
    return receipt


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
