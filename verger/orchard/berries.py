"""Small fruits, several to a photo: blueberry, cherry, grape, strawberry."""

import numpy as np

from verger.orchard.noise import Noise, Random
from verger.orchard.paints import angle, colour, diamonds, mottled, plain, smoothstep
from verger.orchard.pieces import Part, Piece
from verger.orchard.shapes import (
    Array,
    around,
    capsule,
    dimpled,
    ellipsoid,
    leaf,
    length,
    mix,
    moved,
    path,
    rippled,
    sphere,
    spheres,
    stretched,
    union,
)

# The two ends of what one fruit shows.
_CHERRIES = (("6b0a16", "a3121f"), ("8c0f1a", "c92a2a"), ("4a0812", "7d0f1c"))
_GRAPES = (("3a1236", "75598a"), ("2a1030", "5d5580"), ("8aa03c", "c3cf86"))


def blueberry(rng: Random) -> list[Piece]:
    """A handful of dusty berries, each with its little crown; one rides on three others."""
    noise = Noise(rng)
    skin = mottled(noise, "1c2348", "56679a", 1.6)

    def crown(p: Array) -> tuple[Array, Array]:
        points = 1 + 0.22 * np.cos(5 * angle(p))
        radius = np.where(p[2] > 0, length(p[:2]), 9) / points
        return smoothstep(0.3, 0.22, radius), smoothstep(0.5, 0.36, radius)

    def paint(p: Array) -> Array:
        hollow, rim = crown(p)
        return mix(mix(skin(p), colour("323d66"), rim), colour("0f1226"), hollow)

    def bump(p: Array) -> Array:
        hollow, rim = crown(p)
        relief: Array = 0.07 * rim - 0.2 * hollow
        return relief + 0.006 * noise(p, 14.0)

    berry = [Part(stretched(sphere(1.0), (1, 1, 0.86)), paint, gloss=0.25, glow=0.2, bump=bump)]
    x, y = np.array([(x + 0.5 * (y % 2), y * 0.87) for x in range(-2, 3) for y in range(-2, 3)]).T * 0.8
    near = np.argsort(np.hypot(x - rng.uniform(-0.2, 0.2), y + rng.uniform(-0.2, 0.2)))[: rng.integers(4, 9)]
    spots = [(float(x[i]), float(y[i]), 0.0) for i in near]
    spots.append((*np.mean(spots[:3], axis=0)[:2].tolist(), 0.55))
    return [Piece(berry, at=(x, y), lift=lift, lean=(0, 80), size=rng.uniform(0.36, 0.4)) for x, y, lift in spots]


def cherry(rng: Random) -> list[Piece]:
    """A pair on long stems that meet."""
    dark, light = (colour(c) for c in rng.choice(_CHERRIES))
    noise, height = Noise(rng), rng.uniform(1.1, 1.5)
    bodies, stems = [], [capsule((0, 0, height), (0, 0.02, height + 0.08), 0.05, 0.06)]
    for side in (-1, 1):
        x, y, z = side * rng.uniform(0.45, 0.6), rng.uniform(-0.15, 0.15), rng.uniform(-0.04, 0.04)
        bodies.append(moved(stretched(dimpled(0.14, 0.34), (1, 1, 1.15)), (x, y, z)))
        rise = np.linspace(0, 1, 6)
        curve = np.stack([x * (1 - rise**2.2), y * (1 - rise), 0.22 + rise * (height - 0.22)], axis=1)
        stems.append(path(curve.tolist(), 0.026))
    fruit = Part(
        union(*bodies), lambda p: mix(dark, light, smoothstep(-0.6, 0.6, noise.cloud(p, 1.8))), gloss=0.9, glow=0.5
    )
    return [Piece([fruit, Part(union(*stems), plain("6f8a35"), gloss=0.2)], lean=(-12, 12), side=(0, 30))]


def grape(rng: Random) -> list[Piece]:
    """A bunch lying down, wider at the stem; translucent, with bloom."""
    deep, bloom = (colour(c) for c in rng.choice(_GRAPES))
    noise, count = Noise(rng), 32
    down = np.linspace(-1, 0.9, count)
    ring = 0.52 * np.sqrt((down + 1.05) / 1.9) * np.sqrt(np.clip((1.15 - down) / 0.5, 0.3, 1))
    turns = np.arange(count) * 2.39996 + rng.uniform(0, 6)
    centres = np.stack([ring * np.cos(turns), ring * np.sin(turns), down]) + rng.uniform(-0.05, 0.05, (3, count))

    def paint(p: Array) -> Array:
        return mix(deep, bloom, 0.75 * smoothstep(-0.5, 0.9, noise.cloud(p, 2.5)))

    bunch = union(spheres(rng.uniform(0.23, 0.26), centres.astype(np.float32)), ellipsoid((0.4, 0.4, 0.75)))
    berries = Part(bunch, paint, gloss=0.6, glow=0.9)
    stalk = path([(0, 0, 0.7), (0.02, 0, 1.1), (0.1, 0.05, 1.35)], 0.04)
    return [Piece([berries, Part(stalk, plain("7a6a3a"), gloss=0.1)], lean=(75, 100), side=(40, 140))]


def strawberry(rng: Random) -> list[Piece]:
    """A red cone set with seeds, in a ruff of leaves; one, or a pair."""
    noise, ripe = Noise(rng), rng.uniform(0, 1)
    red = mix(colour("d4201f"), colour("a30d14"), ripe)

    def seed(p: Array) -> Array:
        a, b = diamonds(p, 10, 4.6)
        return np.hypot((a + b) * 0.9, (a - b) * 0.55)

    def paint(p: Array) -> Array:
        skin = mix(red * (1 + 0.15 * noise(p, 2.5)), colour("e8b79a"), 0.6 * smoothstep(0.4, 0.66, p[2]))
        return mix(skin, colour("e0b040"), smoothstep(0.15, 0.1, seed(p)))

    def bump(p: Array) -> Array:
        return -0.04 * smoothstep(0.42, 0.12, seed(p)) + 0.02 * smoothstep(0.15, 0.05, seed(p))

    cone = capsule((0, 0, -0.62), (0, 0, 0.08), 0.2, 0.6)
    ruff = moved(around(leaf(0.58, 0.26, 0.9, 12), 9), (0, 0, 0.66))
    stalk = capsule((0, 0, 0.6), (0.12, 0, 0.95), 0.04)
    parts = [
        Part(rippled(cone, 3, 0.02), paint, gloss=0.7, glow=0.6, bump=bump),
        Part(union(ruff, stalk), plain("55852c"), gloss=0.2),
    ]
    if rng.random() < 0.5:
        return [Piece(parts, lean=(75, 110), side=(40, 140))]
    spots = ((-0.64, 0.35, (20, 130)), (0.64, -0.3, (200, 320)))
    return [Piece(parts, at=(x, y), lean=(75, 110), side=side, size=rng.uniform(0.8, 1)) for x, y, side in spots]
