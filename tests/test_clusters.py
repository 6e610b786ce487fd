"""The same table wherever it is made: on cores of this process's JVM, on a cluster of processes, on a real cluster."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from clusters import (
    LOCAL_CLUSTER,
    ROOT,
    descendants,
    environment,
    listening,
    run_command,
    spark_home,
    standalone,
    table,
)
from conftest import mean_colour, write_photo

pytestmark = pytest.mark.spark
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 40 photos, one of them broken, and a small network."""
    folder = tmp_path_factory.mktemp("garden")
    for i in range(40):
        write_photo(folder / "photos" / ("apple" if i % 3 else "pear") / f"{i:02}.jpg", i)
    (folder / "photos" / "pear" / "00.jpg").write_bytes(b"words")
    (folder / "network.onnx").write_bytes(mean_colour().graph)
    return folder


def run(garden: Path, dest: Path, master: str, env: dict[str, str]) -> list[dict[str, Any]]:
    options = ["--backbone", str(garden / "network.onnx"), "--image-size", "32"]
    command = run_command(garden / "photos", dest, master, *options)
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads((dest / "manifest.json").read_text())["spark"]["master"] == master
    assert not list(dest.rglob("*.tmp"))
    return table(dest)


@pytest.fixture(scope="module")
def expected(garden: Path) -> list[dict[str, Any]]:
    """The table that one core makes."""
    rows = run(garden, garden / "out", "local[1]", dict(os.environ))
    assert len(rows) == 40
    assert [row["path"] for row in rows if row["error"]] == ["pear/00.jpg"]
    return rows


def test_all_cores_of_this_machine_make_the_same_table(garden: Path, tmp_path: Path, expected: Any) -> None:
    assert run(garden, tmp_path / "out", "local[*]", dict(os.environ)) == expected


def test_a_cluster_of_processes_makes_the_same_table(garden: Path, tmp_path: Path, expected: Any) -> None:
    env = environment(spark_home(tmp_path))
    assert run(garden, tmp_path / "out", LOCAL_CLUSTER, env) == expected


def test_a_standalone_cluster_that_grows_and_speculates_makes_the_same_table(
    garden: Path, tmp_path: Path, expected: Any
) -> None:
    home = spark_home(tmp_path)
    with standalone(home) as (master, _):
        restless = {
            "spark.dynamicAllocation.enabled": "true",
            "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        }
        restless |= {"spark.dynamicAllocation.initialExecutors": "1", "spark.executor.memory": "700m"}
        restless |= {"spark.speculation": "true", "spark.speculation.quantile": "0.1", "spark.executor.cores": "1"}
        assert run(garden, tmp_path / "out", master, environment(home, **restless)) == expected


PROBE = """
import json, os, sys
from verger.session import spark_context

def look(_):
    import os, sys
    names = ("OMP_NUM_THREADS", "GLIBC_TUNABLES", "PYTHON_WORKER_FACTORY_SOCK_DIR")
    return sys.orig_argv[1:3], "verger.vectors" in sys.modules, {name: os.environ.get(name) for name in names}

with spark_context(sys.argv[1]) as context:
    print(json.dumps(context.parallelize(range(2), 2).map(look).collect()))
"""


def test_what_makes_workers_fast_reaches_those_of_a_cluster(tmp_path: Path) -> None:
    import pyspark

    env = environment(spark_home(tmp_path)) | {"OMP_NUM_THREADS": ""}
    del env["OMP_NUM_THREADS"]  # that of this process says nothing about workers elsewhere
    command = [sys.executable, "-c", PROBE, LOCAL_CLUSTER]
    said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True).stdout
    for daemon, loaded, variables in json.loads(said.splitlines()[-1]):
        assert daemon == ["-m", "verger.daemon"]
        assert loaded
        assert variables["OMP_NUM_THREADS"] == "1"
        assert "mmap_threshold" in variables["GLIBC_TUNABLES"]
        assert variables["PYTHON_WORKER_FACTORY_SOCK_DIR"] or pyspark.__version__ < "4.1"


def test_nothing_of_a_local_run_listens_beyond_this_machine(spark: Any) -> None:
    assert spark.sparkContext.parallelize([1, 2]).map(lambda x: x).count() == 2  # workers are there
    processes = [os.getpid(), *descendants(os.getpid(), "")]
    assert any(listening(process) for process in processes)
    for process in processes:
        assert listening(process) <= LOOPBACK


APPLICATION = """
import sys, verger
photos, dest, network = sys.argv[1:]
verger.run(verger.Settings(source=photos, dest=dest, backbone=network, image_size=32, components=2, part_photos=4))
"""


def bare_python(folder: Path, *paths: Path) -> Path:
    """A Python with everything that Verger needs and, unless it is in one of the paths, without Verger."""
    venv.create(folder)
    site = next(folder.glob("lib/python*/site-packages"))
    others = [path for path in sys.path if path.endswith("site-packages")]  # but not what their .pth files add
    (site / "more.pth").write_text("\n".join([*map(str, paths), *others]) + "\n")
    python = folder / "bin" / "python"
    found = subprocess.run([python, "-c", "import verger"], cwd=folder, env={}, capture_output=True, check=False)
    if found.returncode == 0 and not paths:
        pytest.skip("needs an environment in which Verger is installed editable (make test)")
    return python


@pytest.mark.parametrize("way", ["py-files", "archives"])
def test_a_driver_can_bring_the_package_along(way: str, garden: Path, tmp_path: Path, expected: Any) -> None:
    package = tmp_path / "verger.zip"
    with zipfile.ZipFile(package, "w") as zipped:
        for file in (ROOT / "verger").rglob("*"):
            if file.suffix != ".pyc":
                zipped.write(file, file.relative_to(ROOT))
    (tmp_path / "application.py").write_text(APPLICATION)
    worker = bare_python(tmp_path / "worker")
    env = environment(spark_home(tmp_path)) | {"PYSPARK_PYTHON": str(worker), "PYSPARK_DRIVER_PYTHON": str(worker)}
    del env["PYTHONPATH"]
    options = ["--py-files", str(package)]
    if way == "archives":
        options = ["--archives", f"{package}#shipped", "--conf", "spark.executorEnv.PYTHONPATH=shipped"]
        env["PYSPARK_DRIVER_PYTHON"] = str(bare_python(tmp_path / "driver", ROOT))
    command = [str(Path(env["SPARK_HOME"], "bin", "spark-submit")), "--master", LOCAL_CLUSTER, *options]
    arguments = [str(tmp_path / "application.py"), str(garden / "photos"), str(tmp_path / "out")]
    ran = subprocess.run(
        [*command, *arguments, str(garden / "network.onnx")],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert table(tmp_path / "out") == expected
