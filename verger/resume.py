"""What an earlier run left in DEST, held against the photos that are there now."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from verger.errors import SettingError
from verger.network import Backbone
from verger.parts import INDEX, IndexedPart, rewrite_part, vectors_path
from verger.photos import PHOTOS, Listing, Photos
from verger.projection import Projection
from verger.storage import Place


@dataclass(frozen=True)
class Remaining:
    """Which rows of earlier parts still hold, and the photos that have to be embedded."""

    kept: dict[str, NDArray[np.int64]]  # name of each part → places in the listing of the photos whose rows hold
    labels: Counter[str]  # of the photos whose rows hold
    photos: Photos  # new, changed, or failed last time

    @property
    def reused(self) -> int:
        """How many photos need not be embedded again."""
        return sum(len(places) for places in self.kept.values())


@dataclass(frozen=True)
class Work:
    """What a run found before it changes anything: where, with which network, and what there is to do."""

    source: Place
    dest: Place
    backbone: Backbone
    listing: Listing
    index: Sequence[IndexedPart]
    remaining: Remaining
    projection: Projection | None  # the one to keep; None to fit a new one
    check_claim: Callable[[], None]  # raises if DEST is another run's by now
    previous: dict[str, Any] | None  # the manifest of the last finished run


def of_this_network(
    index: Sequence[IndexedPart], backbone: Backbone, dest: Place, *, restart: bool
) -> list[IndexedPart]:
    """The parts that this network made; other networks' parts are refused, or with `restart` left to be discarded.

    Raises:
        SettingError: a part was made by another network, image size or normalisation, and `restart` is not given.
    """
    others = sorted({part.fingerprint for part in index} - {backbone.fingerprint})
    if others and not restart:
        raise SettingError(
            f"a DEST that is empty or holds vectors of this network ({backbone.name}, {backbone.fingerprint})",
            f"{dest.uri}, which holds vectors of another one ({', '.join(others)})",
            "Choose another --to; or add --restart to discard what is there.",
        )
    return [part for part in index if part.fingerprint == backbone.fingerprint]


def remaining_photos(photos: Photos, index: Sequence[IndexedPart]) -> Remaining:
    """Decide, from listings alone, which rows still hold. Nothing is written.

    A row holds if its photo is still there with the same path, bytes and modification time, and did not fail; where a
    killed run left a photo in two parts, the first part in the order of names keeps it.
    """
    rows = pa.concat_tables([part.rows for part in index] or [INDEX.empty_table()])
    places = pc.index_in(rows["path"], value_set=photos.table["path"].combine_chunks())
    same = [pc.equal(rows[name], photos.table[name].take(places)) for name in ("bytes", "modified_us")]
    holds = pc.and_(pc.and_(*same), pc.is_null(rows["error"])).fill_null(fill_value=False)  # null: no such photo
    found = np.flatnonzero(holds.to_numpy())
    at = places.filter(holds).to_numpy().astype(np.int64)
    first = np.sort(np.unique(at, return_index=True)[1])
    found, at = found[first], at[first]
    bounds = np.searchsorted(found, np.cumsum([0, *(len(part.rows) for part in index)]))
    kept = {part.name: at[low:high] for part, (low, high) in zip(index, pairwise(bounds), strict=True)}
    missing = np.ones(len(photos), dtype=bool)
    missing[at] = False
    return Remaining(kept, photos.take(at).labels(), photos.take(np.flatnonzero(missing)))


def settle(dest: Place, index: Sequence[IndexedPart], photos: Photos, remaining: Remaining) -> set[str]:
    """Bring the parts in DEST to what `remaining` says of them; returns the names of the parts that are now there.

    Every new part is whole before any old one goes, so that a kill in between leaves rows twice but never none.
    """
    settled = set()
    for part in index:
        kept = photos.take(remaining.kept[part.name])
        if kept.table.equals(part.rows.select(PHOTOS.names)):
            settled.add(part.name)
        elif kept:
            settled.add(rewrite_part(dest, part, kept))
    for part in index:
        if part.name not in settled:
            dest.delete(vectors_path(part.name))
    return settled
