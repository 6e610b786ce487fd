"""What lies on the table: parts of one material make a piece, and rays are walked to it.

World units are fruit units; z is up and the table is z = 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verger.orchard.paints import Paint
from verger.orchard.shapes import Array, Field, apply, column, length, turn, union, unit

_STEPS = 48
_CLOSE = np.float32(0.002)  # world units; a pixel covers about 0.01


@dataclass(frozen=True)
class Part:
    """One thing of one material: a shape, its colours, and how light leaves it.

    Attributes:
        gloss: 0 matt to 1 polished.
        glow: how much light seeps through the flesh, 0 to 1.
        bump: height added to the shape where it is lit, too fine to be worth walking.
    """

    shape: Field
    paint: Paint
    gloss: float = 0.4
    glow: float = 0.3
    bump: Field | None = None


@dataclass(frozen=True)
class Piece:
    """What lies on the table on its own: parts, where, how far it leans (degrees) and to which side (0: to us)."""

    parts: Sequence[Part]
    at: tuple[float, float] = (0.0, 0.0)
    lean: tuple[float, float] = (0.0, 20.0)
    side: tuple[float, float] = (0.0, 360.0)
    size: float = 1.0
    lift: float = 0.0


class Placed:
    """A piece lowered onto the table, and the ball that bounds it."""

    def __init__(self, piece: Piece, rng: np.random.Generator) -> None:
        self.parts, self.size = piece.parts, np.float32(piece.size)
        spin, lean, side = rng.uniform(0, 360), rng.uniform(*piece.lean), rng.uniform(*piece.side)
        self._back = np.ascontiguousarray((turn(2, side) @ turn(0, lean) @ turn(2, spin)).T)
        self._offset = column((0, 0, 0))
        self._shape = union(*(part.shape for part in piece.parts))
        skin = self._settle(rng)
        self._offset = column((*piece.at, piece.lift - skin[2].min()))
        self.skin = skin + self._offset  # (3, some hundreds) points of the surface
        self.centre = (self.skin.max(axis=1) + self.skin.min(axis=1)).reshape(3, 1) / 2
        self.radius = np.float32(length(self.skin - self.centre).max() * 1.03)

    def _settle(self, rng: np.random.Generator) -> Array:
        """Points on the surface: a random cloud, each pulled to the nearest surface by a few Newton steps."""
        cloud = rng.uniform(-1.8, 1.8, (3, 2000)).astype(np.float32) * self.size
        for _ in range(6):
            cloud -= self.distance(cloud) * gradient(self.distance, cloud)
        return cloud[:, np.abs(self.distance(cloud)) < 0.02]

    def local(self, points: Array) -> Array:
        """World points (3, n) as the piece's own."""
        return apply(self._back, points - self._offset) / self.size

    def world(self, directions: Array) -> Array:
        """The piece's own directions (3, n) as the world's."""
        return apply(self._back.T, directions)

    def distance(self, points: Array) -> Array:
        """How far world points (3, n) are from the piece, (n,)."""
        return self._shape(self.local(points)) * self.size

    def span(self, origins: Array, directions: Array, margin: float = 1.0) -> tuple[Array, Array]:
        """Where rays enter and leave the bounding ball grown by a margin, each (n,); enter > leave where they miss."""
        towards = self.centre - origins
        middle = (towards * directions).sum(axis=0)
        inside = (self.radius * margin) ** 2 - ((towards * towards).sum(axis=0) - middle**2)
        half = np.sqrt(np.maximum(inside, 0))
        return np.maximum(middle - half, 0), np.where(inside > 0, middle + half, -1)


def gradient(field: Field, points: Array, step: float = 0.003) -> Array:
    """The direction in which a field grows fastest, (3, n), from four samples at the corners of a tetrahedron."""
    corners = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], dtype=np.float32)
    total = np.zeros_like(points)
    for corner in corners:
        total += corner[:, None] * field(points + corner[:, None] * np.float32(step))
    return unit(total)


def trace(piece: Placed, origin: Array, directions: Array) -> Array:
    """How far each ray from one (3, 1) origin goes before it meets the piece, (n,), infinite where it does not.

    Each step is as long as the distance to the surface, so that it cannot pass through; rays that have arrived
    or left the bounding ball are dropped, so that the last steps are walked by few.
    """
    enter, leave = piece.span(origin, directions)
    arrived = np.full(directions.shape[1], np.inf, dtype=np.float32)
    active = np.flatnonzero(enter < leave)
    travelled = enter[active]
    for _ in range(_STEPS):
        gap = piece.distance(origin + directions.take(active, axis=1) * travelled)
        close = gap < _CLOSE
        arrived[active[close]] = travelled[close]
        going = ~close & (travelled < leave[active])
        active, travelled = active[going], travelled[going] + gap[going]
        if not active.size:
            break
    return arrived
