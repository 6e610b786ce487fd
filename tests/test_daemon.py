from pathlib import Path

from verger.daemon import without_zips


def test_sparks_zip_is_left_out_only_where_the_same_lies_unpacked_beside_it(tmp_path: Path) -> None:
    zipped = tmp_path / "pyspark" / "python" / "lib" / "pyspark.zip"
    paths = ["", str(zipped), str(zipped.with_name("py4j-src.zip")), str(tmp_path)]
    assert without_zips(paths) == paths
    (tmp_path / "pyspark").mkdir()
    (tmp_path / "pyspark" / "worker.py").touch()
    assert without_zips(paths) == ["", str(zipped.with_name("py4j-src.zip")), str(tmp_path)]


def test_the_zip_stays_where_spark_is_installed_for_another_python(tmp_path: Path) -> None:
    (tmp_path / "pyspark").mkdir()
    (tmp_path / "pyspark" / "worker.py").touch()
    paths = [str(tmp_path / "pyspark" / "python" / "lib" / "pyspark.zip"), "/elsewhere/site-packages"]
    assert without_zips(paths) == paths


def test_a_cluster_keeps_the_zip_that_it_brings() -> None:
    paths = ["/usr/lib/spark/python/lib/pyspark.zip", "pyspark.zip"]
    assert without_zips(paths) == paths
