"""Real Spark clusters on 127.0.0.1, and what runs on them: for `test_clusters.py` and `test_faults.py`."""

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pyspark

from verger.parts import table_bytes

ROOT = Path(__file__).parents[1]
LOCAL_CLUSTER = "local-cluster[{},1,1024]"  # a master, so many workers and their executors; the latter are processes
HOSTS = ("127.0.0.1", "127.0.0.2")  # two machines, as far as Spark can tell
QUICK_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # tests are over before an optimising compiler pays
RUN_SECONDS = 600  # more than any run of a test takes on a busy machine


def spark_home(folder: Path) -> Path:
    """Spark as the pip package brings it, in a folder of its own: workers keep their files in SPARK_HOME/work."""
    home = folder / "spark"
    (home / "conf").mkdir(parents=True)
    for name in ("bin", "jars", "python"):
        (home / name).symlink_to(Path(pyspark.__file__).parent / name)
    return home


def environment(home: Path, **conf: Any) -> dict[str, str]:
    """Variables for a driver on a cluster: everything on 127.0.0.1, and `conf` as an administrator's defaults."""
    defaults = {"spark.ui.enabled": "false", "spark.master.rest.enabled": "false"}
    defaults |= {f"spark.{role}.extraJavaOptions": QUICK_JVM for role in ("driver", "executor")} | conf
    (home / "conf" / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in defaults.items()))
    own = {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_CONF_DIR": str(home / "conf")}
    return os.environ | own | {"PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable}


@dataclass
class Standalone:
    """A standalone master and a worker of one core on each of HOSTS, in processes of their own."""

    home: Path
    stack: contextlib.ExitStack
    master: str = ""
    machines: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)  # by host

    def start(self) -> None:
        """Start what is not running: everything at first, later what a test has killed."""
        if not self.master:
            self._spawn("master.Master", "127.0.0.1", "--port", "0")
            self.master = until(lambda: next((w for w in self._said().split() if w.startswith("spark://")), None))
        known, missing = self._workers(), [host for host in HOSTS if not self._runs(host)]
        for host in missing:
            options = ("-c", "1", "-m", "1g", "-d", str(self.home / host))
            self.machines[host] = self._spawn("worker.Worker", host, *options, self.master)
        until(lambda: self._workers() == known + len(missing))

    def _runs(self, host: str) -> bool:
        return host in self.machines and self.machines[host].poll() is None

    def _said(self) -> str:
        return (self.home / "master.Master.log").read_text()

    def _workers(self) -> int:
        return self._said().count("Registering worker")

    def _spawn(self, role: str, host: str, *options: str) -> "subprocess.Popen[bytes]":
        log = self.stack.enter_context((self.home / f"{role}.log").open("ab"))
        command = [str(self.home / "bin" / "spark-class"), f"org.apache.spark.deploy.{role}"]
        env = environment(self.home) | {"SPARK_LOCAL_IP": host, "SPARK_DAEMON_JAVA_OPTS": QUICK_JVM}
        options = ("--host", host, "--webui-port", "0", *options)
        process = subprocess.Popen([*command, *options], env=env, stdout=log, stderr=subprocess.STDOUT)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process


@contextlib.contextmanager
def standalone(folder: Path) -> Iterator[Standalone]:
    """A standalone cluster, whose processes are ended by their ids."""
    with contextlib.ExitStack() as stack:
        cluster = Standalone(spark_home(folder), stack)
        cluster.start()
        yield cluster


def options(photos: Path, dest: Path, master: str) -> list[str]:
    """What follows `verger run`, with the small network in `photos`' folder: parts of four photos."""
    network = str(photos.parent / "network.onnx")
    sizes = ["--image-size", "32", "--part-photos", "4", "--components", "2"]
    return [str(photos), "--to", str(dest), "--master", master, "--backbone", network, *sizes]


def table(dest: Path) -> list[dict[str, Any]]:
    """Every row of vectors with all that is known of its photo, in the order of paths."""
    rows = pyarrow.dataset.dataset(dest / "vectors").to_table().to_pylist()
    return sorted(rows, key=lambda row: row["path"])


def content(dest: Path) -> str:
    """A digest of the same, byte for byte, for tables that are too long for Python's lists."""
    rows = pyarrow.dataset.dataset(dest / "vectors").to_table().sort_by("path").combine_chunks()
    return hashlib.sha256(table_bytes(rows)).hexdigest()


def until(found: Callable[[], Any], seconds: float = RUN_SECONDS) -> Any:
    """What `found` returns as soon as it is something; fails after a while."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return result


class Gates:
    """Where workers of `held.py` wait in the middle of writing a part (`half`), and after it (`whole`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for gate in ("half", "whole"):
            (folder / gate).mkdir(parents=True)

    def command(self, photos: str, *arguments: str) -> list[str]:
        """`verger` with these arguments; parts whose first photo's path matches `photos` wait."""
        return [sys.executable, str(Path(__file__).with_name("held.py")), str(self.folder), photos, *arguments]

    def waiting(self, gate: str) -> dict[int, tuple[str, str]]:
        """Each worker that has come to a gate, by its process id: the part, and the digest of its content."""
        notes = [note.read_text().split() for note in (self.folder / gate).iterdir() if note.suffix == ".note"]
        return {int(pid): (part, digest) for pid, part, digest in notes}

    def wait(self, gate: str, workers: int, run: "subprocess.Popen[str]") -> list[int]:
        """Until so many workers of a run have come to a gate; their process ids."""
        until(lambda: len(self.waiting(gate)) >= workers or run.poll() is not None)
        assert run.poll() is None, run.communicate()
        return list(self.waiting(gate))

    def open(self) -> None:
        """Let everybody go on, now and later."""
        for gate in ("half", "whole"):
            (self.folder / gate / "open").touch()


def finish(run: "subprocess.Popen[str]", seconds: float = RUN_SECONDS) -> tuple[int, str]:
    """The exit code of a run, and what it said."""
    _, said = run.communicate(timeout=seconds)
    return run.returncode, said


def above(pid: int, words: str) -> int:
    """The nearest process above one that has `words` in its command line."""
    while words not in command_line(pid):
        assert pid > 1, f"no process with {words!r} above"
        pid = _parent(pid)
    return pid


def command_line(pid: int) -> str:
    """The words with which a process was started; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def below(pid: int) -> list[int]:
    """All processes below one."""
    parents: dict[int, int] = {}
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):  # no process, or one that is gone
            parents[int(process.name)] = _parent(int(process.name))
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def listening(pid: int) -> set[str]:
    """The addresses on which a process listens, as /proc/net writes them: 0100007F is 127.0.0.1."""
    inodes = set()
    with contextlib.suppress(OSError):  # it has ended, and listens no more
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()]
    return {line[1].rpartition(":")[0] for line in lines if line[3] == "0A" and line[9] in inodes}
