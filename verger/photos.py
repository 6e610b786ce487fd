"""The photos of a place: which files are photos, and what their folders call them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from verger.errors import SettingError
from verger.stages import Progress
from verger.storage import Place, path_within

EXTENSIONS = frozenset({"jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff"})
PHOTOS = pa.schema([("path", pa.string()), ("label", pa.string()), ("bytes", pa.int64()), ("modified_us", pa.int64())])
CHUNK = 65_536  # photos that are Python objects at a time


class Photo(NamedTuple):
    """A photo as the listing knows it. Two photos are the same when path, bytes and modified_us are."""

    path: str  # relative to SOURCE, with "/"
    label: str
    bytes: int
    modified_us: int  # microseconds since 1970, UTC


class Photos(Sequence[Photo]):
    """Many photos as columns: about 70 bytes a photo, where a list takes 800."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table  # of the PHOTOS schema

    @classmethod
    def of(cls, photos: Iterable[Photo]) -> "Photos":
        """Any photos, in the order in which they come."""
        rows = iter(photos)
        batches = []
        while chunk := list(islice(rows, CHUNK)):
            columns = zip(zip(*chunk, strict=True), PHOTOS.types, strict=True)
            batches.append(pa.record_batch([pa.array(column, kind) for column, kind in columns], schema=PHOTOS))
        return cls(pa.Table.from_batches(batches, PHOTOS))

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Photo]:
        for batch in self.table.to_batches(CHUNK):
            yield from map(Photo._make, zip(*(column.to_pylist() for column in batch.columns), strict=True))

    @overload
    def __getitem__(self, at: int) -> Photo: ...
    @overload
    def __getitem__(self, at: slice) -> "Photos": ...
    def __getitem__(self, at: int | slice) -> "Photo | Photos":
        if isinstance(at, int):
            start = range(len(self))[at]
            return next(iter(Photos(self.table.slice(start, 1))))
        start, stop, step = at.indices(len(self))
        if step == 1:
            return Photos(self.table.slice(start, max(0, stop - start)))
        return self.take(np.arange(start, stop, step))

    def __reduce__(self) -> tuple[Any, ...]:
        # In Arrow's own format, a slice travels without the rows around it.
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, PHOTOS) as stream:
            stream.write_table(self.table)
        return _received, (sink.getvalue().to_pybytes(),)

    def take(self, positions: NDArray[np.integer[Any]]) -> "Photos":
        """The photos at these positions, in that order."""
        return Photos(self.table.take(pa.array(positions, pa.int64())))

    def ordered(self) -> "Photos":
        """The same photos in the order of their paths."""
        return Photos(self.table.take(pc.sort_indices(self.table["path"])))  # sort_by would load a query engine

    def labels(self) -> Counter[str]:
        """How many photos have each label."""
        counts = pc.value_counts(self.table["label"])
        return Counter(dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)))


def _received(content: bytes) -> Photos:
    with pa.ipc.open_stream(content) as stream:
        return Photos(stream.read_all())


@dataclass
class Listing:
    """What a place holds: photos in the order of their paths, and a count of the files left out, by reason."""

    photos: Photos
    left_out: Counter[str] = field(default_factory=Counter)


def list_photos(source: Place, dest: Place, label_level: int, progress: Progress = lambda _: None) -> Listing:
    """List the photos below `source`, leaving out `dest` where it lies inside.

    Left out and counted: hidden files and folders ("hidden"), names that are not UTF-8 ("not UTF-8"), and files whose
    extension is not an image's (".txt", …).

    Raises:
        SettingError: `source` is missing, unreadable or holds no photo; `label_level` is deeper than a photo's path.
    """
    left_out: Counter[str] = Counter()
    try:
        if not source.exists():
            raise SettingError("a folder of photos", f"{source.uri}, which does not exist", "Check SOURCE.")
        photos = Photos.of(_found(source, path_within(source, dest), label_level, left_out, progress)).ordered()
    except OSError as error:
        raise SettingError(
            "a SOURCE that can be listed", f"{error}", "Check the permissions and the address."
        ) from error
    if not photos:
        raise SettingError(f"photos ({', '.join(sorted(EXTENSIONS))})", _nothing(left_out, source), "Check SOURCE.")
    progress(len(photos))
    return Listing(photos, left_out)


def _found(
    source: Place, inside: str | None, label_level: int, left_out: Counter[str], progress: Progress
) -> Iterator[Photo]:
    """The photos of a place as they are found; what is no photo is counted in `left_out`."""
    name_of_source = source.uri.rstrip("/").rpartition("/")[2]
    count = 0
    for file in source.files():
        if inside and file.path.startswith(f"{inside}/"):
            continue
        if reason := _why_left_out(file.path):
            left_out[reason] += 1
            continue
        yield Photo(file.path, label_of(file.path, label_level, name_of_source), file.bytes, file.modified_us)
        count += 1
        if count % 1000 == 0:
            progress(count)


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


def _nothing(left_out: Counter[str], source: Place) -> str:
    if not left_out:
        return f"{source.uri}, which is empty"
    counts = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common(5))
    return f"{source.uri}, which holds none ({counts})"
