"""Photos in an Arrow array → their vectors: what a worker does in somebody else's Spark job.

The array holds the photos' bytes, or their paths, which the worker then reads itself, several in flight ahead of the
network. Everything goes in groups, so that a batch of any length takes little memory beside its own.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from verger.errors import Cause, PhotoError, RunFailedError
from verger.image import decode
from verger.network import Backbone, place_task
from verger.parts import list_column
from verger.photos import Photo
from verger.reading import GROUP_BYTES, READS_IN_FLIGHT, ahead, read_photo, readers
from verger.settings import Limits
from verger.storage import Place, open_place
from verger.vectors import Pixels, check_finite, group_pixels, loaded

Sized = tuple[Place, Photo] | PhotoError  # where a photo is, and its size; or why it cannot be read


class Shared(Protocol):
    """A network on its way to the workers: one of Spark's broadcasts, or what stands for it."""

    @property
    def value(self) -> Backbone:
        """The network."""


@dataclass(frozen=True)
class Task:
    """What a worker must know to embed photos. It travels with the job."""

    network: Shared
    limits: Limits
    device: str = "cpu"
    strict: bool = False  # a photo that cannot be embedded ends the job


def embed_batches(
    batches: Iterable[pa.RecordBatch], column: int, added: tuple[str, str], task: Task
) -> Iterator[pa.RecordBatch]:
    """Every batch with two more columns, vector and cause, in smaller batches; rows in their order.

    Args:
        batches: at any length.
        column: which of theirs holds the photos, as bytes or as paths.
        added: names of the two columns.
        task: how to embed them.

    Raises:
        RunFailedError: the network gives no finite numbers, or the task is strict and a photo cannot be embedded.
    """
    vector, error = added
    for batch in batches:
        done = 0
        schema = pa.schema([*batch.schema, (vector, pa.list_(pa.float32())), (error, pa.string())])
        for vectors, causes in embed_array(batch.column(column), task):
            rows = batch.slice(done, len(causes))
            columns = [*rows.columns, vectors.cast(schema.field(vector).type), pa.array(causes, pa.string())]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
            done += len(causes)


def embed_array(photos: pa.Array, task: Task) -> Iterator[tuple[pa.Array, list[Cause | None]]]:
    """Groups of photos in their order: vectors, null where there is none, and the causes of that, None elsewhere."""
    backbone, limits = task.network.value, task.limits
    placement = place_task(task.device, _threads())
    network = loaded(backbone, placement)
    side = backbone.image_size
    pixels = group_pixels(side, len(photos))

    def decoded(content: bytes | PhotoError) -> Pixels | PhotoError:
        try:
            return content if isinstance(content, PhotoError) else decode(content, side, limits.max_pixels).pixels
        except PhotoError as error:
            return error

    # As in vectors.py: only beside a GPU is anything won by decoding in threads.
    with nullcontext() if placement.gpu is None else ThreadPoolExecutor(READS_IN_FLIGHT) as pool:
        for group in _contents(photos, limits.max_bytes, len(pixels)):
            causes: list[Cause | None] = []
            ready = 0
            for photo in pool.map(decoded, group) if pool else map(decoded, group):
                if isinstance(photo, PhotoError):
                    causes.append(photo.cause)
                    continue
                causes.append(None)
                pixels[ready] = photo
                ready += 1
            vectors = network(pixels[:ready])
            _check(vectors, causes, backbone, strict=task.strict)
            yield _with_nulls(vectors, causes), causes


def _threads() -> int:
    """How many processors Spark gave this task (spark.task.cpus)."""
    from pyspark import TaskContext

    task = TaskContext.get()
    return task.cpus() if task else 1


def _check(vectors: NDArray[np.float32], causes: Sequence[Cause | None], backbone: Backbone, *, strict: bool) -> None:
    check_finite(vectors, [{"path": "a photo", "error": cause} for cause in causes], backbone)
    cause = next(filter(None, causes), None)
    if strict and cause:
        raise RunFailedError(
            "only photos that can be embedded, as handleInvalid='error' asks",
            f"one that fails as {cause}",
            "Set handleInvalid to 'skip' or 'keep'; with errorCol, every photo's cause stands in a column.",
        )


def _with_nulls(vectors: NDArray[np.float32], causes: Sequence[Cause | None]) -> pa.Array:
    """The vectors (n, d) of the photos without cause, in their order, and nulls between them."""
    failed = np.array([cause is not None for cause in causes])
    return list_column(vectors).take(pa.array(np.cumsum(~failed) - 1, mask=failed))


def _contents(photos: pa.Array, max_bytes: int, size: int) -> Iterator[Iterable[bytes | PhotoError]]:
    """The bytes of photos, or why there are none, in groups of at most `size`."""
    if pa.types.is_binary(photos.type) or pa.types.is_large_binary(photos.type):
        for start in range(0, len(photos), size):
            # One by one: a photo is copied out of Arrow's memory, and its copy is gone before the next.
            yield (_content(value, max_bytes) for value in photos.slice(start, size))
    else:
        yield from read_paths(photos, max_bytes, size)


def _content(value: pa.Scalar, max_bytes: int) -> bytes | PhotoError:
    if not value.is_valid:
        return PhotoError("unreadable")
    content: pa.Buffer = value.as_buffer()
    return content.to_pybytes() if content.size <= max_bytes else PhotoError("too_large")


def read_paths(paths: pa.Array, max_bytes: int, size: int) -> Iterator[list[bytes | PhotoError]]:
    """Photos' bytes, in groups, while the next group is on its way; bounded in number and in bytes.

    Nobody listed these files, so each is asked for its size before it is read, yet another group ahead.

    Raises:
        SettingError: a path is an address of a kind that `verger.storage.open_place` does not know.
    """

    def read(file: Sized) -> bytes | PhotoError:
        return file if isinstance(file, PhotoError) else read_photo(*file, max_bytes)

    with readers() as pool:
        some = (paths.slice(start, size).to_pylist() for start in range(0, len(paths), size))
        files = chain.from_iterable(ahead(_size, some, pool))
        yield from ahead(read, _grouped(files, size), pool)


def _grouped(files: Iterable[Sized], size: int) -> Iterator[list[Sized]]:
    """Groups of at most `size` files and GROUP_BYTES bytes, or of one file."""
    group: list[Sized] = []
    held = 0
    for file in files:
        length = 0 if isinstance(file, PhotoError) else file[1].bytes
        if group and (len(group) == size or held + length > GROUP_BYTES):
            yield group
            group, held = [], 0
        group.append(file)
        held += length
    if group:
        yield group


def _size(path: str | None) -> Sized:
    if path is None:
        return PhotoError("unreadable")
    place, name = locate(path)
    try:
        with place.open(name) as file:
            return place, Photo(name, "", file.size(), 0)
    except FileNotFoundError:
        return PhotoError("vanished")
    except (OSError, ValueError):  # or a name that no file can have
        return PhotoError("unreadable")


def locate(path: str) -> tuple[Place, str]:
    """The place of a file and its name there. One place for a whole bucket: each would open a connection of its own.

    Spark writes `file:` paths in two ways: `binaryFile` with a name's own `%`, `input_file_name` with escapes. A file
    that is there under the literal name is meant.
    """
    scheme, colon, rest = path.partition(":")
    if colon and scheme != "file" and rest.startswith("//"):
        authority, _, key = rest[2:].partition("/")
        return open_place(f"{scheme}://{authority}/"), key
    literal = path
    if scheme == "file":
        literal = f"/{rest.lstrip('/')}"
        if "%" in rest and not Path(literal).exists():
            literal = open_place(path).uri
    folder, _, name = literal.rpartition("/")
    return open_place(folder or ("/" if literal.startswith("/") else ".")), name
