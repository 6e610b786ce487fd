"""Progress on a terminal: a bar with photos done, rate and time left; a line a stage where output is not a terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

WORDS = {
    "render": "Rendering the orchard",
    "list": "Listing photos",
    "start": "Starting Spark",
    "embed": "Photos to vectors",
    "components": "Vectors to components",
    "report": "Writing the report",
}


class _Rate(ProgressColumn):
    """Photos a second since the stage began."""

    def render(self, task: Task) -> Text:
        """The rate, once there is one."""
        if not task.completed or not task.elapsed:
            return Text("")
        return Text(f"{task.completed / task.elapsed:,.0f} photos/s")


class TerminalDisplay:
    """Shows the stages of a run. Use it as a context, so that the terminal is left as it was."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: TaskID | None = None
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def begin(self, stage: str, total: int | None) -> None:
        """Start a bar; without a total it only moves."""
        self._bar = self._progress.add_task(WORDS.get(stage, stage), total=total)

    def update(self, done: int) -> None:
        """Move the current bar."""
        if self._bar is not None:
            self._progress.update(self._bar, completed=done)

    def end(self, stage: str, seconds: float) -> None:
        """Fill the current bar; where there is no terminal, print a line instead."""
        if self._bar is None:
            return
        task = self._progress.tasks[self._bar]
        self._progress.update(
            self._bar, total=task.total or task.completed or 1, completed=task.total or task.completed or 1
        )
        if not self._console.is_terminal:
            self._console.print(f"{WORDS.get(stage, stage)}: {seconds:.1f} s")
