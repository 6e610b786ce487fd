import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clusters import environment, spark_home
from conftest import mean_colour, write_photo

import verger
from verger.backbone import load_backbone
from verger.batches import Task, embed_array, locate, read_paths
from verger.dataframe import Carried, need_pandas
from verger.errors import MissingError, PhotoError, RunFailedError, SettingError
from verger.parts import plan_parts
from verger.photos import list_photos
from verger.settings import Limits
from verger.storage import Folder
from verger.vectors import embed_part

NO_LIMITS = Limits(10**9, 10**8)
spark_only = pytest.mark.spark


@pytest.fixture
def bad_photos(photos: Path) -> Path:
    """The photos, two broken ones among them."""
    (photos / "apple" / "02a.jpg").write_bytes(b"words")
    (photos / "pear" / "08a%41 b.jpg").write_bytes((photos / "pear" / "08.jpg").read_bytes()[:300])
    return photos


@pytest.fixture
def files(spark, bad_photos: Path):
    return spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(str(bad_photos))


def results(dataframe) -> dict[str, tuple]:
    """What became of each photo, by the end of its path."""
    return {"/".join(row.path.split("/")[-2:]): (row.vector, row.error) for row in dataframe.collect()}


def of_a_run(source: Path, dest: Path, backbone) -> dict[str, tuple]:
    """The same from `embed_part`, the heart of `verger run`."""
    places = Folder(str(source)), Folder(str(dest))
    part = plan_parts(list_photos(*places, 1).photos, 1000, 1, backbone.fingerprint)[0]
    embed_part(part, places, backbone, NO_LIMITS)
    return {row["path"]: (row["vector"], row["error"]) for row in pq.read_table(dest / part.path).to_pylist()}


@spark_only
def test_vectors_are_those_of_a_run_bit_for_bit_from_bytes_paths_and_sql(spark, files, bad_photos, tmp_path) -> None:
    expected = of_a_run(bad_photos, tmp_path / "out", load_backbone("efficientnet_lite0"))
    assert {error for _, error in expected.values()} == {None, "not_an_image", "truncated"}
    assert results(verger.embed(files)) == expected
    assert results(verger.embed(files.drop("content"))) == expected
    spark.udf.register("embed", verger.embed_udf())
    files.createOrReplaceTempView("files")
    in_sql = spark.sql("SELECT path, embed(content) AS vector, NULL AS error FROM files")
    assert results(in_sql) == {path: (vector, None) for path, (vector, _) in expected.items()}


@spark_only
def test_rows_keep_their_columns_number_and_order(spark, photos: Path, tmp_path: Path) -> None:
    contents = [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))]
    rows = [(i, {"a": [i]}, contents[i % 12] if i % 7 else None, float(i)) for i in range(150)]
    schema = "id int NOT NULL, nested map<string, array<int>>, photo binary, weight double"
    spark.createDataFrame(rows, schema).coalesce(1).write.parquet(str(tmp_path / "table"))  # stands for any table
    table = spark.read.parquet(str(tmp_path / "table"))
    embedded = verger.embed(table, mean_colour(), content="photo")
    assert embedded.columns == ["id", "nested", "photo", "weight", "vector", "error"]
    got = [(row.id, row.nested, row.photo, row.weight) for row in embedded.collect()]
    assert got == [(i, nested, bytes(photo) if photo else None, w) for i, nested, photo, w in rows]
    assert {row.id for row in embedded.where("error = 'unreadable' AND vector IS NULL").collect()} == {
        *range(0, 150, 7)
    }


@spark_only
def test_limits_turn_large_photos_away(files, photos: Path) -> None:
    write_photo(photos / "apple" / "00.jpg", 1, (1200, 900))
    small = {"max_bytes": 5_000}, {"max_pixels": 1_000_000}
    for limits, cause in zip(small, ("too_large", "too_many_pixels"), strict=True):
        for dataframe in (files, files.drop("content")):
            assert results(verger.embed(dataframe, mean_colour(), **limits))["apple/00.jpg"] == (None, cause)


@spark_only
def test_a_function_of_sql_runs_the_network_once_a_photo(files) -> None:
    embedded = files.withColumn("vector", verger.embed_udf(mean_colour())("content")).where("vector IS NOT NULL")
    embedded = embedded.selectExpr("vector", "vector[0] AS red", "size(vector) AS length")
    assert [row.length for row in embedded.collect()] == [3] * 12
    assert embedded._jdf.queryExecution().executedPlan().toString().count("EvalPython") == 1


@spark_only
@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        (["path"], {"content": "photo", "path": "address"}, "a column 'photo' of photos' bytes.*the columns path"),
        (["path", "length"], {"path": "length"}, r"paths \(string\). Received: length, which is bigint"),
        (["path", "content"], {"max_bytes": 0}, "`max_bytes` between"),
        (["path", "content"], {"backbone": "efficientnet"}, "Did you mean efficientnet_lite0"),
        (["path AS vector", "content"], {}, "without a column 'vector'"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(files, columns: list, options: dict, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        verger.embed(files.selectExpr(*columns), **({"backbone": mean_colour()} | options))


@spark_only
def test_a_missing_pandas_is_named(spark, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingError, match=r"pandas that Spark .* takes. Received: none. Install it"):
        need_pandas(spark)


FRESH = """
import json
from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession
# Executors of their own, whose workers start without verger.daemon.
settings = {{"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.executor.memory": "700m"}}
spark = SparkSession.builder.master("local-cluster[1,2,700]").config(map=settings).getOrCreate()
files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load("{photos}")
rows = PipelineModel.load("{model}").transform(files).select("path", "components").collect()
print(json.dumps({{row.path: row.components.toArray().tolist() for row in rows}}))
"""


@spark_only
def test_a_pipeline_gives_the_same_on_a_cluster_that_never_saw_its_network(files, bad_photos, tmp_path: Path) -> None:
    from pyspark.ml import Pipeline, PipelineModel
    from pyspark.ml.feature import PCA

    embedder = verger.PhotoEmbedder("content", "vector", mean_colour(), handleInvalid="skip")
    fitted = Pipeline(stages=[embedder, PCA(k=2, inputCol="vector", outputCol="components")]).fit(files)
    expected = {row.path: row.components.toArray().tolist() for row in fitted.transform(files).collect()}
    assert len(expected) == 12
    fitted.save(str(tmp_path / "model"))
    fitted.write().overwrite().save(str(tmp_path / "model"))
    loaded = PipelineModel.load(str(tmp_path / "model"))
    assert loaded.stages[0].extractParamMap() == fitted.stages[0].extractParamMap()
    assert {row.path: row.components.toArray().tolist() for row in loaded.transform(files).collect()} == expected
    code = FRESH.format(photos=bad_photos, model=tmp_path / "model")
    env = environment(spark_home(tmp_path))
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == expected


@spark_only
def test_a_stage_does_with_failed_photos_what_it_is_told(files) -> None:
    from pyspark.errors import PythonException
    from pyspark.ml.functions import vector_to_array

    stage = verger.PhotoEmbedder("content", "v", mean_colour())
    assert stage.uid != verger.PhotoEmbedder(backbone=mean_colour()).uid
    with pytest.raises(PythonException, match="Expected only photos that can be embedded"):
        stage.transform(files).collect()
    assert stage.copy({stage.handleInvalid: "skip"}).transform(files).count() == 12
    assert stage.getHandleInvalid() == "error"
    kept = stage.setHandleInvalid("keep").setErrorCol("cause").transform(files)
    assert kept.columns == [*files.columns, "v", "cause"]
    assert kept.schema["v"].metadata == {"ml_attr": {"num_attrs": 3}}
    rows = kept.select(vector_to_array("v").alias("v"), "cause").collect()
    assert sorted(row.cause for row in rows if np.isnan(row.v).all()) == ["not_an_image", "truncated"]
    assert all(len(row.v) == 3 for row in rows)


@spark_only
@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"handleInvalid": "ignore"}, "handleInvalid among error, skip, keep"),
        ({"inputCol": "photo"}, "a column 'photo' of photos. Received: the columns path, modificationTime"),
        ({"outputCol": "path"}, "without a column 'path'"),
        ({"limit": 5}, "params among device, errorCol"),
    ],
)
def test_bad_params_of_a_stage_are_refused(files, params: dict, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        verger.PhotoEmbedder(backbone=mean_colour()).setParams(**params).transform(files)


@spark_only
def test_a_keras_network_is_saved_with_its_weights_as_arrays(spark, tmp_path: Path) -> None:
    from dataclasses import replace

    weights = (np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(1, np.float16))
    keras = replace(mean_colour(), engine="tensorflow", weights=weights)
    verger.PhotoEmbedder(backbone=keras).save(str(tmp_path / "stage"))
    loaded = verger.PhotoEmbedder.load(str(tmp_path / "stage")).backbone
    assert (loaded, loaded.graph) == (keras, keras.graph)
    for one, two in zip(loaded.weights, weights, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_groups_hold_every_photo_once(photos: Path, kind: pa.DataType) -> None:
    content = (photos / "apple" / "00.jpg").read_bytes()
    array = pa.array([content, None, b"words"] * 50, kind)
    groups = list(embed_array(array, Task(Carried(mean_colour()), NO_LIMITS)))
    assert [len(causes) for _, causes in groups] == [64, 64, 22]
    assert [cause for _, causes in groups for cause in causes] == [None, "unreadable", "not_an_image"] * 50
    assert pa.concat_arrays([vectors for vectors, _ in groups]).null_count == 100


def test_a_network_that_gives_no_numbers_ends_the_job(photos: Path) -> None:
    broken = mean_colour()
    object.__setattr__(broken, "fingerprint", "bad")
    object.__setattr__(broken, "load", lambda _: lambda pixels: np.full((len(pixels), 3), np.nan, np.float32))
    photo = pa.array([(photos / "apple" / "00.jpg").read_bytes()])
    with pytest.raises(RunFailedError, match="finite numbers"):
        list(embed_array(photo, Task(Carried(broken), NO_LIMITS)))


def test_paths_are_read_in_order_in_bounded_groups(tmp_path: Path) -> None:
    for i in range(7):
        (tmp_path / f"{i}").write_bytes(bytes([i]) * (20_000_000 if i in (1, 2) else 10))
    (tmp_path / "folder").mkdir()
    names = [*(str(i) for i in range(7)), "none", "folder", "\0"]
    groups = list(read_paths(pa.array([None, *(str(tmp_path / name) for name in names)]), 10**8, 4))
    assert [len(group) for group in groups] == [3, 4, 4]  # two photos of 20 MB never share a group
    flat = [item.cause if isinstance(item, PhotoError) else item[0] for group in groups for item in group]
    assert flat == ["unreadable", *range(7), "vanished", "unreadable", "unreadable"]


def test_a_path_is_found_however_spark_writes_it(tmp_path: Path) -> None:
    (tmp_path / "a%41 #b.jpg").touch()
    place = Folder(str(tmp_path))
    for path in (f"{tmp_path}/a%41 #b.jpg", f"file:{tmp_path}/a%41 #b.jpg", f"file://{tmp_path}/a%2541%20%23b.jpg"):
        assert locate(path) == (place, "a%41 #b.jpg")
    bucket, name = locate("s3a://fruit/a/b%20.jpg")
    assert (bucket.uri, name) == ("s3://fruit", "a/b%20.jpg")
    with pytest.raises(SettingError, match="one of s3:"):
        locate("https://example.com/1.jpg")
