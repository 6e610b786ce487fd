"""An evaluation as one page, `evaluation.html`: figures, coverage, calibration, confusion and the worst mistakes.

Pictures are SVG in the page itself; nothing refers to another file.
"""

import base64
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from verger.evaluation import BINS, Judged, confusion, coverage_curve, ranks

MISTAKES = 24  # shown, with their photos
SQUARES = 60  # labels that the picture of the confusion shows at most
PAIRS = 15


def render_evaluation(figures: Mapping[str, Any], judged: Judged, pictures: Mapping[int, bytes]) -> str:
    """The page as HTML.

    Args:
        figures: of `verger.evaluation.measure`.
        judged: what was said of each photo.
        pictures: small JPEGs of the worst mistakes, by their place among the photos; empty where there is none.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda share: "–" if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"
    template = environment.from_string(files("verger").joinpath("evaluation.html").read_text(encoding="utf-8"))
    table = confusion(judged)
    return template.render(
        figures=figures,
        names=[path[0] for path in judged.labels],
        cells=_cells(table),
        pairs=_pairs(judged, table),
        curve=coverage_curve(judged),
        bins=_bins(judged),
        mistakes=[_mistake(judged, i, pictures[i]) for i in pictures],
    )


def _cells(table: np.ndarray[Any, np.dtype[np.int64]]) -> list[tuple[int, int, int, float]]:
    """(row, column, photos, share of the row) of what is not empty; nothing where there are too many labels."""
    if len(table) > SQUARES:
        return []
    rows = np.maximum(table.sum(axis=1), 1)
    return [(int(r), int(c), int(table[r, c]), float(table[r, c] / rows[r])) for r, c in np.argwhere(table)]


def _pairs(judged: Judged, table: np.ndarray[Any, np.dtype[np.int64]]) -> list[tuple[str, str, int, int]]:
    """The commonest confusions: what it was, what it was taken for, how many photos, of how many."""
    wrong = table * (1 - np.eye(len(table), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    places = [divmod(int(at), len(table)) for at in order]
    named = [path[0] for path in judged.labels]
    return [(named[r], named[c], int(wrong[r, c]), int(table[r].sum())) for r, c in places if wrong[r, c]]


def _bins(judged: Judged) -> list[tuple[float, float, int]]:
    """(mean probability, share right, photos) of the best guesses in each bin that holds some."""
    at = judged.familiar()
    best, right = judged.probabilities.max(axis=1)[at], ranks(judged)[at] == 0
    bins = np.minimum((best * BINS).astype(int), BINS - 1)
    return [
        (float(best[bins == b].mean()), float(right[bins == b].mean()), int((bins == b).sum())) for b in np.unique(bins)
    ]


def _mistake(judged: Judged, at: int, picture: bytes) -> dict[str, Any]:
    guess = int(judged.probabilities[at].argmax())
    return {
        "path": judged.paths[at],
        "truth": judged.labels[judged.truth[at]][0],
        "guess": judged.labels[guess][0],
        "probability": float(judged.probabilities[at, guess]),
        "known": judged.answers[at].known,
        "picture": f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}" if picture else "",
    }
