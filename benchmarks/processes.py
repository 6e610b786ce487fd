"""Processes of a benchmark: started, watched, and ended one by one by their ids. For Linux: it looks into /proc."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
PATIENCE_SECONDS = 10  # between asking a process to stop and making it


class TurnFailedError(Exception):
    """A contestant did not do what it was asked. The message is what it said last."""


class Process(NamedTuple):
    """A process as /proc shows it. Ids are used again, so `started` (clock ticks since boot) belongs to it."""

    pid: int
    parent: int
    started: int


def descendants(pid: int) -> list[Process]:
    """The children of a process, their children, and so on; whatever ends meanwhile is left out."""
    children: dict[int, list[Process]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (process := look(int(folder.name))):
            children.setdefault(process.parent, []).append(process)
    found, waiting = [], [pid]
    while waiting:
        of_one = children.get(waiting.pop(), [])
        found += of_one
        waiting += [child.pid for child in of_one]
    return found


def look(pid: int) -> Process | None:
    """A process, if it is there."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # a name may hold spaces
    except OSError:
        return None
    return Process(pid, int(facts[1]), int(facts[19]))


def script(name: str, job: Mapping[str, Any], python: str = sys.executable) -> dict[str, Any]:
    """Run a module of this folder in a process of its own; its argument and its answer are JSON."""
    answer = run([python, str(HERE / f"{name}.py"), json.dumps(job)])
    result: dict[str, Any] = json.loads(answer.strip().rpartition("\n")[2])
    return result


def run(command: Sequence[str], watch: Callable[[int], None] | None = None, every_seconds: float = 0.1) -> str:
    """What a command prints.

    Args:
        command: with its arguments.
        watch: called with the process' id, regularly while it runs.
        every_seconds: how regularly.

    Raises:
        TurnFailedError: it ended with another exit code than 0.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        # In a session of its own, so that Ctrl-C at the terminal reaches this process alone, which then ends that one.
        process = subprocess.Popen(command, stdout=out, stderr=errors, start_new_session=True)
        try:
            while watch and process.poll() is None:
                watch(process.pid)
                time.sleep(every_seconds)
            code = process.wait()
        except BaseException:
            end(process)
            raise
        out.seek(0)
        errors.seek(0)
        if code:
            said = errors.read().decode(errors="replace").strip() or f"exit code {code}"
            raise TurnFailedError("\n".join(said.splitlines()[-12:]))
        return out.read().decode()


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to stop, then end what is left of it and of those it started."""
    family = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_SECONDS)
    process.kill()
    process.wait()
    for member in family:
        found = look(member.pid)
        if found and found.started == member.started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)
