"""The colours of fruit skins, cut faces and tables: functions from (3, n) points to (3, n) linear light."""

from collections.abc import Callable

import numpy as np

from verger.orchard.noise import Noise
from verger.orchard.shapes import Array, column, length, mix

Paint = Callable[[Array], Array]


def colour(code: str) -> Array:
    """`"ff8800"`, as painters write it, in linear light, (3, 1)."""
    return column([(int(code[i : i + 2], 16) / 255) ** 2.2 for i in (0, 2, 4)])


def smoothstep(low: float, high: float, value: Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between; falling if `high` is the smaller."""
    t: Array = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def plain(code: str) -> Paint:
    """One colour everywhere."""
    value = colour(code)
    return lambda p: np.broadcast_to(value, p.shape)


def mottled(noise: Noise, low: str, high: str, frequency: float) -> Paint:
    """Two colours in clouds."""
    a, b = colour(low), colour(high)
    return lambda p: mix(a, b, smoothstep(-0.8, 0.8, noise.cloud(p, frequency)))


def angle(p: Array) -> Array:
    """The angle around the axis, (n,), in radians."""
    radians: Array = np.arctan2(p[1], p[0])
    return radians


def diamonds(p: Array, columns: int, rows: float) -> tuple[Array, Array]:
    """Where each point lies in its cell of a lattice that winds both ways around the axis, twice (n,) in ±0.5.

    Pineapple eyes and strawberry seeds sit on such a lattice. `rows` is how many a unit of height.
    """
    u, v = angle(p) * np.float32(columns / (2 * np.pi)), p[2] * np.float32(rows)
    return (u + v) - np.rint(u + v), (u - v) - np.rint(u - v)


def specks(noise: Noise, p: Array, frequency: float, radius: float) -> Array:
    """1 in scattered round spots, 0 between, (n,); at most one in a cell, its radius in cells, at most 0.3."""
    return smoothstep(radius, radius * 0.4, noise.spots(p, frequency))


def segments(p: Array, rim: float, flesh: str, pith: str, count: int) -> Array:
    """A citrus fruit's cut face, (3, n): wedges of flesh between walls of pith."""
    radius, turn = length(p[:2]) / rim, angle(p) * np.float32(count / (2 * np.pi))
    to_wall = np.abs(turn - np.rint(turn)) * radius * np.float32(6.0 / count)
    inside = smoothstep(0.008, 0.04, to_wall) * smoothstep(0.08, 0.16, radius) * smoothstep(0.88, 0.84, radius)
    cells = 0.88 + 0.12 * np.sin(radius * 14 + 9 * np.sin(angle(p) * 23))
    face = mix(colour(pith), colour(flesh) * cells, inside)
    return mix(face, colour(flesh) * 0.9, smoothstep(0.955, 0.985, radius))


def wood(noise: Noise, dark: str, light: str) -> Paint:
    """Planks along x, each with its own tone and grain."""
    a, b = colour(dark), colour(light)

    def paint(p: Array) -> Array:
        plank = np.floor(p[1] / 0.95)
        q = np.stack([p[0] * 0.35 + plank * 5.7, p[1] * 1.0, plank * 3.1])
        rings = np.sin(q[1] * 9 + noise(q, 1.2) * 7)
        grain: Array = 0.5 + 0.3 * rings + 0.25 * noise(np.stack([p[0], p[1] * 18, plank]), 2.0)
        tone = 0.85 + 0.12 * np.sin(plank * 7.7)
        gap = smoothstep(0.0, 0.03, np.abs(p[1] / 0.95 - np.rint(p[1] / 0.95)))
        shade: Array = tone * (0.25 + 0.75 * gap)
        return mix(a, b, grain) * shade

    return paint


def cloth(noise: Noise, code: str) -> Paint:
    """A weave of threads with soft folds."""
    base = colour(code)

    def paint(p: Array) -> Array:
        wobble = noise(p, 3.0) * 0.5
        threads: Array = np.sin(p[0] * 85 + wobble) * np.sin(p[1] * 85 + wobble)
        folds = noise(np.stack([p[0] + p[1] * 0.4, p[1] * 0.2, p[2]]), 0.9)
        shade: Array = 0.9 + 0.07 * threads + 0.12 * folds + 0.05 * noise(p, 30.0)
        return base * shade

    return paint


def paper(noise: Noise, code: str) -> Paint:
    """A smooth light sheet, not quite even."""
    base = colour(code)
    return lambda p: base * (1 + 0.03 * noise(p, 0.7) + 0.015 * noise(p, 25.0))
