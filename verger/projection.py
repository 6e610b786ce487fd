"""Statistics of vectors → PCA: mean, scale, components, variance. Pure NumPy, float64 throughout.

PCA is exact: the vectors' centred cross-products are summed block by block and block sums are merged with the pairwise
update of Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample variances",
which does not lose digits when the mean is large. Components are the eigenvectors of the covariance matrix.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from verger.errors import RunFailedError, SettingError

Vectors = NDArray[np.float32] | NDArray[np.float64]
REFIT_ROUNDS = 4
MAX_FOLDERS = 10_000  # whose sums are held: 100 MB of them, in every worker, where vectors have 1280 entries


@dataclass(frozen=True)
class FolderSum:
    """What a discriminant needs to know of the photos of one folder, beside the scatter of all."""

    count: int
    sum: NDArray[np.float64]  # (d,)

    def __add__(self, other: "FolderSum") -> "FolderSum":
        return FolderSum(self.count + other.count, self.sum + other.sum)

    def __sub__(self, other: "FolderSum") -> "FolderSum":
        return FolderSum(self.count - other.count, self.sum - other.sum)


Folders = dict[str, FolderSum]


@dataclass(frozen=True)
class Statistics:
    """What PCA, and the recogniser, need to know of n vectors of length d; two of them merge into one."""

    count: int
    mean: NDArray[np.float64]  # (d,)
    scatter: NDArray[np.float64]  # (d, d): sum of (x - mean)(x - mean)ᵀ
    folders: Folders | None = field(default_factory=dict)  # None: more than MAX_FOLDERS, too many to hold

    @classmethod
    def of(cls, vectors: Vectors, folders: Sequence[str] = ()) -> "Statistics":
        """The statistics of one block of vectors (n, d), n >= 1, which lie in these n folders."""
        block = vectors.astype(np.float64)
        sums = _sum_folders(block, folders)
        mean = block.mean(axis=0)
        block -= mean
        return cls(len(block), mean, block.T @ block, sums)

    def __reduce__(self) -> tuple[Any, ...]:
        """As it travels between processes: half of the scatter, which is symmetric."""
        rows = [self.scatter[i, i:] for i in range(len(self.scatter))]
        return _unpacked, (self.count, self.mean, np.concatenate(rows), self.folders)

    def merge(self, other: "Statistics") -> "Statistics":
        """The statistics of both sets of vectors together."""
        count = self.count + other.count
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.count / count)
        between = np.outer(difference, difference) * (self.count * other.count / count)
        folders = _merge_folders(self.folders, other.folders)
        return Statistics(count, mean, self.scatter + other.scatter + between, folders)

    def without(self, other: "Statistics") -> "Statistics":
        """The statistics of these vectors less some of them: the reverse of `merge`. Some must be left."""
        count = self.count - other.count
        mean = (self.count * self.mean - other.count * other.mean) / count
        difference = other.mean - mean
        between = np.outer(difference, difference) * (count * other.count / self.count)
        folders = self.folders
        if folders is not None and other.folders:
            left = {name: its - other.folders[name] if name in other.folders else its for name, its in folders.items()}
            folders = {name: its for name, its in left.items() if its.count}
        return Statistics(count, mean, self.scatter - other.scatter - between, folders)


def _unpacked(
    count: int, mean: NDArray[np.float64], triangle: NDArray[np.float64], folders: Folders | None
) -> Statistics:
    scatter = np.empty((len(mean), len(mean)))
    starts = np.cumsum(np.arange(len(mean), 0, -1))[:-1]
    for i, row in enumerate(np.split(triangle, starts)):
        scatter[i, i:] = scatter[i:, i] = row
    return Statistics(count, mean, scatter, folders)


def _sum_folders(block: NDArray[np.float64], folders: Sequence[str]) -> Folders:
    names, index = np.unique(np.asarray(folders, dtype=object), return_inverse=True)
    if not len(names):
        return {}
    if (np.diff(index) < 0).any():  # paths come in order, part by part
        order = np.argsort(index, kind="stable")
        block = block[order]
    counts = np.bincount(index)
    sums = np.add.reduceat(block, np.cumsum(counts) - counts)
    return {name: FolderSum(int(count), its) for name, count, its in zip(names, counts, sums, strict=True)}


def _merge_folders(a: Folders | None, b: Folders | None) -> Folders | None:
    if a is None or b is None:
        return None
    merged = dict(a)
    for name, its in b.items():
        merged[name] = merged[name] + its if name in merged else its
    return merged if len(merged) <= MAX_FOLDERS else None


@dataclass(frozen=True)
class Projection:
    """Vectors → components: `((x - mean) / scale) @ components`."""

    mean: NDArray[np.float64]  # (d,)
    scale: NDArray[np.float64]  # (d,): standard deviations, or ones when vectors were not standardised
    components: NDArray[np.float64]  # (d, k): orthonormal columns, each with its largest loading positive
    variance: NDArray[np.float64]  # (k,): variance along each component, largest first
    total_variance: float  # of what was projected: standardised or raw vectors
    spectrum: NDArray[np.float64]  # (r,): the variances of all components, k of them kept
    standardised: bool = False  # vectors are divided by their standard deviations first
    fingerprint: str = ""  # of the network whose vectors it projects

    @property
    def explained_variance(self) -> float:
        """The share of the total variance that the kept components hold, in [0, 1]."""
        return float(self.variance.sum() / self.total_variance) if self.total_variance > 0 else 0.0

    def apply(self, vectors: Vectors) -> NDArray[np.float32]:
        """Vectors (n, d) → components (n, k)."""
        matrix = self.components / self.scale[:, None]
        return (vectors.astype(np.float64) @ matrix - self.mean @ matrix).astype(np.float32)

    def residuals(self, vectors: Vectors, components: Vectors) -> NDArray[np.float64]:
        """Squared length (n,) of what the components (n, k) leave out of vectors (n, d)."""
        squares = ((vectors.astype(np.float64) - self.mean) / self.scale) ** 2
        left: NDArray[np.float64] = squares.sum(axis=1) - (components.astype(np.float64) ** 2).sum(axis=1)
        return np.maximum(left, 0.0)

    def to_bytes(self) -> bytes:
        """As the content of `projection.npz`; the same projection gives the same bytes."""
        out = io.BytesIO()
        np.savez(
            out,
            mean=self.mean,
            scale=self.scale,
            components=self.components,
            variance=self.variance,
            total_variance=np.float64(self.total_variance),
            spectrum=self.spectrum,
            standardised=np.bool_(self.standardised),
            fingerprint=np.str_(self.fingerprint),
        )
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Projection":
        """Read what `to_bytes` wrote. No pickle is ever read."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return cls(
                    mean=arrays["mean"],
                    scale=arrays["scale"],
                    components=arrays["components"],
                    variance=arrays["variance"],
                    total_variance=float(arrays["total_variance"]),
                    spectrum=arrays["spectrum"],
                    standardised=bool(arrays["standardised"]),
                    fingerprint=str(arrays["fingerprint"]),
                )
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise SettingError(
                "a projection.npz that Verger wrote", f"{error}", "Fit a new one: run without --keep-projection."
            ) from error


def fit_projection(
    statistics: Statistics, components: int | float, *, standardise: bool = False, fingerprint: str = ""
) -> Projection:
    """Exact, centred PCA.

    Args:
        statistics: of n vectors of length d.
        components: how many to keep (int), or the share of variance they must hold together (float in (0, 1]).
        standardise: divide each entry by its standard deviation first (entries that never vary stay as they are).
        fingerprint: of the network that made the vectors; kept with the projection.

    Raises:
        RunFailedError: there are fewer vectors than components, or a share is asked of vectors that do not vary.
    """
    count, length = statistics.count, len(statistics.mean)
    covariance = statistics.scatter / max(1, count - 1)
    scale = np.ones(length)
    if standardise:
        deviation = np.sqrt(np.diagonal(covariance))
        scale = np.where(deviation > 0, deviation, 1.0)
        covariance = covariance / np.outer(scale, scale)
    # More threads win nothing at this size, and lose tenfold where other programs keep the cores busy.
    with threadpool_limits(1):
        values, vectors = np.linalg.eigh(covariance)  # ascending
    spectrum = np.clip(values[::-1], 0.0, None)  # rounding may leave a zero slightly below zero
    total = float(np.trace(covariance))
    kept = _how_many(components, spectrum, total, count)
    chosen = vectors[:, ::-1][:, :kept]
    largest = np.argmax(np.abs(chosen), axis=0)
    chosen = chosen * np.sign(chosen[largest, np.arange(kept)])
    return Projection(statistics.mean, scale, chosen, spectrum[:kept], total, spectrum, standardise, fingerprint)


def refit_projection(projection: Projection, statistics: Statistics) -> Projection:
    """The same number of components, of other statistics that differ little: a few photos more, or fewer.

    By orthogonal iteration from the components there are (Golub and Van Loan, "Matrix Computations", section 7.3.2), in
    float32, which takes a hundredth of the time of `fit_projection`. They span the same space as exact ones would,
    nearly, and are in no order.
    """
    scatter = (statistics.scatter / np.outer(projection.scale, projection.scale)).astype(np.float32)
    components = projection.components.astype(np.float32)
    for _ in range(REFIT_ROUNDS):
        components = np.linalg.qr(scatter @ components)[0]
    return replace(projection, mean=statistics.mean, components=components.astype(np.float64))


def _how_many(components: int | float, spectrum: NDArray[np.float64], total: float, count: int) -> int:
    if isinstance(components, int):
        most = min(count, len(spectrum))
        if components > most:
            raise RunFailedError(
                f"at most {most} components of {count} vectors of length {len(spectrum)}",
                f"components={components}",
                f"Lower --components to {most} or less, or add photos.",
            )
        return components
    if total <= 0.0:
        raise RunFailedError(
            f"vectors that differ, to keep a {components} share of their variance",
            f"{count} vector{'s' if count != 1 else ''} without any variance",
            "Add photos, or ask for a number: --components 1.",
        )
    shares = np.cumsum(spectrum) / total
    # A share of 1.0 is reached within rounding: cross-products carry about 1e-12 of noise.
    return int(np.searchsorted(shares, min(components, shares[-1]) - 1e-12) + 1)
