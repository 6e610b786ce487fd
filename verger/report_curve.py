"""The cumulative share of variance: what the components reach, and where the page draws it."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 1000.0, 100.0  # of the drawing; the page stretches it, and sets words beside it
TOP = 1.05  # the share at the upper edge, so that 100 % is no edge
LINEAR_UP_TO = 20  # components: of more, the axis is logarithmic
POINTS = 400  # of the line, which is not wider than that many pixels apart


class Curve(NamedTuple):
    """The cumulative share of variance, and where it passes what people ask for."""

    shares: NDArray[np.float64]  # (r,) of the first 1, 2, …, r components together, in [0, 1]
    kept: int  # components that this run kept
    reached: Mapping[float, int | None]  # 0.8, 0.9, 0.95 → how many components reach it, when r components do

    @property
    def own(self) -> list[float]:
        """The shares of the first two components, as far as they are kept."""
        return [float(share) for share in np.diff(self.shares[: min(self.kept, 2)], prepend=0.0)]

    @property
    def logarithmic(self) -> bool:
        """Whether the axis of components is."""
        return len(self.shares) > LINEAR_UP_TO

    def across(self, number: float) -> float:
        """Where a number of components stands on its axis, from 0 to 1."""
        last = max(2, len(self.shares))
        return math.log(number) / math.log(last) if self.logarithmic else (number - 1) / (last - 1)

    @staticmethod
    def up(share: float) -> float:
        """Where a share stands on its axis, from 0 to 1."""
        return share / TOP

    @property
    def path(self) -> str:
        """The line, as an SVG path."""
        spread = np.geomspace(1, len(self.shares), min(POINTS, len(self.shares)))
        numbers = np.unique(np.rint(spread).astype(int)) if self.logarithmic else range(1, len(self.shares) + 1)
        points = (
            f"{WIDTH * self.across(n):.1f} {HEIGHT * (1 - self.up(float(self.shares[n - 1]))):.2f}" for n in numbers
        )
        return "M" + "L".join(points)

    @property
    def ticks(self) -> list[int]:
        """Numbers of components that are written at the axis."""
        steps = (1, 10, 100, 1_000, 10_000) if self.logarithmic else (1, 5, 10, 15, 20)
        return [n for n in steps if n <= len(self.shares)]


def variance_curve(projection: Mapping[str, Any], variance: NDArray[np.float64], total_variance: float) -> Curve:
    """The curve of a projection.

    Args:
        projection: the manifest's.
        variance: (r,) of every component, largest first.
        total_variance: of the vectors.
    """
    total = total_variance if total_variance > 0 else 1.0  # photos that are all alike have no variance
    shares = np.clip(np.cumsum(variance) / total, 0.0, 1.0)
    found = {share: int(np.searchsorted(shares, share - 1e-12)) + 1 for share in (0.80, 0.90, 0.95)}
    reached = {share: number if number <= len(shares) else None for share, number in found.items()}
    return Curve(shares, int(projection["components"]), reached)
