"""The stages of a run as people see them: a name, how much is done, how long it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

Progress = Callable[[int], None]  # called with the number of photos done


class Display(Protocol):
    """Something that shows progress. The command line has one; a program may bring its own."""

    def begin(self, stage: str, total: int | None) -> None:
        """A stage starts, of `total` photos or of unknown length."""

    def update(self, done: int) -> None:
        """So many photos of the current stage are done."""

    def end(self, stage: str, seconds: float) -> None:
        """The current stage is over."""


class Quiet:
    """A display that shows nothing."""

    def begin(self, stage: str, total: int | None) -> None:
        """Show nothing."""

    def update(self, done: int) -> None:
        """Show nothing."""

    def end(self, stage: str, seconds: float) -> None:
        """Show nothing."""


class Stages:
    """Times stages and tells a display about them."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self.started = datetime.now(UTC)
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str, total: int | None = None) -> Iterator[Progress]:
        """Run a stage; yields what is to be called with the number of photos done."""
        self._display.begin(stage, total)
        start = time.perf_counter()
        yield self._display.update
        self._seconds[stage] = time.perf_counter() - start
        self._display.end(stage, self._seconds[stage])

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of every stage so far, and `total` since the start, rounded to milliseconds."""
        total = time.perf_counter() - self._start
        return {stage: round(seconds, 3) for stage, seconds in {**self._seconds, "total": total}.items()}
