"""Components → what fruit it is, how sure that is, or "not a fruit I know". Pure NumPy: no Spark, no ONNX.

A linear discriminant scores every label (`verger.discriminant`); its scores, divided by a temperature, become
probabilities (C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599). Labels form a
tree: a parent is as probable as all that lies below it, and the answer is the finest label that is probable enough.

Whether it is anything known is decided by how far the photo lies from the nearest label: Mahalanobis' distance within
the components, and beside it what the components leave out of the vector, divided by its usual variance. Both together
are Mahalanobis' distance in all d dimensions where what is left out has the same variance in every direction:
B. Moghaddam and A. Pentland, "Probabilistic Visual Learning for Object Representation", IEEE PAMI 19(7), 1997.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verger.errors import SettingError
from verger.labels import LabelPath

RECOGNISER, RECOGNISER_GRAPH = "model/recogniser.npz", "model/recogniser.onnx"  # in DEST
SURE = 0.8  # an answer is sure of a label that is at least so probable
GUESSES = 3

Floats = NDArray[np.float64]
Numbers = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Guess:
    """A label that a photo may have."""

    label: str  # a finest label, such as "Braeburn"
    parents: tuple[str, ...]  # nearest first, such as ("Apple",)
    probability: float


@dataclass(frozen=True)
class Answer:
    """What a photo shows."""

    label: str | None  # the finest label, or parent, that it is sure of; None if unknown, or sure of nothing
    sure: bool
    known: bool  # it looks like something of the run
    probability: float  # calibrated, of `label`; of the best guess where that is None
    guesses: tuple[Guess, ...]  # up to three, best first
    distance: float  # how unlike anything known, from 0; above 1 it is unknown


@dataclass(frozen=True)
class Recogniser:
    """Labels, and what scores them: everything that is in `recogniser.npz`."""

    labels: tuple[LabelPath, ...]  # c of them, finest label first
    coefficients: Floats  # (k, c)
    intercepts: Floats  # (c,)
    precision: Floats  # (k, k): inverse of the covariance within labels
    residual_weight: float  # 1 / usual variance, in each direction, of what the components leave out
    temperature: float
    threshold: float  # the squared distance that few known photos pass
    fingerprint: str  # of the network

    def scores(self, components: Numbers) -> Floats:
        """Components (n, k) → (n, c): log-densities of the labels, up to a constant that they share."""
        scores: Floats = components.astype(np.float64) @ self.coefficients + self.intercepts
        return scores

    def probabilities(self, components: Numbers) -> Floats:
        """Components (n, k) → calibrated probabilities (n, c) of the labels, if it is one of them."""
        return softmax(self.scores(components) / self.temperature)

    def distances(self, components: Numbers, residuals: Numbers) -> Floats:
        """How unlike anything known: squared distance (n,) to the nearest label, 1 at the threshold.

        Args:
            components: (n, k).
            residuals: (n,), squared length of what the components leave out, as `Projection.residuals` gives it.
        """
        z = components.astype(np.float64)
        squares = ((z @ self.precision) * z).sum(axis=1) - 2 * self.scores(z).max(axis=1)
        distances: Floats = np.maximum(squares + self.residual_weight * residuals, 0.0) / self.threshold
        return distances

    def answer(self, components: Numbers, residuals: Numbers) -> list[Answer]:
        """Components (n, k) and residuals (n,) of n photos → n answers."""
        return self.answers(self.probabilities(components), self.distances(components, residuals))

    def answers(self, probabilities: Numbers, distances: Numbers) -> list[Answer]:
        """Answers from probabilities (n, c) and distances (n,): what `recogniser.onnx` gives."""
        return [
            self._answer(row, float(distance))
            for row, distance in zip(probabilities.astype(np.float64), distances, strict=True)
        ]

    def _answer(self, probabilities: Floats, distance: float) -> Answer:
        best = np.argsort(-probabilities, kind="stable")[:GUESSES]
        guesses = tuple(Guess(self.labels[i][0], self.labels[i][1:], float(probabilities[i])) for i in best)
        label = finest_sure(self.labels, probabilities) if distance <= 1 else None
        probability = guesses[0].probability if label is None else label[1]
        name = None if label is None else label[0][0]
        return Answer(name, label is not None, distance <= 1, probability, guesses, distance)

    def to_bytes(self) -> bytes:
        """As the content of `recogniser.npz`; the same recogniser gives the same bytes."""
        out = io.BytesIO()
        depth = max(map(len, self.labels))
        labels = [[*path, *[""] * (depth - len(path))] for path in self.labels]  # no folder has an empty name
        np.savez(
            out,
            labels=np.array(labels, dtype=np.str_),
            coefficients=self.coefficients,
            intercepts=self.intercepts,
            precision=self.precision,
            residual_weight=np.float64(self.residual_weight),
            temperature=np.float64(self.temperature),
            threshold=np.float64(self.threshold),
            fingerprint=np.str_(self.fingerprint),
        )
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Recogniser":
        """Read what `to_bytes` wrote. No pickle is ever read.

        Raises:
            SettingError: the content is something else.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return cls(
                    labels=tuple(tuple(step for step in path if step) for path in arrays["labels"].tolist()),
                    coefficients=arrays["coefficients"],
                    intercepts=arrays["intercepts"],
                    precision=arrays["precision"],
                    residual_weight=float(arrays["residual_weight"]),
                    temperature=float(arrays["temperature"]),
                    threshold=float(arrays["threshold"]),
                    fingerprint=str(arrays["fingerprint"]),
                )
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            advice = "Run again on the same DEST: it writes a new one."
            raise SettingError("a recogniser.npz that Verger wrote", f"{error}", advice) from error


def softmax(scores: Floats) -> Floats:
    """Scores (n, c) → probabilities (n, c)."""
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def finest_sure(labels: Sequence[LabelPath], probabilities: Floats) -> tuple[LabelPath, float] | None:
    """The finest label, or parent, that is at least SURE, and its probability.

    Labels that are each more probable than one half lie on one line from a leaf to the root, so the least of those that
    are sure is the finest.
    """
    nodes: dict[LabelPath, float] = {}
    for path, probability in zip(labels, probabilities, strict=True):
        for depth in range(len(path)):
            nodes[path[depth:]] = nodes.get(path[depth:], 0.0) + float(probability)
    sure = [(path, min(probability, 1.0)) for path, probability in nodes.items() if probability >= SURE]
    return max(sure, key=lambda one: len(one[0]), default=None)
