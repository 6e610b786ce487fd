"""Parts of photos → parts of vectors: the Spark job around the network.

One task embeds one part. The network arrives by broadcast, each worker process builds it once and keeps it for the
tasks that follow; photos are read by the worker itself, several in flight ahead of the network; neither their bytes nor
the vectors cross the JVM. A photo that cannot be embedded becomes a row with its cause.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from verger.errors import Cause, PhotoError, RunFailedError
from verger.image import decode
from verger.parts import FINGERPRINT, VECTORS, Part, list_column, table_bytes
from verger.photos import Photo
from verger.session import run_tasks
from verger.stages import Progress
from verger.storage import Place

if TYPE_CHECKING:
    from pyspark import SparkContext

    from verger.network import Backbone, Network

BATCH_PHOTOS = 8  # more does not make the network faster on a CPU, and costs memory
# Photos are decoded in a row, then embedded in a row: in turns, each kind of work would find the caches full of the
# other's, and a photo takes 0.3 ms longer.
DECODED_PHOTOS, DECODED_BYTES = 64, 16_000_000
READS_IN_FLIGHT = 16
BYTES_IN_FLIGHT = 64_000_000


class Limits(NamedTuple):
    """What a photo may weigh."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True)
class EmbedResult:
    """What became of the photos of some parts."""

    embedded: list[Photo] = field(default_factory=list)
    failures: list[tuple[str, Cause]] = field(default_factory=list)  # path, cause

    @property
    def causes(self) -> Counter[str]:
        """How many photos failed, by cause."""
        return Counter(cause for _, cause in self.failures)


def embed_parts(
    context: "SparkContext",
    places: tuple[Place, Place],
    parts: Sequence[Part],
    backbone: "Backbone",
    limits: Limits,
    progress: Progress,
) -> EmbedResult:
    """Embed every part, one Spark task each, and write it to DEST.

    Args:
        context: Spark's.
        places: SOURCE and DEST.
        parts: what to embed; no part is in DEST yet.
        backbone: the network; broadcast once, whatever the number of tasks.
        limits: larger photos fail as `too_large` or `too_many_pixels`.
        progress: called with the number of photos done, as parts finish.
    """
    if not parts:
        return EmbedResult()
    source, dest = places
    weights = context.broadcast(backbone)
    threads = int(context.getConf().get("spark.task.cpus", "1") or 1)

    def task(part: Part) -> tuple[int, list[tuple[str, Cause]]]:
        failures = embed_part(part, (source, dest), weights.value, limits, threads)
        return len(part.photos), failures

    try:
        results = run_tasks(context, parts, task, progress)
    finally:
        weights.destroy()
    failures = [failure for _, of_part in results for failure in of_part]
    failed = {path for path, _ in failures}
    embedded = [photo for part in parts for photo in part.photos if photo.path not in failed]
    return EmbedResult(embedded, failures)


def embed_part(
    part: Part, places: tuple[Place, Place], backbone: "Backbone", limits: Limits, threads: int = 1
) -> list[tuple[str, Cause]]:
    """One task: read, decode, embed and write one part. Returns its failures."""
    source, dest = places
    network = _network(backbone, threads)
    at_once = max(BATCH_PHOTOS, min(DECODED_PHOTOS, DECODED_BYTES // (3 * backbone.image_size**2)))
    rows: list[dict[str, Any]] = []
    vectors: list[NDArray[np.float32]] = []
    decoded: list[NDArray[np.uint8]] = []
    for photo, content in read_ahead(source, part.photos, limits.max_bytes):
        row, pixels = _decode_row(photo, content, backbone.image_size, limits.max_pixels)
        rows.append(row)
        if pixels is not None:
            decoded.append(pixels)
        if len(decoded) == at_once:
            vectors += _embed(network, decoded)
            decoded.clear()
    vectors += _embed(network, decoded)
    matrix = np.concatenate(vectors) if vectors else np.empty((0, backbone.vector_length), np.float32)
    _check_finite(matrix, rows, backbone)
    dest.write(part.path, table_bytes(_table(rows, matrix, backbone.fingerprint)))
    return [(row["path"], row["error"]) for row in rows if row["error"]]


def _embed(network: "Network", photos: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    """The vectors of decoded photos, batch by batch."""
    batches = [photos[i : i + BATCH_PHOTOS] for i in range(0, len(photos), BATCH_PHOTOS)]
    return [network(np.stack(batch)) for batch in batches]


def _check_finite(vectors: NDArray[np.float32], rows: Sequence[dict[str, Any]], backbone: "Backbone") -> None:
    """One number that is none would spoil the components of every photo, so it ends the run."""
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        paths = [row["path"] for row in rows if row["error"] is None]
        raise RunFailedError(
            f"finite numbers from {backbone.name}",
            f"a vector with infinite ones, or none, for {paths[int(np.argmin(finite))]}",
            f"Check the network, and how it wants its pixels (--normalisation, now {backbone.normalisation}).",
        )


_loaded: dict[str, "Network"] = {}


def _network(backbone: "Backbone", threads: int) -> "Network":
    """The network, built once in this process and kept for the tasks that follow."""
    if backbone.fingerprint not in _loaded:
        _loaded.clear()  # one at a time: a network holds memory
        _loaded[backbone.fingerprint] = backbone.load(threads)
    return _loaded[backbone.fingerprint]


def read_ahead(place: Place, photos: Sequence[Photo], max_bytes: int) -> Iterator[tuple[Photo, bytes | PhotoError]]:
    """Read photos in order, several in flight, so that slow storage does not make the network wait.

    What is in flight is bounded in number and in bytes. A photo that cannot be read comes as a PhotoError.
    """
    waiting: deque[tuple[Photo, Future[bytes | PhotoError]]] = deque()
    in_flight = 0
    with ThreadPoolExecutor(READS_IN_FLIGHT, thread_name_prefix="read") as pool:
        for photo in photos:
            while waiting and (len(waiting) >= READS_IN_FLIGHT or in_flight + photo.bytes > BYTES_IN_FLIGHT):
                first, future = waiting.popleft()
                in_flight -= first.bytes
                yield first, future.result()
            waiting.append((photo, pool.submit(read_photo, place, photo, max_bytes)))
            in_flight += photo.bytes
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()


def read_photo(place: Place, photo: Photo, max_bytes: int) -> bytes | PhotoError:
    """A photo's bytes, or why there are none."""
    if photo.bytes > max_bytes:
        return PhotoError("too_large")
    try:
        content = place.read(photo.path)
    except FileNotFoundError:
        return PhotoError("vanished")
    except OSError:
        return PhotoError("unreadable")
    return content if len(content) <= max_bytes else PhotoError("too_large")


def _decode_row(
    photo: Photo, content: bytes | PhotoError, size: int, max_pixels: int
) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
    """The row of a photo without its vector, and its pixels where it has some."""
    row: dict[str, Any] = dict.fromkeys(VECTORS.names)
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


def _table(rows: Sequence[dict[str, Any]], vectors: NDArray[np.float32], fingerprint: str) -> pa.Table:
    """Rows, and the vectors (n, d) of those without error in the same order, as a table of the VECTORS schema."""
    places = np.cumsum([row["error"] is None for row in rows]) - 1
    taken = pa.array(places, mask=np.array([row["error"] is not None for row in rows]))
    columns = {name: pa.array([row[name] for row in rows], VECTORS.field(name).type) for name in VECTORS.names}
    columns["vector"] = list_column(vectors).take(taken)
    return pa.table(columns, schema=VECTORS.with_metadata({FINGERPRINT: fingerprint.encode()}))
