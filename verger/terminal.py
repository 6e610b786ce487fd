"""Progress on a terminal: a bar with photos done, rate and time left; a line a stage where output is not a terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

WORDS = {
    "render": "Rendering the orchard",
    "upload": "Uploading photos",
    "list": "Listing photos",
    "calibrate": "Calibrating int8",
    "start": "Starting Spark",
    "embed": "Photos to vectors",
    "components": "Vectors to components",
    "recogniser": "Learning the labels",
    "report": "Writing the report",
}


class _Facts(ProgressColumn):
    """Photos done, seconds taken, and while a stage lasts its rate and the time left."""

    def render(self, task: Task) -> Text:
        """What is known of a stage, and no more."""
        done, total = task.fields["done"], task.fields["of"]
        seconds = task.fields["seconds"] or task.elapsed or 0.0
        facts = [f"{done:,} of {total:,} photos" if total else f"{done:,} photos"] if done or total else []
        facts.append(f"{seconds:.0f} s")
        if done and total and seconds:
            facts.append(f"{done / seconds:,.0f} photos/s")
            if not task.finished and done < total:
                facts.append(f"{seconds * (total - done) / done:.0f} s left")
        return Text(", ".join(facts))


class TerminalDisplay:
    """Shows the stages of a run. Use it as a context, so that the terminal is left as it was."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: TaskID | None = None
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=24),
            _Facts(),
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
        self._bar = self._progress.add_task(WORDS.get(stage, stage), total=total, done=0, of=total, seconds=0.0)

    def update(self, done: int) -> None:
        """Move the current bar."""
        if self._bar is not None:
            self._progress.update(self._bar, completed=done, done=done)

    def end(self, stage: str, seconds: float) -> None:
        """Fill the current bar; where there is no terminal, print a line instead."""
        if self._bar is not None:
            self._progress.update(self._bar, total=1, completed=1, seconds=seconds)
        if not self._console.is_terminal:
            self._console.print(f"{WORDS.get(stage, stage)}: {seconds:.1f} s")
