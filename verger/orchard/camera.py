"""From pieces of fruit to the pixels of a photo: a table, a lamp, a lens, and film with a little grain."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from verger.orchard.light import Scene
from verger.orchard.noise import Noise
from verger.orchard.paints import Paint, cloth, mottled, paper, wood
from verger.orchard.pieces import Piece, Placed
from verger.orchard.shapes import Array, apply, column, mix, unit

Pixels = NDArray[np.uint8]  # (height, width, 3)
Expose = Callable[[Array, Array], Array]  # x and y in ±1, each (n,), to sRGB between 0 and 1, (3, n)

_LENS = 0.30  # tangent of half the field of view: a short telephoto, as one takes for still lifes
_FINE = np.array([(-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125)], dtype=np.float32)
_EDGE = 0.06  # a larger step between neighbouring pixels deserves more rays


def photograph(pieces: Sequence[Piece], rng: np.random.Generator, side: int) -> Pixels:
    """A photo of pieces on a table, (side, side, 3), sRGB; table, light, place and lens come from `rng`."""
    placed = [Placed(piece, rng) for piece in pieces]
    scene = _stage(placed, rng)
    origin, axes = _aim(placed, rng)

    def expose(x: Array, y: Array) -> Array:
        directions = unit(apply(axes, np.stack([x, y, np.ones_like(x)])))
        return _develop(scene.look(origin, directions))

    return _film(_sharpen(expose, side), rng)


def _stage(placed: Sequence[Placed], rng: np.random.Generator) -> Scene:
    """Random light over a random table."""
    noise = Noise(rng)
    tables: list[Paint] = [
        paper(noise, "dfdcd5"),
        wood(noise, "6b4423", "b98a57"),
        wood(noise, "b08d63", "dcc29a"),
        cloth(noise, "9c9fa3"),
        cloth(noise, "d8d2c4"),
        cloth(noise, "63774f"),
        mottled(noise, "6f8458", "8d9f70", 0.8),
        mottled(noise, "44474b", "515458", 6.0),
    ]
    table = tables[rng.integers(len(tables))]
    # The lamp stands anywhere but behind the camera, where it would hide its own shadows.
    around, height, warmth = rng.uniform(-0.8, 3.9), rng.uniform(0.65, 1.05), rng.uniform(-0.12, 0.12)
    lamp = column((np.cos(around) * np.cos(height), np.sin(around) * np.cos(height), np.sin(height)))
    tint = column((1 + warmth, 1.0, 1 - warmth))
    power = rng.uniform(0.85, 1.15)
    sample = rng.uniform(-3, 3, (3, 400)).astype(np.float32) * column((1, 1, 0))
    sky = column((0.50, 0.53, 0.58)) * np.float32(power * rng.uniform(0.8, 1.2))
    bounce = table(sample).mean(axis=1, keepdims=True) * np.float32(0.9 * power)
    softness = float(rng.uniform(0.1, 0.2))
    return Scene(placed, table, lamp, tint * np.float32(1.15 * power), sky, bounce, softness)


def _aim(placed: Sequence[Placed], rng: np.random.Generator) -> tuple[Array, Array]:
    """The camera's place, (3, 1), and its right, up and forward axes as the columns of (3, 3)."""
    pitch, roll = rng.uniform(0.42, 0.9), rng.uniform(-0.08, 0.08)
    forward = -column((0, -np.cos(pitch), np.sin(pitch)))
    right = column((np.cos(roll), np.sin(roll) * np.sin(pitch), np.sin(roll) * np.cos(pitch)))
    axes = np.concatenate([right, np.cross(right, forward, axis=0), forward], axis=1)
    seen = apply(axes.T, np.concatenate([piece.skin for piece in placed], axis=1))  # (3, n) along the camera's axes
    low, high = seen.min(axis=1), seen.max(axis=1)
    reach = (high - low)[:2].max() / 2
    middle = (low + high) / 2 + reach * np.append(rng.uniform(-0.14, 0.14, 2), 0).astype(np.float32)
    middle[2] = low[2] - reach / _LENS * np.float32(rng.uniform(1.12, 1.4))
    return apply(axes, column(middle)), axes * column((_LENS, _LENS, 1)).T


def _sharpen(expose: Expose, side: int) -> Array:
    """One ray a pixel, then four more where neighbours differ, which smooths every edge: (side, side, 3)."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    x, y = (2 * x.ravel() + 1) / side - 1, 1 - (2 * y.ravel() + 1) / side
    photo = expose(x, y)
    grid = photo.reshape(3, side, side)
    rough = np.zeros((side, side), dtype=bool)
    for axis in (1, 2):
        step = np.abs(np.diff(grid, axis=axis)).max(axis=0) > _EDGE
        for pads in ((0, 1), (1, 0)):  # both neighbours of a step
            rough |= np.pad(step, [pads, (0, 0)] if axis == 1 else [(0, 0), pads])
    edges = np.flatnonzero(rough)
    dx, dy = _FINE.T[..., None] * np.float32(2 / side)
    fine = expose((x[edges] + dx).ravel(), (y[edges] + dy).ravel())
    photo[:, edges] = fine.reshape(3, len(_FINE), -1).mean(axis=1)
    return np.ascontiguousarray(photo.T).reshape(side, side, 3)


def _develop(light: Array) -> Array:
    """Linear light to sRGB between 0 and 1, highlights rolled off as film does (Narkowicz's fit of ACES)."""
    light = mix(light.mean(axis=0), light, 0.93) * np.float32(0.78)
    filmic = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    return np.clip(filmic, 0, 1) ** np.float32(1 / 2.2)


def _film(photo: Array, rng: np.random.Generator) -> Pixels:
    """A lens' darker corners and slight blur, a sensor's noise; (side, side, 3), 0 to 1 in, bytes out."""
    side = photo.shape[0]
    across = np.linspace(-1, 1, side, dtype=np.float32) ** 2
    photo = photo * (1 - np.float32(rng.uniform(0.03, 0.09)) * (across[:, None] + across))[..., None]
    spread = np.float32(rng.uniform(0.0, 0.22))
    for axis in (0, 1):
        photo = photo * (1 - spread) + (np.roll(photo, 1, axis) + np.roll(photo, -1, axis)) * (spread / 2)
    grain = rng.standard_normal(photo.shape, dtype=np.float32) * np.float32(rng.uniform(0.004, 0.011))
    pixels: Pixels = np.clip(np.rint((photo + grain) * 255), 0, 255).astype(np.uint8)
    return pixels
