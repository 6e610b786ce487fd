"""Parts: the files of vectors and components, their schema, names and index.

A part is the unit of work, of retry and of commit. It is named by its content and appears whole or not at all.
"""

import hashlib
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from verger.errors import SettingError
from verger.photos import PHOTOS, Photo, Photos
from verger.storage import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, Place

FINGERPRINT = b"verger.fingerprint"
MODIFIED = pa.timestamp("us", tz="UTC")
VECTORS = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("bytes", pa.int64()),
        ("modified", MODIFIED),
        ("digest", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("vector", pa.list_(pa.float32())),
        ("error", pa.string()),
    ]
)
COMPONENTS = pa.schema([("path", pa.string()), ("label", pa.string()), ("components", pa.list_(pa.float32()))])
# Aims of the planning: enough parts to show progress, small ones last so that all cores end together, no tiny files.
PARTS_PER_CORE, SMALLEST_PART = 8, 64
TINY_PART = 8  # photos: below that, keeping one more core busy is not worth one more file


class Part(NamedTuple):
    """Photos that one task embeds into one file."""

    name: str
    photos: Sequence[Photo]

    @property
    def path(self) -> str:
        """Where the part's vectors lie in DEST."""
        return vectors_path(self.name)


def vectors_path(name: str) -> str:
    """Where a part's vectors lie in DEST."""
    return f"vectors/part-{name}.parquet"


def components_path(name: str) -> str:
    """Where a part's components lie in DEST."""
    return f"components/part-{name}.parquet"


def name_part(photos: Iterable[Photo], fingerprint: str) -> str:
    """A part's name: a digest of the network and of the photos in it, 20 hex digits."""
    digest = hashlib.sha256(fingerprint.encode())
    for photo in photos:
        digest.update(f"\0{photo.path}\0{photo.label}\0{photo.bytes}\0{photo.modified_us}".encode())
    return digest.hexdigest()[:20]


def plan_parts(photos: Photos, part_photos: int, cores: int, fingerprint: str) -> list[Part]:
    """Cut photos into parts of at most `part_photos` each, the largest first."""
    bounds = [0, *accumulate(part_lengths(len(photos), part_photos, cores))]
    slices = [photos[low:high] for low, high in pairwise(bounds)]
    return [Part(name_part(piece, fingerprint), piece) for piece in slices]


def part_lengths(count: int, most: int, cores: int) -> list[int]:
    """How many photos each part takes, so that a small run keeps every core busy, and all cores end together.

    Towards the end, a part is half of a core's share of what is left: guided self-scheduling (Polychronopoulos and
    Kuck 1987, IEEE Transactions on Computers C-36).
    """
    if count == 0:
        return []
    share = -(-count // min(cores, -(-count // TINY_PART)))  # of every core
    most = min(most, max(2 * SMALLEST_PART, -(-share // PARTS_PER_CORE)))
    least = share if share <= 2 * SMALLEST_PART else SMALLEST_PART
    lengths = []
    while count:
        lengths.append(min(count, most, max(least, count // (2 * cores))))
        count -= lengths[-1]
    return lengths


def table_bytes(table: pa.Table) -> pa.Buffer:
    """A table as the content of a Parquet file; the same table gives the same bytes."""
    out = pa.BufferOutputStream()
    # A dictionary of floats that hardly ever repeat is work for nothing.
    repeated = [name for name in ("label", "error") if name in table.column_names]
    pq.write_table(table, out, compression="zstd", use_dictionary=repeated)
    return out.getvalue()


def vector_matrix(column: pa.ChunkedArray, length: int) -> NDArray[np.float32]:
    """A column of n lists of `length` floats, none null, as an (n, length) array."""
    flat: NDArray[np.float32] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), length)


def list_column(matrix: NDArray[np.float32]) -> pa.ListArray:
    """An (n, d) array as a column of n lists of d floats."""
    count, length = matrix.shape
    offsets = pa.array(np.arange(count + 1, dtype=np.int32) * length)
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(matrix, np.float32).reshape(-1)))


INDEX = pa.schema([*PHOTOS, ("error", pa.string())])


@dataclass(frozen=True)
class IndexedPart:
    """A part found in DEST: its name, the network that made it, and its rows without the vectors."""

    name: str
    fingerprint: str
    rows: pa.Table  # of the INDEX schema


def read_index(dest: Place) -> list[IndexedPart]:
    """The parts of vectors in DEST, in the order of their names, read without their vectors.

    Raises:
        SettingError: a file in vectors/ is no part of Verger's.
    """
    names = part_names(dest, "vectors")
    with ThreadPoolExecutor(16) as pool:  # mostly waiting for storage
        return list(pool.map(lambda name: _read_rows(dest, name), names))


def part_names(dest: Place, folder: str) -> list[str]:
    """The names of the parts in `vectors` or `components`, sorted."""
    names = []
    for file in dest.files(folder):
        name = file.path.rpartition("/")[2]
        if name.startswith("part-") and name.endswith(".parquet"):
            names.append(name.removeprefix("part-").removesuffix(".parquet"))
    return sorted(names)


def _read_rows(dest: Place, name: str) -> IndexedPart:
    try:
        with dest.open(vectors_path(name)) as content, pq.ParquetFile(content) as file:
            fingerprint = (file.schema_arrow.metadata or {}).get(FINGERPRINT, b"").decode()
            table = file.read(["path", "label", "bytes", "modified", "error"])
            table = table.set_column(3, "modified_us", table["modified"].cast(pa.int64())).cast(INDEX)
    except (PermissionError, TimeoutError, FileNotFoundError):
        raise  # the storage's fault, not the part's: nobody should delete it for that
    except (pa.ArrowException, OSError, KeyError) as error:
        raise SettingError(
            "whole Parquet parts in vectors/",
            f"{vectors_path(name)}: {error}",
            "Delete that file and run again: its photos are embedded anew.",
        ) from error
    return IndexedPart(name, fingerprint, table)


def rewrite_part(dest: Place, part: IndexedPart, kept: Sequence[Photo]) -> str:
    """Write a part that holds only the `kept` photos of another, with their labels as given. Returns its name."""
    labels = {photo.path: photo.label for photo in kept}
    with dest.open(vectors_path(part.name)) as content:
        table = pq.read_table(io.BytesIO(content.read()))
    table = table.filter(pa.array([path in labels for path in table["path"].to_pylist()]))
    paths = table["path"].to_pylist()
    table = table.set_column(1, "label", pa.array([labels[path] for path in paths], pa.string()))
    name = name_part(kept, part.fingerprint)
    dest.write(vectors_path(name), table_bytes(table))
    return name


def remove_strangers(dest: Place, names: Iterable[str]) -> None:
    """Delete every file of vectors/ and components/ that is not one of the named parts, unfinished ones included.

    A run killed a moment ago may have workers that still finish a part; the run that follows does not want it.
    """
    wanted = {path for name in names for path in (vectors_path(name), components_path(name))}
    for folder in ("vectors", "components"):
        for file in list(dest.files(folder)):
            name = file.path.rpartition("/")[2]
            ours = name.startswith("part-") or (name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX))
            if ours and file.path not in wanted:
                dest.delete(file.path)
