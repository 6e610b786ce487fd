"""Photos picked for the report → thumbnails, made where the photos are: a small Spark job."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from verger.components import Sample
from verger.errors import PhotoError
from verger.image import thumbnail
from verger.photos import Photo, Photos
from verger.reading import read_ahead, read_photo
from verger.session import run_tasks
from verger.settings import Limits
from verger.storage import Place

if TYPE_CHECKING:
    from pyspark import SparkContext

    from verger.report import Failure
    from verger.report_map import Map

SIDE_PIXELS = 96
JPEG_END = b"\xff\xd9"  # with it, a JPEG that was cut off can be decoded as far as it goes
FAILURES_SHOWN = 300


def make_previews(
    context: "SparkContext",
    source: Place,
    sample: Sample,
    photos: Photos,
    failures: Sequence[tuple[str, str]],
    limits: Limits,
) -> "tuple[Map, list[Failure]]":
    """The photos of the map, some with thumbnails, and some of those that failed, with what can be seen of them.

    Thumbnails are small JPEGs without metadata; empty where nothing of a photo can be shown.
    """
    from verger.report import Failure  # on the driver only: workers import this module, and need no templates
    from verger.report_map import Map

    picked = pick_failures(failures, FAILURES_SHOWN)
    chosen = {at: sample.paths[at] for at in sample.chosen.tolist()}
    sought = pa.array([*chosen.values(), *(path for path, _ in picked)], pa.string())
    wanted = Photos(photos.table.filter(pc.is_in(photos.table["path"], value_set=sought)))
    made = make_thumbnails(context, source, wanted, limits, cut_off=True)
    sizes = dict(zip(*wanted.table.select(["path", "bytes"]).to_pydict().values(), strict=True)) if picked else {}
    shown = Map(sample.paths, sample.labels, sample.components, {at: made[path] for at, path in chosen.items()})
    return shown, [Failure(path, cause, made[path], sizes[path]) for path, cause in picked]


def pick_failures(failures: Sequence[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    """At most so many (path, cause): the first of every cause, then the second of every cause, and so on."""
    seen: Counter[str] = Counter()
    turns = []
    for at, (_, cause) in enumerate(failures):
        turns.append((seen[cause], at))
        seen[cause] += 1
    return [failures[at] for _, at in sorted(turns)[:most]]


def make_thumbnails(
    context: "SparkContext",
    source: Place,
    photos: Photos,
    limits: Limits,
    side: int = SIDE_PIXELS,
    *,
    cut_off: bool = False,
) -> dict[str, bytes]:
    """Small JPEGs of one photo or more, by path, `side` pixels at the longer side; empty where it cannot be read.

    With `cut_off`, of a JPEG that was cut off there is what is left of it.
    """
    shares = min(4 * context.defaultParallelism, len(photos))
    groups = [photos[i::shares] for i in range(shares)]

    def task(group: Sequence[Photo]) -> tuple[int, dict[str, bytes]]:
        return len(group), thumbnails_of(source, group, limits, side, cut_off=cut_off)

    return {path: image for _, images in run_tasks(context, groups, task) for path, image in images.items()}


def thumbnails_of(
    source: Place, photos: Sequence[Photo], limits: Limits, side: int = SIDE_PIXELS, *, cut_off: bool = False
) -> dict[str, bytes]:
    """One task: thumbnails of some photos."""
    made = {}
    endings = (b"", JPEG_END) if cut_off else (b"",)

    def read(photo: Photo) -> tuple[Photo, bytes | PhotoError]:
        return photo, read_photo(source, photo, limits.max_bytes)

    for group in read_ahead(read, photos):
        for photo, content in group:
            made[photo.path] = b""
            if isinstance(content, bytes):
                made[photo.path] = _thumbnail((content + ending for ending in endings), side, limits)
    return made


def _thumbnail(contents: Iterable[bytes], side: int, limits: Limits) -> bytes:
    """Of the first of these contents that can be decoded."""
    for content in contents:
        with suppress(PhotoError):
            return thumbnail(content, side, limits.max_pixels)
    return b""
