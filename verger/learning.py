"""Statistics of the photos' folders, and a sample of photos → a recogniser. Closed form; no Spark, no network."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from verger.confidence import HeldOut, Sample, fit_temperature, fit_threshold, held_out
from verger.discriminant import FolderStatistics, fit_discriminant
from verger.evaluation import Judged
from verger.labels import LabelPath
from verger.projection import Projection, Statistics
from verger.recogniser import Recogniser, softmax

FEWEST_PHOTOS = 5  # of a label: fewer say too little of it, and it is left out
FEWEST_LABELS = 2


class LabelledPhoto(NamedTuple):
    """A photo of the sample."""

    folder: str
    vector: NDArray[np.float32]  # (d,)


class Learnt(NamedTuple):
    """A recogniser, and how it did on photos held out."""

    recogniser: Recogniser
    held_out: HeldOut
    whole_folders: bool  # every label has several folders, so that whole ones were held out

    def judge(self) -> Judged:
        """What was said of the photos held out. Temperature and threshold, two numbers, were fitted on them too."""
        recogniser, held = self.recogniser, self.held_out
        probabilities = softmax(held.scores / recogniser.temperature)
        answers = recogniser.answers(probabilities, held.squares / recogniser.threshold)
        return Judged(recogniser.labels, [""] * len(answers), held.truth, probabilities, answers)


def fit_recogniser(
    statistics: Statistics, projection: Projection, label_of: Mapping[str, LabelPath], sample: Sequence[LabelledPhoto]
) -> Learnt | None:
    """The recogniser of these photos; None where fewer than two labels have enough of them.

    Args:
        statistics: of all vectors, with folders.
        projection: of these vectors.
        label_of: the label of every folder.
        sample: evenly spaced over the photos, in the order of their paths: temperature and threshold are fitted on it.
    """
    kept = with_enough_photos(statistics, label_of)
    chosen = [photo for photo in sample if photo.folder in kept]
    if len(set(kept.values())) < FEWEST_LABELS or not chosen:
        return None
    discriminant = fit_discriminant(FolderStatistics.of(statistics, projection, kept))
    weight = residual_weight(projection)
    number = {folder: i for i, folder in enumerate(kept)}
    folders = np.array([number[photo.folder] for photo in chosen])
    seen = Sample(tuple(kept), tuple(kept.values()), folders, np.stack([photo.vector for photo in chosen]))
    judged = held_out(statistics, seen, projection, weight)
    recogniser = Recogniser(
        labels=discriminant.classes,
        coefficients=discriminant.coefficients,
        intercepts=discriminant.intercepts,
        precision=np.linalg.inv(discriminant.covariance).astype(np.float64),
        residual_weight=weight,
        temperature=fit_temperature(judged.scores, judged.truth),
        threshold=fit_threshold(judged.squares),
        fingerprint=projection.fingerprint,
    )
    return Learnt(recogniser, judged, min(Counter(kept.values()).values()) > 1)


def with_enough_photos(statistics: Statistics, label_of: Mapping[str, LabelPath]) -> dict[str, LabelPath]:
    """The folders whose labels have enough photos, in the order of their names."""
    folders = statistics.folders or {}
    photos: Counter[LabelPath] = Counter()
    for name, its in folders.items():
        photos[label_of[name]] += its.count
    return {name: label_of[name] for name in sorted(folders) if photos[label_of[name]] >= FEWEST_PHOTOS}


def residual_weight(projection: Projection) -> float:
    """1 / the usual variance of vectors in each direction that the components leave out; 0 where they leave nothing."""
    length, kept = projection.components.shape
    left = projection.total_variance - float(projection.variance.sum())
    return (length - kept) / left if length > kept and left > 1e-9 * projection.total_variance else 0.0
