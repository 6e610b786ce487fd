"""The nearest photos of every photo, exactly, by the distance of their components. NumPy alone."""

import numpy as np
from numpy.typing import NDArray

from verger.stages import Progress

NEIGHBOURS = 10
GROUP = 64  # columns whose least distance is looked at first
BLOCK_DISTANCES = 16_000_000  # 64 MB of float32


def nearest(
    components: NDArray[np.float32], count: int = NEIGHBOURS, progress: Progress = lambda _: None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The `count` nearest others of each row, nearest first: their rows (n, count), and how far they are (n, count).

    Sorting n² distances would cost more than computing them. The `count` smallest of a row lie in the `count` groups
    of columns whose own smallest are smallest, so only those are looked at one by one; the answer stays exact.

    Args:
        components: (n, k).
        count: how many others; there are never more than n − 1.
        progress: called with the number of rows done.
    """
    rows, count = len(components), max(0, min(count, len(components) - 1))
    points = components - components.mean(axis=0)  # less is lost to rounding near the origin
    lengths = np.einsum("ij,ij->i", points, points)
    groups = -(-rows // GROUP)
    # One product gives |b|² − 2ab, which orders the columns b of a row a as distances do; padding is infinitely far.
    left = np.column_stack([-2 * points, np.ones(rows, np.float32)])
    right = np.zeros((points.shape[1] + 1, groups * GROUP), np.float32)
    right[:-1, :rows], right[-1, :rows], right[-1, rows:] = points.T, lengths, np.inf
    found, apart = np.empty((rows, count), np.int32), np.empty((rows, count), np.float32)
    block = max(1, BLOCK_DISTANCES // len(right[0])) if rows else 1
    for start in range(0, rows if count else 0, block):
        own = np.arange(start, min(start + block, rows))
        products = left[own] @ right
        products[np.arange(len(own)), own] = np.inf  # a photo is no neighbour of its own
        found[own], least = _smallest(products, count)
        apart[own] = np.sqrt(np.maximum(least + lengths[own, None], 0))
        progress(int(own[-1]) + 1)
    return found, apart


def _smallest(values: NDArray[np.float32], count: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Where the `count` smallest values of each row (n, groups × GROUP) are, smallest first, and what they are."""
    rows = np.arange(len(values))[:, None]
    groups = values.shape[1] // GROUP
    least = values.reshape(len(values), GROUP, groups).min(axis=1)  # a group is every groups-th column: quick to scan
    best = np.argpartition(least, min(count, groups) - 1, axis=1)[:, :count]
    candidates = (np.arange(GROUP)[:, None] * groups + best[:, None, :]).reshape(len(values), -1)
    order = np.argsort(values[rows, candidates], axis=1, kind="stable")[:, :count]
    places = candidates[rows, order]
    return places, values[rows, places]
