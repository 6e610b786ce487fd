"""A page's server for benchmarks: started, watched while it is asked by many clients, and ended."""

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from processes import descendants, end

START_SECONDS = 60
MEGABYTE = 2**20


def command_of(dest: str) -> list[str]:
    """What starts a server that sets no limit to a client: here all of them have one address."""
    options = ["--port", "0", "--photos-per-minute", "0"]
    return [sys.executable, "-m", "verger", "serve", dest, *options]


@dataclass
class Server:
    """A server that answers."""

    address: str
    pid: int
    log: Path

    def memory(self) -> tuple[float, float]:
        """Of the server, and of its workers together, in MiB; what processes share is counted once."""
        return _memory(self.pid), sum(_memory(child.pid) for child in descendants(self.pid))

    @property
    def lost_workers(self) -> int:
        """How many workers ended over a photo."""
        return self.log.read_text().count("A worker ended")


@contextlib.contextmanager
def serving(command: Sequence[str]) -> Iterator[Server]:
    """A server, from when it answers. Its address is the first word with http: that it prints."""
    with tempfile.NamedTemporaryFile("wb", suffix=".log") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            words: list[str] = []
            began = time.monotonic()
            while not words:
                said = Path(log.name).read_text()
                if process.poll() is not None or time.monotonic() > began + START_SECONDS:
                    raise SystemExit(said or "the server did not start")
                words = [word for word in said.split() if word.startswith("http:")]
                time.sleep(0.1)
            yield Server(words[0], process.pid, Path(log.name))
        finally:
            end(process)


@dataclass
class Asked:
    """What clients were told."""

    statuses: Counter[int | str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)  # as `Server.memory`, one a second
    total_seconds: float = 0.0


def ask(server: Server, photos: Iterable[bytes], clients: int) -> Asked:
    """Let clients send photos, each its next one as soon as it has an answer."""
    asked, waiting, lock, done = Asked(), iter(photos), threading.Lock(), threading.Event()

    def client() -> None:
        with httpx.Client(base_url=server.address, timeout=60) as connection:
            while True:
                with lock:
                    photo = next(waiting, None)
                if photo is None:
                    return
                began = time.perf_counter()
                try:
                    status: int | str = connection.post("/recognise", content=photo).status_code
                except httpx.HTTPError as error:
                    status = type(error).__name__
                with lock:
                    asked.statuses[status] += 1
                    asked.seconds.append(time.perf_counter() - began)

    def watch() -> None:
        while not done.wait(1):
            asked.memory.append(server.memory())

    began = time.perf_counter()
    with ThreadPoolExecutor(clients + 1) as pool:
        watching = pool.submit(watch)
        for running in [pool.submit(client) for _ in range(clients)]:
            running.result()
        asked.total_seconds = time.perf_counter() - began
        done.set()
        watching.result()
    return asked


def say(asked: Asked, server: Server) -> None:
    """Print it."""
    answers = len(asked.seconds)
    middle, slow, slowest = np.percentile(asked.seconds, [50, 95, 100])
    print("answers by status:", ", ".join(f"{status}: {n}" for status, n in sorted(asked.statuses.items(), key=str)))
    print(
        f"{answers / asked.total_seconds:.1f} answers/s; median {middle:.3f} s, p95 {slow:.3f} s, worst {slowest:.3f} s"
    )
    tenths = [part.max(axis=0) for part in np.array_split(asked.memory, 10) if part.size]
    for who, sizes in zip(("the server", "its workers"), zip(*tenths, strict=True), strict=True):
        print(f"most memory of {who}, MiB, by tenths:", " ".join(f"{size:.0f}" for size in sizes))
    print(f"workers that ended over a photo: {server.lost_workers}")


def _memory(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it ended meanwhile
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / MEGABYTE
