"""The commands that ask a finished run what it has learnt: `recognise` and `evaluate`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from verger import tables
from verger.errors import Cause, PhotoError, RunFailedError
from verger.manifest import read_manifest
from verger.recogniser import Answer
from verger.settings import Limits
from verger.stages import Stages
from verger.storage import open_place
from verger.terminal import TerminalDisplay

console = Console(highlight=False)
problems = Console(stderr=True, highlight=False)
NO_ANSWER: dict[str, Any] = {
    "label": None,
    "sure": False,
    "known": False,
    "probability": None,
    "distance": None,
    "guesses": [],
}
with_option = click.option(
    "--with", "dest", metavar="DEST", required=True, envvar="VERGER_DEST", help="DEST of a finished run."
)


@click.command()
@click.argument("photos", nargs=-1, required=True)
@with_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def recognise(photos: tuple[str, ...], dest: str, *, as_json: bool) -> None:
    """Say what photos show, by what a run has learnt. Exit code 1 if none of them can be read.

    \b
    Example:
        verger recognise apple.jpg --with out
    """
    from verger.recognition import load  # ONNX Runtime: other commands start quicker without it

    place = open_place(dest)
    recognition = load(place)
    settings = read_manifest(place)["settings"]
    limits = Limits(int(settings["max_bytes"]), int(settings["max_pixels"]))
    answers = []
    for photo in photos:
        content = _read(photo, limits.max_bytes)
        answer = content if isinstance(content, PhotoError) else recognition.answer([content], limits)[0]
        answers.append(answer_as_json(answer) | {"photo": photo})
    if as_json:
        click.echo(json.dumps(answers, indent=2, ensure_ascii=False))
    else:
        console.print(tables.answers(answers))
    if all(answer["error"] for answer in answers):
        causes = ", ".join(sorted({answer["error"] for answer in answers}))
        raise RunFailedError("a photo that can be read", f"none ({causes})", "Check the paths and the files.")


def answer_as_json(answer: Answer | PhotoError) -> dict[str, Any]:
    """An answer as programs see it; `error` is the cause where the photo could not be read, else null."""
    if isinstance(answer, PhotoError):
        return {**NO_ANSWER, "error": answer.cause}
    return {**asdict(answer), "error": None}


def _read(photo: str, max_bytes: int) -> bytes | PhotoError:
    cause: Cause
    try:
        path = Path(photo)
        return PhotoError("too_large") if path.stat().st_size > max_bytes else path.read_bytes()
    except FileNotFoundError:
        cause = "vanished"
    except OSError:
        cause = "unreadable"
    return PhotoError(cause)


@click.command()
@click.argument("source")
@with_option
@click.option(
    "--label-level", type=click.IntRange(1), show_default="the run's", help="Which parent folder is the label."
)
@click.option("--hold-out-level", type=click.IntRange(1), help="Hold out folders of this level in turn, and refit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def evaluate(source: str, dest: str, *, label_level: int | None, hold_out_level: int | None, as_json: bool) -> None:
    """Judge the recogniser of a run on the photos of SOURCE, whose folders say what they show.

    They should be photos that the run has not seen. With --hold-out-level, SOURCE is that of the run: its vectors are
    used again, and folders are held out in turn. Writes DEST/evaluation.html.

    \b
    Example:
        verger evaluate photos --with out --label-level 2 --hold-out-level 1
    """
    from verger.evaluate import PAGE
    from verger.evaluate import evaluate as judge

    place = open_place(dest)
    with TerminalDisplay(problems) as display, Stages(display)("evaluate") as done:
        figures = judge(open_place(source), place, label_level, hold_out_level, done)
    if as_json:
        click.echo(json.dumps(figures, indent=2, ensure_ascii=False))
    else:
        console.print(tables.evaluation(figures, f"{place.uri}/{PAGE}"))
        _warn(figures)


def _warn(figures: Mapping[str, Any]) -> None:
    if figures["fitted_on_these"]:
        advice = "Use photos that it has not seen, or --hold-out-level."
        problems.print(f"The recogniser was fitted on these very photos, so the figures are too good. {advice}")
