"""How sure a recogniser may be: temperature and threshold, fitted on photos that it was not fitted on.

Photos of one folder resemble each other more than a stranger's will: frames of one turning fruit, a walk through one
shop. Where a label has several folders, whole folders are held out; where it has one, runs of neighbouring photos are,
which is the best that such a folder allows, and too hopeful.

Projection and discriminant are fitted again without them.
"""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from verger.discriminant import FolderStatistics, fit_discriminant
from verger.labels import LabelPath
from verger.projection import FolderSum, Projection, Statistics, refit_projection

FOLDS = 5
FALSE_ALARMS = 0.05  # share of photos of known fruit that may be called unknown
LEAST_LEFT = (
    0.25  # of the scatter in any direction, without a fold: estimates may say less; on 9,800 photos 0.32 are left
)
LOWEST, HIGHEST = -3.0, 6.0  # of the logarithm of a temperature

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """Some photos, in the order of their paths, of f folders."""

    names: tuple[str, ...]  # of the folders
    labels: tuple[LabelPath, ...]  # of the folders
    folders: Integers  # (n,): numbers of folders
    vectors: NDArray[np.float32]  # (n, d)


@dataclass(frozen=True)
class HeldOut:
    """What recognisers said of photos that they had not seen: n of them, of c labels in sorted order."""

    scores: Floats  # (n, c)
    truth: Integers  # (n,): numbers of labels
    squares: Floats  # (n,): squared distance to the nearest label, residuals included


def folds_of(sample: Sample) -> Integers:
    """In which of FOLDS each photo is held out (n,)."""
    of_label = Counter(sample.labels)
    turn = 0  # goes on from label to label, so that labels of two folders each do not all use the same two folds
    folds = np.empty(len(sample.folders), np.int64)
    for folder in sorted(range(len(sample.labels)), key=lambda i: (sample.labels[i], sample.names[i])):
        mine = np.flatnonzero(sample.folders == folder)
        if of_label[sample.labels[folder]] > 1:
            folds[mine] = turn % FOLDS
            turn += 1
        else:
            folds[mine] = np.arange(len(mine)) * FOLDS // max(1, len(mine))
    return folds


@dataclass(frozen=True)
class Scatter:
    """What is known of all photos: n of them, in f folders."""

    count: int
    names: tuple[str, ...]  # f
    counts: Floats  # (f,)
    sums: Floats  # (f, d)
    within: Floats  # (d, d): scatter about the means of folders

    @classmethod
    def of(cls, statistics: Statistics) -> "Scatter":
        """From statistics with folders."""
        folders = statistics.folders or {}
        counts = np.array([float(its.count) for its in folders.values()])
        sums = np.stack([its.sum for its in folders.values()])
        apart = (sums / counts[:, None] - statistics.mean) * np.sqrt(counts)[:, None]
        return cls(statistics.count, tuple(folders), counts, sums, statistics.scatter - apart.T @ apart)

    def without(self, sample: Sample, held: Integers) -> tuple[Statistics, float]:
        """The statistics of all photos but those for which the ones of the sample at `held` stand.

        Scatter within folders is estimated from the sample, as only count and sum are known of all photos: second, the
        share of what is taken away that is estimated. It may leave less than nothing in some direction.
        """
        place = {name: i for i, name in enumerate(self.names)}
        at = np.array([place[name] for name in sample.names])[sample.folders[held]]
        off = sample.vectors[held] - (self.sums / self.counts[:, None])[at]
        counts, sums = self.counts.copy(), self.sums.copy()
        of_label = Counter(sample.labels)
        seen = np.bincount(sample.folders, minlength=len(sample.names))
        for folder in np.unique(sample.folders[held]):
            mine, i = sample.folders[held] == folder, place[sample.names[folder]]
            if of_label[sample.labels[folder]] > 1:
                gone = counts[i]
                counts[i] = sums[i] = 0
            else:  # a run of its photos, and never all of them
                gone = max(1, round(mine.sum() / max(int(seen[folder]), FOLDS) * counts[i]))
                counts[i] -= gone
                sums[i] -= gone * sample.vectors[held[mine]].mean(axis=0, dtype=np.float64)
            off[mine] *= np.sqrt(gone / mine.sum())
        left = np.flatnonzero(counts)
        count = int(counts.sum())
        mean = sums[left].sum(axis=0) / count
        apart = (sums[left] / counts[left, None] - mean) * np.sqrt(counts[left])[:, None]
        folders = {self.names[i]: FolderSum(int(counts[i]), sums[i]) for i in left}
        estimated = max(0.0, 1 - len(held) / (self.count - count))
        return Statistics(count, mean, self.within - off.T @ off + apart.T @ apart, folders), estimated


def raised(covariance: Floats, least: float, whole: Floats) -> Floats:
    """The covariance (k, k), raised in every direction where it has less than this share of the whole one."""
    ridge = max(1e-9 * float(np.trace(whole)) / len(whole), 1e-300) * np.eye(len(whole))  # no direction has nothing
    root = np.linalg.cholesky(whole + ridge)
    half = np.linalg.solve(root, covariance)
    shares, directions = np.linalg.eigh(np.linalg.solve(root, half.T))
    back = root @ directions
    higher: Floats = (back * np.maximum(shares, least)) @ back.T
    return higher


def held_out(statistics: Statistics, sample: Sample, projection: Projection, residual_weight: float) -> HeldOut:
    """Let every photo of the sample be judged by what never saw it, nor its folder where its label has others."""
    labels: Sequence[LabelPath] = sorted(set(sample.labels))
    label_of = dict(zip(sample.names, sample.labels, strict=True))
    number = {label: i for i, label in enumerate(labels)}
    truth = np.array([number[sample.labels[folder]] for folder in sample.folders])
    scores = np.full((len(truth), len(labels)), -np.inf)
    squares = np.empty(len(truth))
    folds, scatter = folds_of(sample), Scatter.of(statistics)

    def judge(fold: int) -> None:
        held = np.flatnonzero(folds == fold)
        left, estimated = scatter.without(sample, held)
        refitted = refit_projection(projection, left)
        folders = FolderStatistics.of(left, refitted, label_of)
        matrix = refitted.components / refitted.scale[:, None]
        whole = matrix.T @ scatter.within @ matrix / scatter.count
        within = raised(folders.within, LEAST_LEFT * estimated, whole) if estimated else folders.within
        discriminant = fit_discriminant(replace(folders, within=within))
        components = refitted.apply(sample.vectors[held])
        own = discriminant.scores(components)
        scores[np.ix_(held, np.array([number[label] for label in discriminant.classes]))] = own
        residuals = refitted.residuals(sample.vectors[held], components)
        squares[held] = discriminant.squares(components) + residual_weight * residuals

    # A fold a thread: NumPy lets them run at once. More would hold more copies of the scatter.
    with threadpool_limits(1), ThreadPoolExecutor(min(FOLDS, os.cpu_count() or 1)) as threads:
        list(threads.map(judge, np.unique(folds)))
    return HeldOut(scores, truth, squares)


def fit_temperature(scores: Floats, truth: Integers) -> float:
    """What scores (n, c) must be divided by to give the likeliest probabilities of the truth (n,)."""
    ratio = (np.sqrt(5) - 1) / 2  # golden section: the loss has one minimum along the inverse of a temperature
    low, high = LOWEST, HIGHEST
    while high - low > 1e-3:
        first, second = high - ratio * (high - low), low + ratio * (high - low)
        if _loss(scores, truth, first) <= _loss(scores, truth, second):
            high = second
        else:
            low = first
    return float(np.exp((low + high) / 2))


def _loss(scores: Floats, truth: Integers, log_temperature: float) -> float:
    """Mean negative log-likelihood of the truth."""
    scaled = (scores - scores.max(axis=1, keepdims=True)) / np.exp(log_temperature)
    return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(truth)), truth]).mean())


def fit_threshold(squares: Floats) -> float:
    """The squared distance that a share FALSE_ALARMS of known photos passes."""
    return max(float(np.quantile(squares, 1 - FALSE_ALARMS)), 1e-12)
