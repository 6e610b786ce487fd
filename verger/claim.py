"""One run at a time on a DEST: a small file that says who works there, renewed as long as that run lives.

The store has to offer nothing but whole files. A run writes its name where no living run has, waits until nobody can be
about to write another, and looks again: of runs that start together, the one that wrote last goes on. It looks once
more before it commits, because others take a run that was asleep for a dead one.
"""

import contextlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from verger.errors import RunFailedError, SettingError
from verger.storage import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, Place

NAME = ".verger-run.json"
BEAT_SECONDS, DEAD_SECONDS = 5.0, 30.0  # how often a claim is renewed; after what time without, its run is dead
LOOK_SECONDS = 0.3  # between writing a claim and looking again, on storage that answers at once

_held: set[str] = set()  # runs of this process that hold a DEST now


@dataclass(frozen=True)
class Claim:
    """Who works on a DEST."""

    process: str  # as `_process` names it
    pid: int
    host: str
    run: str = field(default_factory=lambda: secrets.token_hex(4))
    started: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
    beat: int = 0  # grows as long as the run lives; a count and no time, because clocks of two machines disagree


@contextlib.contextmanager
def claimed(dest: Place) -> Iterator[Callable[[], None]]:
    """Hold DEST against other runs; yields a check to call before anything changes, and again before the commit.

    Raises:
        SettingError: another run works on DEST, or (from the check) has started together with this one.
        RunFailedError: (from a later check) this run was taken for dead, and another has begun.
    """
    if found := _read(dest):
        _refuse_living(dest, found)
    mine = Claim(_process(os.getpid()), os.getpid(), platform.node())
    asked = time.monotonic()
    dest.write(NAME, json.dumps(asdict(mine)).encode())
    # Whoever looked just before has written by then, even where storage is several times as slow as here.
    settled = time.monotonic() + LOOK_SECONDS + 8 * (time.monotonic() - asked)
    error: type[SettingError | RunFailedError] = SettingError

    def check() -> None:
        nonlocal error
        time.sleep(max(0.0, settled - time.monotonic()))
        if (holder := _read(dest)) is None or holder.run != mine.run:
            raise error(*_refusal(dest, holder))
        for file in list(dest.files()) if found and error is SettingError else []:  # the killed run's unfinished ones
            if file.path.rpartition("/")[2].startswith(TEMPORARY_PREFIX) and file.path.endswith(TEMPORARY_SUFFIX):
                dest.delete(file.path)
        error = RunFailedError

    _held.add(mine.run)
    finished = threading.Event()
    thread = threading.Thread(target=_renew, args=(dest, mine, finished), daemon=True)
    thread.start()
    try:
        yield check
    finally:
        finished.set()
        thread.join()
        _held.discard(mine.run)
        with contextlib.suppress(OSError):
            if (holder := _read(dest)) and holder.run == mine.run:
                dest.delete(NAME)


def _renew(dest: Place, mine: Claim, finished: threading.Event) -> None:
    while not finished.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):  # storage that fails for a moment; the run itself will tell if it lasts
            if (holder := _read(dest)) is None or holder.run != mine.run:
                return
            dest.write(NAME, json.dumps(asdict(replace(holder, beat=holder.beat + 1))).encode())


def _refuse_living(dest: Place, found: Claim) -> None:
    """Return once the run that made a claim is known to be dead; refuse as soon as it is known to live."""
    if found.process.split(" ")[:2] == _process(os.getpid()).split(" ")[:2] != [""]:  # this machine, this container
        # A run of this process may be over although its claim is there: storage that failed kept it from leaving.
        if found.process == _process(found.pid) and (found.pid != os.getpid() or found.run in _held):
            raise SettingError(*_refusal(dest, found))
        return
    now, until = _read(dest), time.monotonic() + DEAD_SECONDS
    while now == found and time.monotonic() < until:
        time.sleep(DEAD_SECONDS / 30)
        now = _read(dest)
    if now not in (None, found):
        raise SettingError(*_refusal(dest, now))


def _process(pid: int) -> str:
    """A process for good: boot, container, number, start. "" where it is gone, or where there is no /proc."""
    with contextlib.suppress(OSError):
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return "" if state == "Z" else f"{boot} {Path('/proc/self/ns/pid').readlink()} {pid} {numbers[18]}"
    return ""


def _read(dest: Place) -> Claim | None:
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):  # what is no claim of ours claims nothing
        return Claim(**json.loads(dest.read(NAME)))
    return None


def _refusal(dest: Place, holder: Claim | None) -> tuple[str, str, str]:
    who = f"run {holder.run}, process {holder.pid} on {holder.host} since {holder.started}" if holder else "another one"
    wait = "Wait for it or stop it, and run again: what is done stays done. Or choose another --to."
    return f"no other run on {dest.uri}", who, wait
