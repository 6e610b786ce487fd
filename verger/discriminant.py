"""Linear discriminants with analytic shrinkage, in closed form, from what one pass over the photos gathers.

R. A. Fisher, "The Use of Multiple Measurements in Taxonomic Problems", Annals of Eugenics 7(2), 1936, for any number of
classes. The covariance is shrunk towards a multiple of the identity by as much as OAS says: Y. Chen, A. Wiesel,
Y. C. Eldar and A. O. Hero, "Shrinkage Algorithms for MMSE Covariance Estimation", IEEE Transactions on Signal
Processing 58(10), 2010, arXiv:0907.4698. OAS needs two traces of the covariance and no second look at the photos.

Means are not taken at their word. The photos of one folder were taken in one place, on one day: together they are one
observation of what their label looks like elsewhere. Means are expected to fall back towards their own mean by as much
as so few observations leave open, and to be that uncertain: S. Ioffe, "Probabilistic Linear Discriminant Analysis",
ECCV 2006, with the folders of a label as its examples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verger.labels import LabelPath
from verger.projection import Projection, Statistics

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FolderStatistics:
    """Components of photos in f folders: what a discriminant is computed from."""

    labels: tuple[LabelPath, ...]  # of each folder; folders of one label belong to one class
    counts: Floats  # (f,)
    means: Floats  # (f, k)
    within: Floats  # (k, k): scatter about the folders' means, divided by the number of photos

    @classmethod
    def of(
        cls, statistics: Statistics, projection: Projection, label_of: Mapping[str, LabelPath]
    ) -> "FolderStatistics":
        """From the statistics of vectors.

        Args:
            statistics: with folders.
            projection: of these vectors, or of others.
            label_of: folders, with their labels. Folders that are not named here give to `within` alone.
        """
        folders = statistics.folders or {}
        counts = np.array([float(its.count) for its in folders.values()])
        means = np.stack([its.sum for its in folders.values()]) / counts[:, None]  # (f, d)
        matrix = projection.components / projection.scale[:, None]  # (d, k)
        apart = ((means - statistics.mean) @ matrix) * np.sqrt(counts)[:, None]
        within = (matrix.T @ statistics.scatter @ matrix - apart.T @ apart) / counts.sum()
        named = np.array([name in label_of for name in folders])
        labels = tuple(label_of[name] for name in folders if name in label_of)
        return cls(labels, counts[named], ((means - projection.mean) @ matrix)[named], within)


@dataclass(frozen=True)
class Discriminant:
    """Components (n, k) → scores (n, c): logarithms of the classes' densities, up to a constant."""

    classes: tuple[LabelPath, ...]
    means: Floats  # (c, k), as expected in other places
    covariance: Floats  # (k, k), about these means, in other places
    shrinkage: float  # in [0, 1]
    coefficients: Floats  # (k, c)
    intercepts: Floats  # (c,)

    def scores(self, components: NDArray[np.floating[Any]]) -> Floats:
        """Equal priors: how often a fruit was photographed says nothing about the next photo."""
        scores: Floats = components.astype(np.float64) @ self.coefficients + self.intercepts
        return scores

    def squares(self, components: NDArray[np.floating[Any]]) -> Floats:
        """Squared Mahalanobis distance (n,) to the nearest class."""
        z = components.astype(np.float64)
        squares: Floats = (z * np.linalg.solve(self.covariance, z.T).T).sum(axis=1) - 2 * self.scores(z).max(axis=1)
        return squares


def oas_shrinkage(covariance: Floats, count: float) -> float:
    """How much of the identity the covariance (k, k) of `count` vectors needs, in [0, 1]: (23) of the paper."""
    length = len(covariance)
    mean_square, square_mean = float((covariance**2).mean()), float(np.trace(covariance) / length) ** 2
    divisor = (count + 1) * (mean_square - square_mean / length)
    return 1.0 if divisor <= 0 else min(1.0, (mean_square + square_mean) / divisor)


def fit_discriminant(statistics: FolderStatistics, places: float | None = None) -> Discriminant:
    """Fisher's discriminant, in closed form, for photos of other places than these.

    Args:
        statistics: of the components.
        places: in how many each class was seen; by default the harmonic mean of the classes' numbers of folders, since
            with one number for all classes scores stay linear. The more, the more means are taken at their word.
    """
    counts = statistics.counts
    classes = tuple(sorted(set(statistics.labels)))
    number = {label: i for i, label in enumerate(classes)}
    index = np.array([number[label] for label in statistics.labels])
    members = np.zeros((len(classes), len(counts)))
    members[index, np.arange(len(counts))] = counts / np.bincount(index, counts)[index]
    means: Floats = members @ statistics.means
    apart = (statistics.means - means[index]) * np.sqrt(counts / counts.sum())[:, None]
    covariance = statistics.within + apart.T @ apart
    shrinkage = oas_shrinkage(covariance, counts.sum())
    identity = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    shrunk = (1 - shrinkage) * covariance + shrinkage * identity
    means, expected = elsewhere(means, shrunk, places or float(1 / np.mean(1 / np.bincount(index))))
    coefficients: Floats = np.linalg.solve(expected, means.T).astype(np.float64)
    intercepts: Floats = -0.5 * (means.T * coefficients).sum(axis=0)
    return Discriminant(classes, means, expected, shrinkage, coefficients, intercepts)


def elsewhere(means: Floats, within: Floats, places: float) -> tuple[Floats, Floats]:
    """Where each class's photos of another place are expected (c, k), and how they scatter about that (k, k).

    Args:
        means: of the classes (c, k), each seen in so many places.
        within: covariance (k, k) about them.
        places: a number above zero.
    """
    centred = means - means.mean(axis=0)
    between = centred.T @ centred / len(means)
    falling_back = centred @ np.linalg.solve(within + places * between, within)  # (c, k)
    return means - falling_back, within + centred.T @ falling_back / len(means)
