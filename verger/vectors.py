"""Parts of photos → parts of vectors: the Spark job around the network.

One task embeds one part. The network arrives by broadcast, each worker process builds it once and keeps it for the
tasks that follow; photos are read by the worker itself, several in flight ahead of the network; neither their bytes nor
the vectors cross the JVM. A photo that cannot be embedded becomes a row with its cause.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from verger.errors import Cause, PhotoError, RunFailedError
from verger.image import decode
from verger.network import ONE_THREAD, Placement, place_task
from verger.parts import FINGERPRINT, VECTORS, Part, list_column, table_bytes
from verger.photos import Photo
from verger.reading import GROUP_PHOTOS, read_ahead, read_photo
from verger.session import run_tasks
from verger.settings import Limits, Settings
from verger.stages import Progress
from verger.storage import Place

if TYPE_CHECKING:
    from pyspark import SparkContext

    from verger.network import Backbone, Network

Row = dict[str, Any]  # of the VECTORS schema
Pixels = NDArray[np.uint8]  # (size, size, 3)

GROUP_PIXEL_BYTES = 16_000_000


@dataclass(frozen=True)
class EmbedResult:
    """What became of the photos of some parts."""

    photos: int  # failed ones included
    labels: Counter[str]  # embedded photos of each label
    failures: Sequence[tuple[str, Cause]]  # path, cause

    @property
    def embedded(self) -> int:
        """How many photos have a vector now that had none before."""
        return self.photos - len(self.failures)

    @property
    def causes(self) -> Counter[str]:
        """How many photos failed, by cause."""
        return Counter(cause for _, cause in self.failures)


def embed_parts(
    context: "SparkContext",
    places: tuple[Place, Place],
    parts: Sequence[Part],
    backbone: "Backbone",
    settings: Settings,
    progress: Progress,
) -> EmbedResult:
    """Embed every part, one Spark task each, and write it to DEST.

    Args:
        context: Spark's.
        places: SOURCE and DEST.
        parts: what to embed; no part is in DEST yet.
        backbone: the network; broadcast once, whatever the number of tasks.
        settings: the limits (larger photos fail as `too_large` or `too_many_pixels`), and the device.
        progress: called with the number of photos done, as parts finish.
    """
    if not parts:
        return EmbedResult(0, Counter(), [])
    source, dest = places
    weights = context.broadcast(backbone)
    threads = int(context.getConf().get("spark.task.cpus", "1") or 1)
    limits, device = settings.limits, settings.device

    def task(part: Part) -> tuple[int, tuple[Counter[str], list[tuple[str, Cause]]]]:
        return len(part.photos), embed_part(part, (source, dest), weights.value, limits, place_task(device, threads))

    try:
        results = run_tasks(context, parts, task, progress)
    finally:
        weights.destroy()
    labels: Counter[str] = Counter()
    for _, (of_part, _) in results:
        labels.update(of_part)
    failures = [failure for _, (_, of_part) in results for failure in of_part]
    return EmbedResult(sum(count for count, _ in results), labels, failures)


def embed_part(
    part: Part, places: tuple[Place, Place], backbone: "Backbone", limits: Limits, placement: Placement = ONE_THREAD
) -> tuple[Counter[str], list[tuple[str, Cause]]]:
    """One task: read, decode, embed and write one part. Counts its vectors by label, and returns its failures."""
    source, dest = places
    network = loaded(backbone, placement)
    side = backbone.image_size
    pixels = group_pixels(side)
    vectors = np.empty((len(part.photos), backbone.vector_length), np.float32)
    rows: list[Row] = []
    done = 0
    for group in _decoded(source, part.photos, limits, (len(pixels), side), in_threads=placement.gpu is not None):
        ready = 0
        for row, photo in group:
            rows.append(row)
            if photo is not None:
                pixels[ready] = photo
                ready += 1
        vectors[done : done + ready] = network(pixels[:ready])
        done += ready
    check_finite(vectors[:done], rows, backbone)
    dest.write(part.path, table_bytes(_table(rows, vectors[:done], backbone.fingerprint)))
    labels = Counter(row["label"] for row in rows if not row["error"])
    return labels, [(row["path"], row["error"]) for row in rows if row["error"]]


def group_pixels(side: int, most: int = GROUP_PHOTOS) -> NDArray[np.uint8]:
    """Room for a group of at most `most` decoded photos, uint8 (n, side, side, 3), bounded in bytes too."""
    return np.empty((min(GROUP_PHOTOS, most, max(1, GROUP_PIXEL_BYTES // (3 * side**2))), side, side, 3), np.uint8)


def _decoded(
    source: Place, photos: Sequence[Photo], limits: Limits, group: tuple[int, int], *, in_threads: bool
) -> Iterator[Iterable[tuple[Row, Pixels | None]]]:
    """The rows of photos without their vectors, and their pixels; in groups of `group[0]`, `group[1]` pixels square.

    A GPU is so fast that decoding needs every core beside it. A processor that runs the network itself has nothing to
    win from threads that decode; there, a whole group is decoded in a row, because in turns each kind of work would
    find the caches full of the other's, and a photo takes 0.3 ms longer.
    """
    group_photos, side = group

    def fetch(photo: Photo) -> tuple[Photo, bytes | PhotoError]:
        return photo, read_photo(source, photo, limits.max_bytes)

    def decode_row(fetched: tuple[Photo, bytes | PhotoError]) -> tuple[Row, Pixels | None]:
        return _decode_row(*fetched, side, limits.max_pixels)

    if in_threads:
        return read_ahead(lambda photo: decode_row(fetch(photo)), photos, group_photos)
    return (map(decode_row, fetched) for fetched in read_ahead(fetch, photos, group_photos))


def check_finite(vectors: NDArray[np.float32], rows: Sequence[Row], backbone: "Backbone") -> None:
    """One number that is none would spoil the components of every photo, so it ends the run."""
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        paths = [row["path"] for row in rows if row["error"] is None]
        raise RunFailedError(
            f"finite numbers from {backbone.name}",
            f"a vector with infinite ones, or none, for {paths[int(np.argmin(finite))]}",
            f"Check the network, and how it wants its pixels (--normalisation, now {backbone.normalisation}).",
        )


_loaded: dict[tuple[str, Placement], "Network"] = {}


def loaded(backbone: "Backbone", placement: Placement) -> "Network":
    """The network, built once in this process and kept for the tasks that follow."""
    key = backbone.fingerprint, placement
    if key not in _loaded:
        _loaded.clear()  # one at a time: a network holds memory
        _loaded[key] = backbone.load(placement)
    return _loaded[key]


def _decode_row(photo: Photo, content: bytes | PhotoError, size: int, max_pixels: int) -> tuple[Row, Pixels | None]:
    """The row of a photo without its vector, and its pixels where it has some."""
    row: Row = dict.fromkeys(VECTORS.names)
    row.update(path=photo.path, label=photo.label, bytes=photo.bytes, modified=photo.modified_us)
    if isinstance(content, PhotoError):
        row["error"] = content.cause
        return row, None
    row["digest"] = hashlib.sha256(content).hexdigest()
    try:
        decoded = decode(content, size, max_pixels)
    except PhotoError as error:
        row["error"] = error.cause
        return row, None
    row.update(width=decoded.width, height=decoded.height)
    return row, decoded.pixels


def _table(rows: Sequence[Row], vectors: NDArray[np.float32], fingerprint: str) -> pa.Table:
    """Rows, and the vectors (n, d) of those without error in the same order, as a table of the VECTORS schema."""
    places = np.cumsum([row["error"] is None for row in rows]) - 1
    taken = pa.array(places, mask=np.array([row["error"] is not None for row in rows]))
    columns = {name: pa.array([row[name] for row in rows], VECTORS.field(name).type) for name in VECTORS.names}
    columns["vector"] = list_column(vectors).take(taken)
    return pa.table(columns, schema=VECTORS.with_metadata({FINGERPRINT: fingerprint.encode()}))
