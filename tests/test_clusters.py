"""The same table wherever it is made, on processes or on machines, and whichever of them dies meanwhile."""

import json
import os
import signal
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyspark
import pytest
from clusters import (
    HOSTS,
    LOCAL_CLUSTER,
    ROOT,
    RUN_SECONDS,
    Gates,
    Standalone,
    above,
    below,
    command_line,
    content,
    environment,
    finish,
    listening,
    options,
    spark_home,
    standalone,
    table,
    until,
)
from conftest import mean_colour, write_photo

import verger

pytestmark = pytest.mark.spark
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}
LONG_RUN_SECONDS = 1_500
EXECUTOR, MACHINE = "CoarseGrainedExecutorBackend", "deploy.worker.Worker"
RESTLESS = {
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.enabled": "true",
    "spark.dynamicAllocation.initialExecutors": "1",
    "spark.executor.cores": "1",
    "spark.speculation": "true",
    "spark.speculation.quantile": "0.1",
    "spark.speculation.multiplier": "1.1",
    "spark.speculation.interval": "50ms",
    "spark.speculation.minTaskRuntime": "50ms",
}


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four photos of two labels, one of them broken; beside them a small network."""
    folder = tmp_path_factory.mktemp("garden")
    for i in range(24):
        write_photo(folder / "photos" / ("apple" if i < 16 else "pear") / f"{i:02}.jpg", i)
    (folder / "photos" / "apple" / "03.jpg").write_bytes(b"words")
    (folder / "network.onnx").write_bytes(mean_colour().graph)
    return folder / "photos"


@pytest.fixture(scope="module")
def expected(garden: Path, spark: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The table that a local run makes, undisturbed."""
    out = tmp_path_factory.mktemp("expected") / "out"
    verger.run(settings(garden, out), spark)
    rows = table(out)
    assert len(rows) == 24
    assert [row["path"] for row in rows if row["error"]] == ["apple/03.jpg"]
    return rows


def settings(photos: Path, dest: Path) -> verger.Settings:
    network = str(photos.parent / "network.onnx")
    places = {"source": str(photos), "dest": str(dest)}
    return verger.Settings(**places, backbone=network, image_size=32, components=2, part_photos=4)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    with standalone(tmp_path_factory.mktemp("standalone")) as cluster:
        yield cluster


@pytest.fixture
def cluster(started: Standalone) -> Standalone:
    """A standalone cluster, all of it running."""
    started.start()
    return started


class Made(NamedTuple):
    """What a driver found on a master: where the table is, and what it saw of each of two workers."""

    out: Path
    workers: list[tuple[list[str], bool, dict[str, str | None]]]


# One driver for all masters, one after another, as in a notebook: starting a JVM takes longer than a run.
DRIVER = """
import json, sys, verger
from verger.session import spark_context

def look(_):
    import os, sys
    names = ("OMP_NUM_THREADS", "GLIBC_TUNABLES", "PYTHON_WORKER_FACTORY_SOCK_DIR")
    return sys.orig_argv[1:3], "verger.vectors" in sys.modules, {name: os.environ.get(name) for name in names}

photos, network, *runs = sys.argv[1:]
for master, dest in zip(runs[::2], runs[1::2]):
    with spark_context(master) as context:
        workers = context.parallelize(range(2), 2).map(look).collect()
        small = {"backbone": network, "image_size": 32, "components": 2, "part_photos": 4}
        verger.run(verger.Settings(source=photos, dest=dest, **small))
        print(json.dumps([context.master, dest, workers]), flush=True)
"""


@pytest.fixture(scope="module")
def made(garden: Path, started: Standalone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """What one driver makes on each kind of master; a cluster's executors come and go, and have twins."""
    folder = tmp_path_factory.mktemp("made")
    env = environment(started.home, **RESTLESS)
    env.pop("OMP_NUM_THREADS", None)  # that of this process says nothing about workers elsewhere
    masters = [LOCAL_CLUSTER.format(2), started.master, "local[1]", "local[*]"]
    runs = [word for i, master in enumerate(masters) for word in (master, str(folder / str(i)))]
    command = [sys.executable, "-c", DRIVER, str(garden), str(garden.parent / "network.onnx"), *runs]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    assert ran.returncode == 0, ran.stderr
    said = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("[")]
    return {master.partition(":")[0]: Made(Path(out), workers) for master, out, workers in said}


@pytest.mark.parametrize("master", ["local[1]", "local[*]", LOCAL_CLUSTER.format(2), "spark"])
def test_every_kind_of_master_makes_the_same_table(master: str, made: dict[str, Made], expected: Any) -> None:
    out = made[master].out
    assert json.loads((out / "manifest.json").read_text())["spark"]["master"].startswith(master)
    assert table(out) == expected
    assert not list(out.rglob("*.tmp"))


@pytest.mark.parametrize("master", ["local[1]", LOCAL_CLUSTER.format(2), "spark"])
def test_what_makes_workers_fast_reaches_them(master: str, made: dict[str, Made]) -> None:
    for daemon, loaded, variables in made[master].workers:
        assert daemon == ["-m", "verger.daemon"]
        assert loaded
        assert variables["OMP_NUM_THREADS"] == "1"
        assert "mmap_threshold" in (variables["GLIBC_TUNABLES"] or "")
        assert variables["PYTHON_WORKER_FACTORY_SOCK_DIR"] or pyspark.__version__ < "4.1"


def test_nothing_of_a_local_run_listens_beyond_this_machine(spark: Any) -> None:
    assert spark.sparkContext.parallelize([1, 2]).map(lambda x: x).count() == 2  # workers are there
    jvm = spark.sparkContext._gateway.proc.pid
    found = [listening(process) for process in (os.getpid(), jvm, *below(jvm))]
    assert any(found)
    assert set().union(*found) <= LOOPBACK


def test_a_cluster_loses_and_doubles_nothing_whatever_is_killed(
    cluster: Standalone, garden: Path, expected: Any, tmp_path: Path
) -> None:
    out, gates = tmp_path / "out", Gates(tmp_path / "gates")
    command = gates.command("pear", "run", *options(garden, out, cluster.master))
    with subprocess.Popen(command, env=environment(cluster.home), stderr=subprocess.PIPE, text=True) as run:
        try:
            worker, other = gates.wait("half", 2, run)
            killed = [worker]
            os.kill(worker, signal.SIGKILL)
            gates.wait("half", 3, run)  # a second attempt at its part
            executor, machine = above(other, EXECUTOR), above(other, MACHINE)
            killed.append(executor)
            os.kill(executor, signal.SIGKILL)
            gates.wait("half", 4, run)  # on an executor that the machine started meanwhile
            killed.append(machine)
            os.kill(machine, signal.SIGKILL)
            assert len(list(out.glob("vectors/part-*"))) == 4, "apples are done, pears are under way"
            gates.open()
            code, said = finish(run)
        finally:
            run.kill()
    assert code == 0, said
    assert len(set(killed)) == 3
    assert [process.poll() for process in cluster.machines.values() if process.pid == machine] == [-signal.SIGKILL]
    assert table(out) == expected
    assert not list(out.rglob("*.tmp"))


def test_two_attempts_at_one_part_write_the_same_file(
    cluster: Standalone, garden: Path, expected: Any, tmp_path: Path
) -> None:
    out, gates = tmp_path / "out", Gates(tmp_path / "gates")
    command = gates.command("apple/00", "run", *options(garden, out, cluster.master))
    env = environment(cluster.home, **RESTLESS)
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as run:
        try:
            twins = gates.wait("half", 2, run)  # Spark starts no second attempt where the first runs
            assert len({above(worker, MACHINE) for worker in twins}) == len(HOSTS)
            (gates.folder / "half" / "open").touch()
            gates.wait("whole", 2, run)
            gates.open()
            code, said = finish(run)
        finally:
            run.kill()
    assert code == 0, said
    assert len(set(gates.waiting("whole").values())) == 1, "not the same file"
    assert table(out) == expected
    assert not list(out.rglob("*.tmp"))


@pytest.mark.slow
def test_ten_thousand_photos_survive_a_killed_executor_and_a_killed_machine(
    cluster: Standalone, real_photos: Path, mobilenet_weights: Path, tmp_path: Path
) -> None:
    def command(out: Path, master: str) -> list[str]:
        network = ["--backbone", "mobilenet_v2", "--weights", str(mobilenet_weights), "--part-photos", "200"]
        return [sys.executable, "-m", "verger", "run", str(real_photos), "--to", str(out), "--master", master, *network]

    calm, out = tmp_path / "calm", tmp_path / "out"
    subprocess.run(command(calm, "local[2]"), check=True, capture_output=True, timeout=LONG_RUN_SECONDS)
    env = environment(cluster.home, **RESTLESS)
    with subprocess.Popen(command(out, cluster.master), env=env, stderr=subprocess.PIPE, text=True) as run:
        try:
            one, other = (cluster.machines[host].pid for host in HOSTS)
            parts_done(out, 10, run)
            os.kill(next(pid for pid in below(one) if EXECUTOR in command_line(pid)), signal.SIGKILL)
            parts_done(out, 20, run)
            os.kill(other, signal.SIGKILL)
            assert not (out / "components").exists(), "the run was all but over"
            code, said = finish(run, LONG_RUN_SECONDS)
        finally:
            run.kill()
    assert code == 0, said
    assert json.loads((out / "manifest.json").read_text())["photos"]["embedded"] >= 9_800
    assert content(out) == content(calm)
    assert not list(out.rglob("*.tmp"))


def parts_done(out: Path, parts: int, run: "subprocess.Popen[str]") -> None:
    until(lambda: len(list(out.glob("vectors/part-*"))) >= parts or run.poll() is not None, LONG_RUN_SECONDS)
    assert run.poll() is None, run.communicate()


APPLICATION = """
import sys, verger
photos, dest, network = sys.argv[1:]
small = {"backbone": network, "image_size": 32, "components": 2, "part_photos": 4}
verger.run(verger.Settings(source=photos, dest=dest, **small))
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
    brought = ["--py-files", str(package)]
    if way == "archives":
        brought = ["--archives", f"{package}#shipped", "--conf", "spark.executorEnv.PYTHONPATH=shipped"]
        env["PYSPARK_DRIVER_PYTHON"] = str(bare_python(tmp_path / "driver", ROOT))
    command = [str(Path(env["SPARK_HOME"], "bin", "spark-submit")), "--master", LOCAL_CLUSTER.format(1), *brought]
    command += map(str, (tmp_path / "application.py", garden, tmp_path / "out", garden.parent / "network.onnx"))
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    assert ran.returncode == 0, ran.stderr
    assert table(tmp_path / "out") == expected
