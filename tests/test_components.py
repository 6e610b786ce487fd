from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from verger.components import Picking, gather_statistics, join_samples, project_part, project_parts
from verger.errors import RunFailedError
from verger.parts import VECTORS, components_path, list_column, table_bytes, vectors_path
from verger.projection import Statistics, fit_projection
from verger.spark_pca import write_spark_pca
from verger.storage import Folder

LENGTH, PER_PART = 12, 25


def vectors(count: int = 4 * PER_PART) -> np.ndarray:
    rng = np.random.default_rng(3)
    return (rng.normal(size=(count, LENGTH)) @ rng.normal(size=(LENGTH, LENGTH)) + 2).astype(np.float32)


@pytest.fixture
def dest(tmp_path: Path) -> Folder:
    """Four parts of 25 vectors, and a fifth that holds only a failed photo."""
    import pyarrow as pa

    place = Folder(str(tmp_path))
    for i, block in enumerate([*np.split(vectors(), 4), np.empty((0, LENGTH), np.float32)]):
        paths = [f"{i}/{j:02}" for j in range(len(block))]
        columns = {"path": paths, "label": [str(i)] * len(block), "vector": list_column(block)}
        rows = pa.table({f.name: columns.get(f.name, pa.nulls(len(block), f.type)) for f in VECTORS}, schema=VECTORS)
        failed = pa.table({f.name: pa.array(["x"] if f.name in {"path", "error"} else [None], f.type) for f in VECTORS})
        place.write(vectors_path(f"{i}"), table_bytes(pa.concat_tables([rows, failed])))
    return place


NAMES = ["0", "1", "2", "3", "4"]


@pytest.mark.spark
def test_statistics_gathered_in_spark_are_those_of_all_vectors(spark, dest: Folder) -> None:
    gathered, whole = gather_statistics(spark.sparkContext, dest, NAMES), Statistics.of(vectors())
    assert gathered.count == 100
    np.testing.assert_allclose(gathered.mean, whole.mean, rtol=1e-9)
    np.testing.assert_allclose(gathered.scatter, whole.scatter, rtol=1e-9)


@pytest.mark.spark
def test_no_vector_at_all_is_said(spark, dest: Folder) -> None:
    with pytest.raises(RunFailedError, match="at least one photo"):
        gather_statistics(spark.sparkContext, dest, ["4"])


@pytest.mark.spark
def test_components_equal_spark_mls_and_its_model_reads_ours(spark, dest: Folder) -> None:
    from pyspark.ml.feature import PCA, PCAModel
    from pyspark.ml.linalg import Vectors

    projection = fit_projection(gather_statistics(spark.sparkContext, dest, NAMES), 5)
    frame = spark.createDataFrame([(Vectors.dense(v),) for v in vectors().tolist()], ["vector"])
    theirs = PCA(k=5, inputCol="vector", outputCol="components").fit(frame)
    loadings = theirs.pc.toArray()
    signs = np.sign(np.sum(loadings * projection.components, axis=0))
    np.testing.assert_allclose(projection.components * signs, loadings, rtol=1e-6, atol=1e-9)
    shares = projection.variance / projection.total_variance
    np.testing.assert_allclose(shares, theirs.explainedVariance.toArray(), rtol=1e-6)

    write_spark_pca(projection, dest, "model/spark-pca")
    loaded = PCAModel.load(f"{dest.root}/model/spark-pca")
    np.testing.assert_array_equal(loaded.pc.toArray(), projection.components)
    np.testing.assert_array_equal(loaded.explainedVariance.toArray(), shares)
    transformed = np.array([row.components.toArray() for row in loaded.transform(frame).collect()])
    constant = projection.mean @ projection.components  # Spark's model does not subtract the mean
    np.testing.assert_allclose(transformed - constant, projection.apply(vectors()), atol=1e-5)


@pytest.mark.spark
def test_every_vector_is_projected_and_photos_are_picked_evenly(spark, dest: Folder) -> None:
    projection = fit_projection(Statistics.of(vectors()), 3)
    done: list[int] = []
    sample = project_parts(spark.sparkContext, dest, NAMES, projection, Picking(100, shown=20, chosen=10), done.append)
    assert done[-1] == 100
    written = np.concatenate(
        [np.array(pq.read_table(Path(dest.root, components_path(n)))["components"].to_pylist()) for n in NAMES[:4]]
    )
    expected = projection.apply(vectors())
    np.testing.assert_array_equal(written.astype(np.float32), expected)
    every_fifth = np.arange(0, 100, 5)
    assert sample.paths == [f"{i // 25}/{i % 25:02}" for i in every_fifth]
    assert sample.labels == [f"{i // 25}" for i in every_fifth]
    np.testing.assert_array_equal(sample.components, expected[every_fifth])
    chosen = [sample.paths[i] for i in sample.chosen]  # of each part every second: twelve of them, so two fall out
    assert chosen == ["0/00", "0/10", "0/20", "1/00", "1/10", "2/00", "2/10", "2/20", "3/00", "3/20"]
    by_path = {f"{i // 25}/{i % 25:02}": vector for i, vector in enumerate(vectors())}
    np.testing.assert_array_equal(sample.vectors, [by_path[path] for path in chosen])


def test_a_sample_holds_no_more_than_asked_however_small_the_parts(dest: Folder) -> None:
    projection, picking = fit_projection(Statistics.of(vectors()), 4), Picking(100, shown=3, chosen=2)
    samples = [project_part(dest, name, projection, picking)[1] for name in NAMES]
    assert [len(sample.paths) for sample in samples] == [1, 1, 1, 1, 0]
    sample = join_samples(samples, picking)
    assert sample.paths == ["0/00", "1/00", "3/00"]
    assert [sample.paths[i] for i in sample.chosen] == ["0/00", "3/00"]
    np.testing.assert_array_equal(sample.vectors, vectors()[[0, 75]])
