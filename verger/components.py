"""Parts of vectors → PCA statistics → parts of components: two Spark jobs over what `vectors.py` wrote.

Each task reads whole parts with pyarrow, so that no vector crosses the JVM.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from verger.errors import RunFailedError
from verger.labels import folder_of
from verger.parts import COMPONENTS, components_path, list_column, table_bytes, vector_matrix, vectors_path
from verger.projection import Projection, Statistics
from verger.session import explained_failures, run_tasks
from verger.stages import Progress
from verger.storage import Place

if TYPE_CHECKING:
    from pyspark import SparkContext


BLOCK_VECTORS = 2048


class Sampled(NamedTuple):
    """A photo picked for the report's map, at its first two components, and for how sure a recogniser may be."""

    path: str
    label: str
    x: float
    y: float
    vector: NDArray[np.float32]  # (d,)


def gather_statistics(context: "SparkContext", dest: Place, names: Sequence[str]) -> Statistics:
    """Count, mean and centred cross-products of every vector in the named parts.

    Each core sums up its share of the parts, and the sums (d² numbers each) are merged pairwise in a tree, so that the
    driver receives a few of them whatever the number of parts.

    Raises:
        RunFailedError: there is no vector at all.
    """
    shares = min(len(names), context.defaultParallelism)
    with explained_failures():
        merged = (
            context.parallelize(names, max(1, shares))
            .mapPartitions(lambda share: [_statistics(dest, share)])
            .treeReduce(_merge)
        )
    if merged is None:
        raise RunFailedError("at least one photo that could be embedded", "none", "Mend them, and run again.")
    return merged


def _statistics(dest: Place, names: Iterable[str]) -> Statistics | None:
    total: Statistics | None = None
    for vectors, paths in vector_blocks(dest, names):
        total = _merge(total, Statistics.of(vectors, list(map(folder_of, paths))))
    return total


def vector_blocks(dest: Place, names: Iterable[str]) -> Iterator[tuple[NDArray[np.float32], list[str]]]:
    """The vectors (n, d) of parts, and the paths of their photos.

    Small parts are put together: merging sums takes as long as summing 500 vectors.
    """
    waiting: list[NDArray[np.float32]] = []
    paths: list[str] = []
    for name in names:
        table = _read(dest, name, ["path", "vector"])
        if len(table):  # a part may hold failed photos only
            waiting.append(vector_matrix(table["vector"], len(table["vector"][0])))
            paths += table["path"].to_pylist()
        if len(paths) >= BLOCK_VECTORS:
            yield np.concatenate(waiting), paths
            waiting, paths = [], []
    if waiting:
        yield np.concatenate(waiting), paths


def _merge(a: Statistics | None, b: Statistics | None) -> Statistics | None:
    return a.merge(b) if a and b else a or b


def project_parts(
    context: "SparkContext",
    dest: Place,
    names: Sequence[str],
    projection: Projection,
    every: int,
    progress: Progress,
) -> list[Sampled]:
    """Write the components of every vector in the named parts; returns every `every`-th photo for the report."""
    broadcast = context.broadcast(projection)

    def task(name: str) -> tuple[int, list[Sampled]]:
        return project_part(dest, name, broadcast.value, every)

    try:
        results = run_tasks(context, names, task, progress)
    finally:
        broadcast.destroy()
    return [sampled for _, of_part in results for sampled in of_part]


def project_part(dest: Place, name: str, projection: Projection, every: int) -> tuple[int, list[Sampled]]:
    """One task: one part of vectors → one part of components. Returns the number of rows and a sample of them."""
    table = _read(dest, name, ["path", "label", "vector"])
    vectors = vector_matrix(table["vector"], len(projection.mean))
    components = projection.apply(vectors)  # (n, k)
    columns = [table["path"], table["label"], list_column(components)]
    dest.write(components_path(name), table_bytes(pa.table(columns, schema=COMPONENTS)))
    picked = table.select(["path", "label"]).take(pa.array(range(0, len(table), every), pa.int64())).to_pylist()
    positions = components[::every]
    return len(table), [
        Sampled(row["path"], row["label"], float(at[0]), float(at[1]) if len(at) > 1 else 0.0, vector)
        for row, at, vector in zip(picked, positions, vectors[::every], strict=True)
    ]


def _read(dest: Place, name: str, columns: list[str]) -> pa.Table:
    """Columns of a part, without the rows of photos that failed."""
    with dest.open(vectors_path(name)) as content:
        table = pq.read_table(content, columns=columns)
    return table.filter(pc.is_valid(table["vector"])) if table["vector"].null_count else table
