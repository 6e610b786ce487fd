"""The photos of a place: which files are photos, and what their folders call them."""

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from verger.errors import SettingError
from verger.stages import Progress
from verger.storage import Place, path_within

EXTENSIONS = frozenset({"jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff"})


class Photo(NamedTuple):
    """A photo as the listing knows it. Two photos are the same when path, bytes and modified_us are."""

    path: str  # relative to SOURCE, with "/"
    label: str
    bytes: int
    modified_us: int  # microseconds since 1970, UTC


@dataclass
class Listing:
    """What a place holds: photos in the order of their paths, and a count of the files left out, by reason."""

    photos: list[Photo] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def list_photos(source: Place, dest: Place, label_level: int, progress: Progress = lambda _: None) -> Listing:
    """List the photos below `source`, leaving out `dest` where it lies inside.

    Left out and counted: hidden files and folders ("hidden"), names that are not UTF-8 ("not UTF-8"), and files whose
    extension is not an image's (".txt", …).

    Raises:
        SettingError: `source` is missing, unreadable or holds no photo; `label_level` is deeper than a photo's path.
    """
    inside = path_within(source, dest)
    name_of_source = source.uri.rstrip("/").rpartition("/")[2]
    listing = Listing()
    try:
        if not source.exists():
            raise SettingError("a folder of photos", f"{source.uri}, which does not exist", "Check SOURCE.")
        for file in source.files():
            if inside and file.path.startswith(f"{inside}/"):
                continue
            if reason := _why_left_out(file.path):
                listing.left_out[reason] += 1
                continue
            label = sys.intern(label_of(file.path, label_level, name_of_source))  # one string a label, not a photo
            listing.photos.append(Photo(file.path, label, file.bytes, file.modified_us))
            if len(listing.photos) % 1000 == 0:
                progress(len(listing.photos))
    except OSError as error:
        raise SettingError(
            "a SOURCE that can be listed", f"{error}", "Check the permissions and the address."
        ) from error
    if not listing.photos:
        raise SettingError(f"photos ({', '.join(sorted(EXTENSIONS))})", _nothing(listing, source), "Check SOURCE.")
    progress(len(listing.photos))
    listing.photos.sort()
    return listing


def label_of(path: str, level: int, name_of_source: str) -> str:
    """The label of a photo: its `level`-th parent folder. A photo that lies in SOURCE itself is labelled by SOURCE.

    >>> label_of("Apple/Braeburn/1.jpg", 1, "photos"), label_of("Apple/Braeburn/1.jpg", 2, "photos")
    ('Braeburn', 'Apple')
    """
    folders = path.split("/")[:-1]
    if not folders and level == 1:
        return name_of_source
    if level > len(folders):
        raise SettingError(
            f"every photo to lie at least {level} folders below SOURCE, as --label-level {level} asks",
            f"{path}, which lies {len(folders)} below",
            f"Choose a --label-level of at most {max(1, len(folders))}, or another SOURCE.",
        )
    return folders[-level]


def _why_left_out(path: str) -> str | None:
    if any(step.startswith(".") for step in path.split("/")):
        return "hidden"
    if not path.isascii():
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:  # a name from another age; tables of text cannot hold it
            return "not UTF-8"
    name = path.rpartition("/")[2]
    stem, dot, extension = name.rpartition(".")
    if dot and stem and extension.lower() in EXTENSIONS:
        return None
    return f".{extension.lower()}" if dot and stem else "no extension"


def _nothing(listing: Listing, source: Place) -> str:
    if not listing.left_out:
        return f"{source.uri}, which is empty"
    counts = ", ".join(f"{count} {reason}" for reason, count in listing.left_out.most_common(5))
    return f"{source.uri}, which holds none ({counts})"
