"""The processes that run the network: a fixed number, each replaced when it fails, with a short queue before them.

Photos are hostile until decoded, and decoders are written in C. So the bytes of a photo are looked at in a process of
its own (verger/web/worker.py): if that dies or takes too long, the server loses nothing but that process.
"""

import asyncio
import contextlib
import json
import logging
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from typing import Any, Self

from verger.errors import RunFailedError, SettingError
from verger.web.refusal import BUSY_SECONDS, RefusalError

START_SECONDS = 120
STOP_SECONDS = 5
LONGEST_PAUSE_SECONDS = 60  # between two attempts to replace a worker
LENGTH_BYTES = 4  # of the number before every message, big-endian
# What a photo took goes back to the system: otherwise the C library keeps more of it after every larger photo.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
log = logging.getLogger(__name__)


class Worker:
    """One process, asked one photo at a time."""

    def __init__(self, process: Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, command: Sequence[str]) -> Self:
        """A worker that is ready.

        Raises:
            SettingError: it says that what it was given cannot be used.
            RunFailedError: it ended, or did not get ready in time.
        """
        environment = GIVE_BACK | os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, env=environment, start_new_session=True
        )  # a session of its own: Ctrl-C is the server's to handle
        worker = cls(process)
        try:
            async with asyncio.timeout(START_SECONDS):
                said = json.loads(await worker.hear())
        except BaseException as error:
            await worker.stop()
            if isinstance(error, TimeoutError | asyncio.IncompleteReadError):
                received = f"one that ended with {process.returncode}"
                raise RunFailedError("a process that runs the network", received, "It wrote why, above.") from None
            raise
        if "expected" in said:
            await worker.stop()
            raise SettingError(said["expected"], said["received"], said["advice"])
        return worker

    async def ask(self, photo: bytes) -> bytes:
        """What it says of a photo. Raises OSError or IncompleteReadError where it dies of it."""
        assert self.process.stdin  # noqa: S101  (it was started with a pipe)
        self.process.stdin.write(len(photo).to_bytes(LENGTH_BYTES, "big"))
        self.process.stdin.write(photo)
        await self.process.stdin.drain()
        return await self.hear()

    async def hear(self) -> bytes:
        """The next message."""
        assert self.process.stdout  # noqa: S101  (it was started with a pipe)
        length = int.from_bytes(await self.process.stdout.readexactly(LENGTH_BYTES), "big")
        return await self.process.stdout.readexactly(length)

    async def stop(self) -> None:
        """End it, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        async with asyncio.timeout(STOP_SECONDS):
            await self.process.communicate()  # so that its pipes are closed too


class Pool:
    """A fixed number of workers. Use it as a context: it starts them, and ends them.

    Args:
        command: starts a worker.
        workers: how many.
        waiting: photos that may wait for one.
        seconds: that a worker may take for a photo.
    """

    def __init__(self, command: Sequence[str], workers: int, waiting: int, seconds: float) -> None:
        self._command, self._most_waiting, self._seconds = command, waiting, seconds
        self._wanted, self.waiting = workers, 0
        self._workers: set[Worker] = set()
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        self._chores: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.TaskGroup() as starting:
                for _ in range(self._wanted):
                    starting.create_task(self._start())
        except BaseException as error:  # noqa: BLE001  (raised again, below)
            await self.__aexit__()
            raise error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error from None
        return self

    async def __aexit__(self, *_: object) -> None:
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        await asyncio.gather(*(worker.stop() for worker in self._workers), return_exceptions=True)

    @property
    def workers(self) -> int:
        """How many can answer, or are answering."""
        return len(self._workers)

    @property
    def full(self) -> bool:
        """True while no more photos can wait."""
        return self.waiting >= self._most_waiting

    async def answer(self, photo: bytes) -> dict[str, Any]:
        """What a worker says of a photo: an answer, or `{"error": cause}`.

        Raises:
            RefusalError: `busy`, where too many photos wait, or this one takes too long; `unreadable`, where two
                workers died of it.
        """
        for _ in range(2):  # the first may have died of something else, long before
            worker = await self._next_idle()
            try:
                async with asyncio.timeout(self._seconds):
                    reply = await worker.ask(photo)
            except BaseException as error:
                self._replace(worker)
                if isinstance(error, TimeoutError):
                    raise RefusalError("busy", BUSY_SECONDS) from None
                if not isinstance(error, OSError | asyncio.IncompleteReadError):
                    raise
            else:
                self._idle.put_nowait(worker)
                said: dict[str, Any] = json.loads(reply)
                return said
        raise RefusalError("unreadable")

    async def _next_idle(self) -> Worker:
        if self.full:
            raise RefusalError("busy", BUSY_SECONDS)
        self.waiting += 1
        try:
            return await self._idle.get()
        finally:
            self.waiting -= 1

    async def _start(self) -> None:
        worker = await Worker.start(self._command)
        self._workers.add(worker)
        self._idle.put_nowait(worker)

    def _replace(self, worker: Worker) -> None:
        self._workers.discard(worker)
        chore = asyncio.create_task(self._start_another(worker))
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _start_another(self, lost: Worker) -> None:
        await lost.stop()
        log.warning("A worker ended with %s over a photo; another takes its place.", lost.process.returncode)
        pause_seconds = 1
        while True:
            try:
                return await self._start()
            except (SettingError, RunFailedError, OSError) as error:
                log.warning("No worker could be started: %s Trying again in %s s.", error, pause_seconds)
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
