"""The shapes that fruit is made of: signed distance fields, a handful of words to combine.

A field takes points, (3, n) in fruit units, and answers how far each is from a surface, (n,): negative inside.
Around a fruit z is its axis, from the blossom to the stem; a fruit is about two units wide.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]  # of 32 bits throughout: photos need no more, and it is twice as fast
Field = Callable[[Array], Array]
Vector = tuple[float, float, float]


def column(vector: Sequence[float] | Array) -> Array:
    """Three numbers as a (3, 1) column, to broadcast over points."""
    return np.asarray(vector, dtype=np.float32).reshape(3, 1)


def length(points: Array) -> Array:
    """The length of each (k, n) column, (n,)."""
    result: Array = np.sqrt(np.einsum("kn,kn->n", points, points))
    return result


def unit(points: Array) -> Array:
    """The columns of (3, n), each made one long."""
    return points / np.maximum(length(points), np.float32(1e-9))


def mix(first: Array, second: Array, share: Array | float) -> Array:
    """The first where the share is 0, the second where it is 1: colours, heights, anything."""
    return first + (second - first) * share


def apply(matrix: Array, points: Array) -> Array:
    """A (3, 3) matrix times (3, n) points; einsum, as a threaded product may round differently from run to run."""
    result: Array = np.einsum("ij,jn->in", matrix, points)
    return result


def turn(axis: int, degrees: float) -> Array:
    """The (3, 3) rotation about one axis: 0 for x, 1 for y, 2 for z."""
    a, (i, j) = np.radians(degrees), [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3, dtype=np.float32)
    matrix[i, i] = matrix[j, j] = np.cos(a)
    matrix[i, j], matrix[j, i] = -np.sin(a), np.sin(a)
    return matrix


def sphere(radius: float, centre: Vector = (0, 0, 0)) -> Field:
    """A ball."""
    middle = column(centre)
    return lambda p: length(p - middle) - radius


def spheres(radius: float, centres: Array) -> Field:
    """Many equal balls at once: the nearest of (3, k) centres decides."""

    def distance(p: Array) -> Array:
        nearest = np.full(p.shape[1], np.inf, dtype=np.float32)
        for x, y, z in centres.T:
            square = (p[0] - x) ** 2 + (p[1] - y) ** 2 + (p[2] - z) ** 2
            np.minimum(nearest, square, out=nearest)
        return np.sqrt(nearest) - np.float32(radius)

    return distance


def ellipsoid(radii: Vector, centre: Vector = (0, 0, 0)) -> Field:
    """An ellipsoid; not its distance but a bound, first-order when near and the ball's around it when far."""
    r, middle, ball = column(radii), column(centre), sphere(max(radii), centre)

    def distance(p: Array) -> Array:
        q = (p - middle) / r
        k = length(q)
        bound: Array = np.maximum(k * (k - 1) / np.maximum(length(q / r), np.float32(1e-6)), ball(p))
        return bound

    return distance


def dimpled(ring: float, radius: float) -> Field:
    """A ball with a dimple at each pole: a doughnut so fat that its hole has closed, as apples are."""
    return lambda p: length(np.stack([length(p[:2]) - np.float32(ring), p[2]])) - np.float32(radius)


def capsule(start: Vector, end: Vector, radius: float, end_radius: float | None = None) -> Field:
    """A round stick from one point to another, perhaps tapered."""
    a, ab = column(start), column(end) - column(start)
    square, grow = float((ab * ab).sum()), (radius if end_radius is None else end_radius) - radius

    def distance(p: Array) -> Array:
        q = p - a
        along: Array = np.clip(np.einsum("kj,kn->n", ab, q) / np.float32(square), 0, 1)
        return length(q - ab * along) - (radius + grow * along)

    return distance


def path(points: Sequence[Vector], radius: float) -> Field:
    """A stick bent through some points: a stem."""
    return union(*(capsule(a, b, radius) for a, b in itertools.pairwise(points)))


def plane() -> Field:
    """All that lies below z = 0."""
    return lambda p: p[2]


def leaf(size: float, width: float, droop: float, rise: float = 0.0) -> Field:
    """A thin leaf from the axis outwards along x, at `rise` degrees, that droops with its length squared."""
    blade = ellipsoid((size / 2, width / 2, 0.03), (size / 2, 0, 0))

    def distance(p: Array) -> Array:
        along, across = np.clip(p[0], 0, size), np.clip(p[1], -width, width)
        lift = across**2 * (0.6 / width) - along**2 * droop  # the first folds it along its vein
        return blade(np.stack([p[0], p[1], p[2] - lift])) * np.float32(0.7)

    return moved(distance, (0, 0, 0), turn(1, -rise))


def union(*fields: Field) -> Field:
    """Whichever is nearer."""

    def distance(p: Array) -> Array:
        nearest = fields[0](p)
        for field in fields[1:]:
            nearest = np.minimum(nearest, field(p))
        return nearest

    return distance


def blend(first: Field, second: Field, width: float) -> Field:
    """A union whose seam is rounded over a width, as a pear's neck flows into its body."""

    def distance(p: Array) -> Array:
        a, b = first(p), second(p)
        h = np.maximum(width - np.abs(a - b), 0) / width
        return np.minimum(a, b) - h * h * np.float32(width / 4)

    return distance


def common(first: Field, second: Field) -> Field:
    """What both contain: a fruit and a half-space make half a fruit."""
    return lambda p: np.maximum(first(p), second(p))


def moved(field: Field, by: Sequence[float] | Array, turned: Array | None = None) -> Field:
    """A field somewhere else, turned first."""
    offset = column(by)
    if turned is None:
        return lambda p: field(p - offset)
    back = np.ascontiguousarray(turned.T)
    return lambda p: field(apply(back, p - offset))


def stretched(field: Field, scale: Vector, taper: float = 0.0) -> Field:
    """A field stretched along the axes, and `taper` wider for each unit up the z axis."""
    factors, least = column(scale), np.float32(min(scale))

    def distance(p: Array) -> Array:
        q = p / factors
        q[:2] /= np.maximum(1 + taper * q[2], np.float32(0.3))
        return field(q) * least

    return distance


def rippled(field: Field, count: int, depth: float) -> Field:
    """A field whose width swings `count` times around the axis: lobes."""

    def distance(p: Array) -> Array:
        swing = 1 + depth * np.cos(count * np.arctan2(p[1], p[0]))
        return field(np.stack([p[0] / swing, p[1] / swing, p[2]])) * np.float32(1 - 2 * depth)

    return distance


def around(field: Field, count: int, start: float = 0.0) -> Field:
    """Copies of a field around the z axis, for the price of one: space is folded into one sector."""
    sector = 2 * np.pi / count

    def distance(p: Array) -> Array:
        angle, radius = np.arctan2(p[1], p[0]) - start, length(p[:2])
        angle -= sector * np.rint(angle / sector)
        return field(np.stack([radius * np.cos(angle), radius * np.sin(angle), p[2]]))

    return distance


def bent(bend: float, stations: Sequence[float], radii: Sequence[float], edges: float = 0.05) -> Field:
    """A banana: a tube along an arc of radius `bend` in the xy plane, its radius given at stations along it.

    Stations are angles in radians, the middle being 0; `edges` is how far the five edges stand out.
    """
    fine = np.linspace(stations[0], stations[-1], 200)
    padded = np.pad(np.interp(fine, stations, radii), 8, mode="edge")
    table = np.convolve(padded, np.hanning(17) / np.hanning(17).sum(), mode="valid")

    def distance(p: Array) -> Array:
        x, y = p[0], p[1] + np.float32(bend)
        angle = np.clip(np.arctan2(x, y), stations[0], stations[-1])
        out = x * np.sin(angle) + y * np.cos(angle) - np.float32(bend)
        slip = x * np.cos(angle) - y * np.sin(angle)  # not 0 only beyond the ends
        radius = np.interp(angle, fine, table).astype(np.float32)
        radius *= 1 + edges * np.cos(5 * np.arctan2(p[2], out))
        gap: Array = length(np.stack([out, slip, p[2]])) - radius
        return gap * np.float32(0.85)

    return distance
