"""Fruits shown whole: apple, banana, pear, pineapple."""

from dataclasses import replace

import numpy as np

from verger.orchard.noise import Noise, Random
from verger.orchard.paints import colour, diamonds, mottled, plain, smoothstep, specks
from verger.orchard.pieces import Part, Piece
from verger.orchard.shapes import (
    Array,
    apply,
    around,
    bent,
    blend,
    capsule,
    column,
    dimpled,
    ellipsoid,
    leaf,
    length,
    mix,
    moved,
    path,
    rippled,
    sphere,
    stretched,
    turn,
    union,
    unit,
)

# Ground and blush. An apple is red three times out of four.
_APPLES = (("d8b34a", "a8141c"), ("c9c04e", "b81d22"), ("cfa548", "8c1018"), ("a5b840", "8fae35"))
_PEARS = (("b9b83f", "c9873a"), ("c8c65a", "b9b040"), ("9bb040", "a8a83c"))


def apple(rng: Random) -> list[Piece]:
    """Dimpled at both ends, streaked from pole to pole over a paler ground."""
    noise = Noise(rng)
    ground, blush = (colour(c) for c in rng.choice(_APPLES))
    ripe = rng.uniform(-0.35, 0.1)

    def paint(p: Array) -> Array:
        streaks = noise(np.stack([*unit(p[:2]), p[2] * 0.1]), 13.0)
        red = smoothstep(ripe - 0.35, ripe + 0.35, 0.7 * noise(p, 1.1) + 0.25 * streaks + 0.25)
        skin = mix(ground, blush * (0.9 + 0.12 * streaks), red)
        skin = mix(skin, colour("e8d9a0"), 0.5 * specks(noise, p, 12.0, 0.18))
        hollow = smoothstep(0.3, 0.05, length(p[:2])) * (np.abs(p[2]) > 0.2)
        return mix(skin, colour("8a7a35"), 0.8 * hollow)

    body = rippled(stretched(dimpled(0.4, 0.58), (1, 1, rng.uniform(1.3, 1.5)), taper=0.16), 5, 0.012)
    stem = capsule((0, 0, 0.45), (*rng.uniform(-0.12, 0.12, 2), 0.95), 0.035, 0.05)
    parts = [Part(body, paint, gloss=0.65), Part(stem, plain("5b4028"), gloss=0.1)]
    if rng.random() < 0.4:
        blade = moved(leaf(0.7, 0.32, 0.4, 25), (0.02, 0, 0.75))
        parts.append(Part(blade, plain("4d7a2a"), gloss=0.4))
    return [Piece(parts, lean=(0, 50))]


def _moved(part: Part, by: Array, turned: Array) -> Part:
    """A part turned, then moved by (3, 1), with its paint."""
    shape, back = moved(part.shape, by, turned), turned.T
    return replace(part, shape=shape, paint=lambda p: part.paint(apply(back, p - by)))


def banana(rng: Random) -> list[Piece]:
    """One to three bent tubes with five edges, dark at both ends."""
    noise, ripe = Noise(rng), rng.uniform(0, 1)
    tube = bent(
        1.15,
        (-0.93, -0.90, -0.82, -0.62, -0.3, 0.1, 0.45, 0.68, 0.78, 1.0),
        (0.04, 0.07, 0.11, 0.19, 0.235, 0.245, 0.21, 0.12, 0.075, 0.07),
    )
    fresh, ripened = colour("d9c13c"), colour("edbb24")

    def paint(p: Array) -> Array:
        along = np.arctan2(p[0], p[1] + 1.15)
        skin = mix(fresh, ripened, ripe) * (1 + 0.08 * noise(p, 3.0))
        skin = mix(skin, colour("9aa53a"), smoothstep(0.45, 0.85, along) * (0.9 - 0.5 * ripe))
        skin = mix(skin, colour("4a3418"), specks(noise, p, 6.0, 0.05 + 0.22 * ripe) * 0.7)
        return mix(skin, colour("2b2015"), smoothstep(-0.875, -0.9, along) + smoothstep(0.985, 1.0, along))

    hand = []
    for i in range(int(rng.integers(1, 4))):
        swing = turn(2, 13.0 * i) @ turn(0, 6.0 * i)
        pivot = column((0.95, -0.6, 0))
        one = Part(tube, paint, gloss=0.35)
        hand.append(_moved(one, pivot - swing @ pivot + column((0, 0, 0.13 * i)), swing))
    return [Piece(hand, lean=(-10, 10))]


def pear(rng: Random) -> list[Piece]:
    """A round body that flows into a neck, freckled."""
    noise = Noise(rng)
    ground, blush = (colour(c) for c in rng.choice(_PEARS))
    body = blend(blend(sphere(0.66, (0, 0, -0.36)), sphere(0.3, (0, 0, 0.3)), 0.5), sphere(0.2, (0.05, 0, 0.62)), 0.4)

    def paint(p: Array) -> Array:
        skin = mix(ground, blush, smoothstep(-0.1, 0.8, noise(p, 0.8) + 0.4 * p[0]))
        skin = mix(skin, colour("7a5c2a"), 0.6 * specks(noise, p, 16.0, 0.26))
        return mix(skin, colour("8a6a35"), 0.7 * smoothstep(0.7, 0.88, p[2]))

    stem = path([(0.05, 0, 0.8), (0.08, 0.03, 1.05), (0.18, 0.06, 1.22)], 0.04)
    return [Piece([Part(body, paint, gloss=0.4), Part(stem, plain("4f3a22"), gloss=0.1)], lean=(0, 22))]


def pineapple(rng: Random) -> list[Piece]:
    """A barrel of eyes on a lattice that winds both ways, under a crown of blades."""
    noise, green = Noise(rng), rng.uniform(0, 0.6)
    shell = mix(colour("c98a1e"), colour("8a8a30"), green)

    def eyes(p: Array) -> tuple[Array, Array]:
        a, b = diamonds(p, 8, 3.1)
        return np.maximum(np.abs(a), np.abs(b)), np.hypot(a, b)

    def paint(p: Array) -> Array:
        edge, middle = eyes(p)
        skin = mix(shell * (1 + 0.2 * noise(p, 3.0)), colour("5a5a22"), smoothstep(0.36, 0.5, edge))
        return mix(skin, colour("5e3a17"), smoothstep(0.2, 0.08, middle))

    def bump(p: Array) -> Array:
        edge, middle = eyes(p)
        relief: Array = 0.04 * smoothstep(0.16, 0.04, middle) - 0.09 * smoothstep(0.25, 0.5, edge)
        return relief + 0.008 * noise(p, 14.0)

    blades = [
        moved(around(leaf(size, 0.2, droop, rise), count, start), (0, 0, 0.72))
        for size, droop, rise, count, start in (
            (0.7, 0.45, 45, 9, 0.0),
            (0.95, 0.3, 65, 8, 0.3),
            (1.0, 0.15, 80, 5, 0.1),
        )
    ]
    body = Part(ellipsoid((0.6, 0.6, 0.86)), paint, gloss=0.3, bump=bump)
    crown = Part(union(*blades), mottled(noise, "3f6b2c", "7f9a55", 4.0), gloss=0.3)
    return [Piece([body, crown], lean=(0, 20) if rng.random() < 0.5 else (75, 95), side=(110, 250))]
