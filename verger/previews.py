"""Photos picked for the report → thumbnails, made where the photos are: a small Spark job."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
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

    from verger.report import MapPhoto

SIDE_PIXELS = 96


def make_map(
    context: "SparkContext", source: Place, sample: Sample, photos: Photos, limits: Limits
) -> "list[MapPhoto]":
    """The chosen photos with small JPEGs that carry no metadata; empty where a photo cannot be read any more."""
    from verger.report import MapPhoto  # on the driver only: workers import this module, and need no templates

    paths = pa.array([sample.paths[i] for i in sample.chosen], pa.string())
    wanted = Photos(photos.table.filter(pc.is_in(photos.table["path"], value_set=paths)))
    made = make_thumbnails(context, source, wanted, limits)
    x, y = np.pad(sample.components, ((0, 0), (0, 1))).T[:2].tolist()  # 0 where there is no second one
    return [MapPhoto(path := sample.paths[i], sample.labels[i], x[i], y[i], made[path]) for i in sample.chosen.tolist()]


def make_thumbnails(
    context: "SparkContext", source: Place, photos: Photos, limits: Limits, side: int = SIDE_PIXELS
) -> dict[str, bytes]:
    """Small JPEGs of one photo or more, by path, `side` pixels at the longer side; empty where it cannot be read."""
    shares = min(4 * context.defaultParallelism, len(photos))
    groups = [photos[i::shares] for i in range(shares)]

    def task(group: Sequence[Photo]) -> tuple[int, dict[str, bytes]]:
        return len(group), thumbnails_of(source, group, limits, side)

    return {path: image for _, images in run_tasks(context, groups, task) for path, image in images.items()}


def thumbnails_of(source: Place, photos: Sequence[Photo], limits: Limits, side: int = SIDE_PIXELS) -> dict[str, bytes]:
    """One task: thumbnails of some photos."""
    made = {}

    def read(photo: Photo) -> tuple[Photo, bytes | PhotoError]:
        return photo, read_photo(source, photo, limits.max_bytes)

    for group in read_ahead(read, photos):
        for photo, content in group:
            try:
                image = thumbnail(content, side, limits.max_pixels) if isinstance(content, bytes) else b""
            except PhotoError:
                image = b""
            made[photo.path] = image
    return made
