"""How good a recogniser is: judged on photos that it has not seen, by figures that are worth quoting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verger.labels import LabelPath
from verger.recogniser import Answer

BINS = 15  # of probabilities, for the calibration error
STRANGER = -1  # in place of a label's number: a photo whose label the recogniser does not know

Integers = NDArray[np.int64]
Numbers = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Judged:
    """What was said of n photos, and what they are."""

    labels: tuple[LabelPath, ...]  # c of them
    paths: Sequence[str]  # n
    truth: Integers  # (n,): numbers of labels, or STRANGER
    probabilities: Numbers  # (n, c)
    answers: Sequence[Answer]  # n
    folds: Integers = field(default_factory=lambda: np.empty(0, np.int64))  # (n,) in which fold, where there were some

    def familiar(self) -> Integers:
        """The places of the photos whose label the recogniser knows."""
        return np.flatnonzero(self.truth != STRANGER)


def measure(judged: Judged) -> dict[str, Any]:
    """The figures, as `verger evaluate --json` prints them.

    `photos`, `top1`, `top3`, `ece` (expected calibration error of the best guess), `coverage` (share of photos with a
    sure answer, at whatever level), `accuracy_when_sure` (share of those that are right at the level they name),
    `unknown` (share called unknown: false alarms, as these labels are known), all over the photos whose label is known;
    `strangers` over the others; `folds` where there were some.
    """
    at = judged.familiar()
    right = ranks(judged)[at]
    sure = np.array([judged.answers[i].sure for i in at.tolist()], dtype=bool)
    fitting = np.array([right_when_sure(judged, i) for i in at.tolist()], dtype=bool)
    best = judged.probabilities.max(axis=1)[at]
    figures: dict[str, Any] = {
        "photos": len(at),
        "top1": share(right == 0),
        "top3": share(right < 3),
        "coverage": share(sure),
        "accuracy_when_sure": share(fitting[sure]),
        "unknown": share(np.array([not judged.answers[i].known for i in at.tolist()], dtype=bool)),
        "ece": round(calibration_error(best, right == 0), 4) if len(at) else None,
    }
    strange = np.flatnonzero(judged.truth == STRANGER).tolist()
    if len(strange):
        unknown = np.array([not judged.answers[i].known for i in strange])
        figures["strangers"] = {"photos": len(strange), "unknown": share(unknown)}
    if len(judged.folds):
        folds = judged.folds[at]
        shares = np.array([float((right[folds == fold] == 0).mean()) for fold in np.unique(folds)])
        spread = {"mean": shares.mean(), "deviation": shares.std(), "worst": shares.min(), "best": shares.max()}
        figures["folds"] = {"count": len(shares), **{name: round(float(its), 4) for name, its in spread.items()}}
    return figures


def share(true: NDArray[np.bool_]) -> float | None:
    """The share of what is true, to four digits; None of nothing."""
    return round(float(true.mean()), 4) if len(true) else None


def ranks(judged: Judged) -> Integers:
    """At which place of the guesses the truth is (n,): 0 for the best; as many as there are labels for a stranger."""
    own = judged.probabilities[np.arange(len(judged.truth)), judged.truth][:, None]
    places = (judged.probabilities > own).sum(axis=1)
    return np.where(judged.truth == STRANGER, len(judged.labels), places)


def right_when_sure(judged: Judged, at: int) -> bool:
    """Whether the answer names the photo's label, or one of its parents."""
    return judged.truth[at] != STRANGER and judged.answers[at].label in judged.labels[judged.truth[at]]


def calibration_error(probabilities: Numbers, right: NDArray[np.bool_]) -> float:
    """Expected calibration error of n guesses, in BINS equally wide bins: Guo et al. 2017, (3)."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = [abs(float(probabilities[bins == b].sum() - right[bins == b].sum())) for b in np.unique(bins)]
    return sum(gaps) / len(probabilities)


def coverage_curve(judged: Judged) -> list[tuple[float, float]]:
    """If only the surest photos were answered: (share answered, share of those right), at a hundred places."""
    at = judged.familiar()
    order = np.argsort(-judged.probabilities[at].max(axis=1), kind="stable")
    right = (ranks(judged)[at] == 0)[order]
    shares = np.cumsum(right) / np.arange(1, len(right) + 1)
    places = np.unique(np.linspace(0, len(right) - 1, 100).astype(int)) if len(right) else np.empty(0, int)
    return [((i + 1) / len(right), float(shares[i])) for i in places]


def confusion(judged: Judged) -> NDArray[np.int64]:
    """How many photos of each label (row) were given each label (column), (c, c)."""
    at = judged.familiar()
    table = np.zeros((len(judged.labels),) * 2, np.int64)
    np.add.at(table, (judged.truth[at], judged.probabilities[at].argmax(axis=1)), 1)
    return table


def confusions(judged: Judged, most: int) -> list[tuple[str, str, int]]:
    """What a photo shows, what was said, and of how many photos; the most frequent first."""
    table = confusion(judged)
    np.fill_diagonal(table, 0)
    order = np.argsort(-table, axis=None, kind="stable")[:most]
    pairs = [divmod(int(i), len(judged.labels)) for i in order]
    return [(judged.labels[a][0], judged.labels[b][0], int(table[a, b])) for a, b in pairs if table[a, b]]


def worst_mistakes(judged: Judged, most: int) -> list[int]:
    """The places of photos whose wrong label had the greatest probability, largest first; of each folder the worst."""
    at = judged.familiar()
    wrong = at[ranks(judged)[at] > 0]
    order = wrong[np.argsort(-judged.probabilities[wrong].max(axis=1), kind="stable")]
    of_folder: Mapping[str, int] = {judged.paths[i].rpartition("/")[0]: int(i) for i in order[::-1]}
    return sorted(of_folder.values(), key=lambda i: -float(judged.probabilities[i].max()))[:most]
