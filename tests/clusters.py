"""Real Spark clusters on 127.0.0.1, and what runs on them: for `test_clusters.py` and `test_faults.py`."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pyspark

ROOT = Path(__file__).parents[1]
LOCAL_CLUSTER = "local-cluster[2,1,1024]"  # a master, two workers and their executors, each in a process of its own


def spark_home(folder: Path) -> Path:
    """Spark as the pip package brings it, in a folder of its own: workers keep their files in SPARK_HOME/work."""
    home = folder / "spark"
    (home / "conf").mkdir(parents=True)
    for name in ("bin", "jars", "python"):
        (home / name).symlink_to(Path(pyspark.__file__).parent / name)
    return home


def environment(home: Path, **conf: Any) -> dict[str, str]:
    """Variables for a driver on a cluster: everything on 127.0.0.1, and `conf` as an administrator's defaults."""
    defaults = {"spark.ui.enabled": "false", "spark.master.rest.enabled": "false"} | conf
    (home / "conf" / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in defaults.items()))
    own = {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_CONF_DIR": str(home / "conf")}
    return os.environ | own | {"PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable}


def run_command(photos: Path, dest: Path, master: str, *more: str) -> list[str]:
    """`verger run` on a cluster, in parts of four photos."""
    command = [sys.executable, "-m", "verger", "run", str(photos), "--to", str(dest), "--master", master]
    return [*command, "--part-photos", "4", "--components", "2", *more]


def table(dest: Path) -> list[dict[str, Any]]:
    """Every row of vectors, in the order of paths; files are told apart from their neighbours by nothing else."""
    columns = ["path", "label", "digest", "vector", "error"]
    rows = pyarrow.dataset.dataset(dest / "vectors").to_table(columns=columns).to_pylist()
    return sorted(rows, key=lambda row: row["path"])


@contextlib.contextmanager
def standalone(home: Path) -> Iterator[tuple[str, list["subprocess.Popen[bytes]"]]]:
    """A standalone master and two workers of one core; yields its address and the workers' processes."""
    with contextlib.ExitStack() as stack:
        log = home / "master.log"
        options = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
        _start(stack, home, log, "master.Master", *options)
        address = until(lambda: next((w for w in log.read_text().split() if w.startswith("spark://")), None))
        workers = []
        for host in ("127.0.0.1", "127.0.0.2"):  # two machines, as far as Spark can tell
            options = ["-c", "1", "-m", "1g", "--host", host, "--webui-port", "0", "-d", str(home / host)]
            workers.append(_start(stack, home, home / f"{host}.log", "worker.Worker", *options, address))
        until(lambda: log.read_text().count("Registering worker") == 2)
        yield address, workers


def _start(stack: contextlib.ExitStack, home: Path, log: Path, role: str, *options: str) -> "subprocess.Popen[bytes]":
    output = stack.enter_context(log.open("wb"))
    command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{role}", *options]
    env = environment(home) | {"SPARK_LOCAL_IP": options[options.index("--host") + 1]}
    process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def until(found: Callable[[], Any], seconds: float = 60) -> Any:
    """What `found` returns as soon as it is something; fails after a while."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return result


def descendants(pid: int, words: str) -> list[int]:
    """The processes below one that have `words` in their command line."""
    parents: dict[int, int] = {}
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):  # no process, or one that is gone
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(") ")[2].split()[1])
    found, below = [], [pid]
    while below:
        below = [child for child, parent in parents.items() if parent in below]
        for child in below:
            with contextlib.suppress(OSError):
                if words in Path(f"/proc/{child}/cmdline").read_text().replace("\0", " "):
                    found.append(child)
    return found


def listening(pid: int) -> set[str]:
    """The addresses on which a process listens, as /proc/net writes them: 0100007F is 127.0.0.1."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    lines = [
        line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()
    ]
    return {line[1].rpartition(":")[0] for line in lines if line[3] == "0A" and line[9] in inodes}
