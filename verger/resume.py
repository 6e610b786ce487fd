"""What an earlier run left in DEST, held against the photos that are there now."""

from collections.abc import Sequence
from dataclasses import dataclass

from verger.errors import SettingError
from verger.network import Backbone
from verger.parts import IndexedPart, rewrite_part, vectors_path
from verger.photos import Listing, Photo
from verger.projection import Projection
from verger.storage import Place


@dataclass(frozen=True)
class Remaining:
    """The parts that still hold, and the photos that have to be embedded."""

    parts: dict[str, list[Photo]]  # name of each part that stays → its photos
    photos: list[Photo]  # new, changed, or failed last time

    @property
    def kept(self) -> list[Photo]:
        """The photos that need not be embedded again."""
        return [photo for photos in self.parts.values() for photo in photos]


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


def remaining_photos(photos: Sequence[Photo], index: Sequence[IndexedPart]) -> Remaining:
    """Decide, from listings alone, which rows still hold. Nothing is written.

    A row holds if its photo is still there with the same path, bytes and modification time, and did not fail; where a
    killed run left a photo in two parts, the first part in the order of names keeps it.
    """
    wanted = {(photo.path, photo.bytes, photo.modified_us): photo for photo in photos}
    parts: dict[str, list[Photo]] = {}
    for part in index:
        parts[part.name] = []
        for row in part.rows:
            key = (row.photo.path, row.photo.bytes, row.photo.modified_us)
            if row.error is None and key in wanted:
                parts[part.name].append(wanted.pop(key))
    return Remaining(parts, sorted(wanted.values()))


def settle(dest: Place, index: Sequence[IndexedPart], remaining: Remaining) -> dict[str, list[Photo]]:
    """Bring the parts in DEST to what `remaining` says of them; returns the photos of each part that is now there.

    Every new part is whole before any old one goes, so that a kill in between leaves rows twice but never none.
    """
    settled: dict[str, list[Photo]] = {}
    for part in index:
        kept = remaining.parts[part.name]
        if kept == [row.photo for row in part.rows] and all(row.error is None for row in part.rows):
            settled[part.name] = kept
        elif kept:
            settled[rewrite_part(dest, part, kept)] = kept
    for part in index:
        if part.name not in settled:
            dest.delete(vectors_path(part.name))
    return settled
