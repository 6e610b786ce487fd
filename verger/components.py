"""Parts of vectors → PCA statistics → parts of components: two Spark jobs over what `vectors.py` wrote.

Each task reads whole parts with pyarrow, so that no vector crosses the JVM.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
SHOWN_COMPONENTS = 32  # of a photo in a sample: enough to find its neighbours


@dataclass(frozen=True)
class Sample:
    """Photos picked evenly over the parts, in their order, as columns: for the report's map, and for the recogniser."""

    paths: list[str]  # n
    labels: list[str]  # n
    components: NDArray[np.float32]  # (n, m): the first m = min(k, SHOWN_COMPONENTS) of each
    chosen: NDArray[np.int64]  # (c,) places among the n, ascending: the photos whose vectors are here too
    vectors: NDArray[np.float32]  # (c, d)


@dataclass(frozen=True)
class Picking:
    """How many photos a sample holds at most, of how many there are."""

    photos: int
    shown: int = 100_000  # on the report's map
    chosen: int = 2_000  # with a thumbnail there; and they tell how sure a recogniser may be

    @property
    def every(self) -> int:
        """Of a part, every so many photos are shown."""
        return max(1, -(-self.photos // self.shown))

    @property
    def chosen_every(self) -> int:
        """Of those shown, every so many give their vectors."""
        return max(1, -(-self.photos // (self.chosen * self.every)))


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
    picking: Picking,
    progress: Progress,
) -> Sample:
    """Write the components of every vector in the named parts; returns a sample of the photos."""
    broadcast = context.broadcast(projection)

    def task(name: str) -> tuple[int, Sample]:
        return project_part(dest, name, broadcast.value, picking)

    try:
        results = run_tasks(context, names, task, progress)
    finally:
        broadcast.destroy()
    return join_samples([sample for _, sample in results], picking)


def project_part(dest: Place, name: str, projection: Projection, picking: Picking) -> tuple[int, Sample]:
    """One task: one part of vectors → one part of components. Returns the number of rows and a sample of them."""
    table = _read(dest, name, ["path", "label", "vector"])
    vectors = vector_matrix(table["vector"], len(projection.mean))
    components = projection.apply(vectors)  # (n, k)
    columns = [table["path"], table["label"], list_column(components)]
    dest.write(components_path(name), table_bytes(pa.table(columns, schema=COMPONENTS)))
    shown = np.arange(0, len(table), picking.every)
    chosen = np.arange(0, len(shown), picking.chosen_every)
    picked = table.select(["path", "label"]).take(pa.array(shown))
    return len(table), Sample(
        picked["path"].to_pylist(),
        picked["label"].to_pylist(),
        components[shown, :SHOWN_COMPONENTS],
        chosen,
        vectors[shown[chosen]],
    )


def join_samples(samples: Sequence[Sample], picking: Picking) -> Sample:
    """The samples of all parts as one, thinned evenly where many small parts gave more than was asked."""
    firsts = np.cumsum([0, *(len(sample.paths) for sample in samples)])
    paths = [path for sample in samples for path in sample.paths]
    labels = [label for sample in samples for label in sample.labels]
    chosen = np.concatenate([sample.chosen + first for sample, first in zip(samples, firsts, strict=False)])
    vectors = np.concatenate([sample.vectors for sample in samples])
    kept = _thinned(len(chosen), picking.chosen)
    shown = _thinned(len(paths), picking.shown)
    shown = np.union1d(shown, chosen[kept]) if len(shown) < len(paths) else shown  # a few more, rather than fewer
    return Sample(
        [paths[i] for i in shown],
        [labels[i] for i in shown],
        np.concatenate([sample.components for sample in samples])[shown],
        np.searchsorted(shown, chosen[kept]),
        vectors[kept],
    )


def _thinned(count: int, most: int) -> NDArray[np.int64]:
    """Places of at most so many of `count`, evenly spread."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64)


def _read(dest: Place, name: str, columns: list[str]) -> pa.Table:
    """Columns of a part, without the rows of photos that failed."""
    with dest.open(vectors_path(name)) as content:
        table = pq.read_table(content, columns=columns)
    return table.filter(pc.is_valid(table["vector"])) if table["vector"].null_count else table
