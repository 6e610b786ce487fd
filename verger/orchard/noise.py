"""Randomness with a shape: the same at the same place, smooth from one place to the next."""

import numpy as np

from verger.orchard.shapes import Array, Vector, apply, column, length, mix, turn

Random = np.random.Generator


class Noise:
    """Smooth random bumps in space, between -1 and 1: a lattice of random numbers, blended, repeating every 32."""

    def __init__(self, rng: Random) -> None:
        self._lattice = rng.uniform(-1, 1, 32**3).astype(np.float32)
        self._askew = turn(0, 35) @ turn(1, 52)  # so that rows of cells follow no fruit's axis

    def __call__(self, points: Array, frequency: float | Vector = 1.0) -> Array:
        """The noise at (3, n) points, with so many bumps a unit."""
        scaled = points * (np.float32(frequency) if isinstance(frequency, int | float) else column(frequency))
        low = np.floor(scaled)
        near = low.astype(np.int32)
        x, y, z = scaled - low
        x, y, z = (f * f * (3 - 2 * f) for f in (x, y, z))
        planes = [((near[i] + step) & 31) << (5 * i) for i in range(3) for step in (0, 1)]

        def edge(j: int, k: int) -> Array:
            rest = planes[2 + j] + planes[4 + k]
            return mix(self._lattice[planes[0] + rest], self._lattice[planes[1] + rest], x)

        def face(k: int) -> Array:
            return mix(edge(0, k), edge(1, k), y)

        return mix(face(0), face(1), z)

    def spots(self, points: Array, frequency: float) -> Array:
        """How far each point is from the one spot of its cell, (n,), in cells; spots lie 0.3 inside their cells."""
        scaled = apply(self._askew, points) * np.float32(frequency)
        low = np.floor(scaled)
        near = low.astype(np.int32) & 31
        seed = near[0] + (near[1] << 5) + (near[2] << 10)
        places = np.stack([self._lattice[(seed * 7 + step) & 0x7FFF] for step in (1, 2, 3)])
        return length(scaled - low - (0.5 + 0.2 * places))

    def cloud(self, points: Array, frequency: float, octaves: int = 3) -> Array:
        """Several sizes of bumps at once, each half as wide and half as strong as the one before."""
        total = self(points, frequency)
        for octave in range(1, octaves):
            total = total + self(points + 7.3 * octave, frequency * 2**octave) * np.float32(0.5**octave)
        return total
