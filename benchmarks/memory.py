"""The memory of a run while it lasts: of every Python worker, and of the driver's JVM."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from processes import Process, descendants

# The JVM keeps counters of itself in a small file that is mapped into its memory, and that `jstat` reads too: so a JRE
# is enough, and looking costs the JVM nothing. Every pool of the heap has one: sun.gc.generation.N.space.M.used.
COUNTERS = "hsperfdata_*"
MAGIC = b"\xca\xfe\xc0\xc0"
MEGABYTE = 2**20


@dataclass
class Peaks:
    """The largest values seen, in MiB."""

    values: dict[str, float] = field(default_factory=dict)
    samples: int = 0

    def see(self, pid: int) -> None:
        """Look once at a run that goes on, by the id of its first process."""
        family = descendants(pid)
        virtual = {process.pid for process in family if _name(process.pid) == "java"}
        python = {process.pid: process for process in family if _name(process.pid).startswith("python")}
        workers = [process for process in python.values() if _forked(process, python, virtual)]
        sizes = [_python_memory(worker.pid) for worker in workers]
        for name in ("rss", "pss"):
            found = [size[name] for size in sizes if name in size]
            self._keep(f"worker_{name}", max(found, default=0.0))
            self._keep(f"workers_{name}", sum(found))
        self._keep("workers", len(sizes))
        for pid_of_java in virtual:
            self._keep("jvm_rss", _status(pid_of_java))
            self._keep("jvm_heap", heap_used(pid_of_java))
        self.samples += 1

    def _keep(self, name: str, value: float) -> None:
        self.values[name] = round(max(value, self.values.get(name, 0.0)), 1)


def _forked(process: Process, python: dict[int, Process], virtual: set[int]) -> bool:
    """True of a worker: its parent is Spark's Python daemon, which is a child of the JVM."""
    return process.parent in python and python[process.parent].parent in virtual


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _python_memory(pid: int) -> dict[str, float]:
    """Resident memory, and the proportional share of it: what workers have in common is divided among them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return {}
    wanted = {"Rss:": "rss", "Pss:": "pss"}
    words = [line.split() for line in lines]
    return {wanted[word[0]]: int(word[1]) / 1024 for word in words if word[0] in wanted}


def _status(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)


def heap_used(pid: int) -> float:
    """MiB of the JVM's heap in use, garbage included; 0 where the JVM says nothing."""
    for file in Path("/tmp").glob(f"{COUNTERS}/{pid}"):
        try:
            content = file.read_bytes()
            pools = [value for name, value in counters(content) if _is_heap(name)]
        except (OSError, struct.error, UnicodeDecodeError):  # it ends, or writes
            continue
        return sum(pools) / MEGABYTE
    return 0.0


def _is_heap(name: str) -> bool:
    return name.startswith("sun.gc.generation.") and ".space." in name and name.endswith(".used")


def counters(content: bytes) -> Iterator[tuple[str, int]]:
    """The whole numbers of a JVM's counters: name, value.

    The layout is that of HotSpot's perfMemory.hpp, version 2: a prologue of 32 bytes that says where the entries begin
    and how many they are; an entry says its length, where its name and its value lie in it, and its type.
    """
    if content[:4] != MAGIC:
        return
    order = "<" if content[4] else ">"
    at, count = struct.unpack_from(f"{order}ii", content, 24)
    for _ in range(count):
        length, name_at, vector = struct.unpack_from(f"{order}iii", content, at)
        kind, value_at = content[at + 12 : at + 13], struct.unpack_from(f"{order}i", content, at + 16)[0]
        if kind == b"J" and not vector:
            name = content[at + name_at : content.index(b"\0", at + name_at)].decode()
            yield name, struct.unpack_from(f"{order}q", content, at + value_at)[0]
        at += length
