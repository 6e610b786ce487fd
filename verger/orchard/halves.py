"""Fruits shown with a half that lays open their inside: kiwi, lemon, orange, watermelon."""

from dataclasses import replace

import numpy as np

from verger.orchard.noise import Noise, Random
from verger.orchard.paints import Paint, angle, colour, mottled, segments, smoothstep, specks
from verger.orchard.pieces import Part, Piece
from verger.orchard.shapes import Array, blend, capsule, common, ellipsoid, length, mix, plane, sphere, stretched

_RIND = -0.012  # height below which a cut fruit shows its skin; not 0, as rays stop just before the cut face


def _half(part: Part, face: Paint) -> Part:
    """A part cut across its axis, its wet cut face painted."""

    def paint(p: Array) -> Array:
        return np.where(p[2] > _RIND, face(p), part.paint(p))

    def bump(p: Array) -> Array:
        relief = np.zeros_like(p[0]) if part.bump is None else part.bump(p)
        return np.where(p[2] > _RIND, 0, relief)

    return replace(part, shape=common(part.shape, plane()), paint=paint, bump=bump, gloss=0.45, glow=0.6)


def _with_half(rng: Random, whole: Part, half: Part, apart: float) -> list[Piece]:
    """A fruit lying across, and before it, left or right, a half that shows its cut face."""
    x, y = rng.choice([-1, 1]) * apart * rng.uniform(0.9, 1.1), apart * rng.uniform(0.9, 1.2)
    back = Piece([whole], at=(x, y), lean=(60, 110), side=(40, 140))
    return [back, Piece([half], at=(-0.8 * x, -0.8 * y), lean=(35, 62), side=(-18, 18), size=0.94)]


def _citrus(rng: Random, skin: Part, face: Paint) -> list[Piece]:
    """A citrus fruit, and often a half of another."""
    if rng.random() < 0.4:
        return [Piece([skin], lean=(60, 110), side=(40, 140))]
    return _with_half(rng, skin, _half(skin, face), 0.66)


def kiwi(rng: Random) -> list[Piece]:
    """A fuzzy brown egg, and a green half with its pale heart and ring of seeds."""
    noise = Noise(rng)
    fuzz = mottled(noise, "6a4f29", "866a3d", 3.0)
    skin = Part(
        ellipsoid((0.66, 0.66, 0.82)), fuzz, gloss=0.02, bump=lambda p: 0.005 * noise(p, 27.0) + 0.006 * noise(p, 55.0)
    )

    def face(p: Array) -> Array:
        radius, spin = length(p[:2]) / 0.66, angle(p)
        rays = 0.5 + 0.5 * np.cos(spin * 34 + 2 * noise(p, 3.0))
        flesh = mix(colour("7fa52a"), colour("a3c244"), rays * smoothstep(0.3, 0.6, radius))
        flesh = mix(colour("e6e6b0"), flesh, smoothstep(0.2, 0.36, radius + 0.04 * rays))
        u = spin * np.float32(34 / (2 * np.pi))
        off, ring = (u - np.rint(u)) * radius * 1.1, radius - 0.42 - 0.08 * np.cos(np.rint(u) * 2.4)
        seed = smoothstep(1.0, 0.7, np.hypot(off / 0.085, ring / 0.06))
        flesh = mix(flesh, colour("17130c"), seed)
        return mix(flesh, colour("6b5a2c"), smoothstep(0.96, 0.985, radius))

    return _with_half(rng, skin, _half(skin, face), 0.55)


def lemon(rng: Random) -> list[Piece]:
    """Pointed at both ends, finely pitted."""
    noise, ripe = Noise(rng), rng.uniform(0, 1)
    tips = capsule((0, 0, -0.92), (0, 0, 0.95), 0.09, 0.12)
    body = blend(ellipsoid((0.68, 0.68, 0.85)), tips, 0.45)
    skin = mix(colour("ecca1c"), colour("f5c216"), ripe)

    def paint(p: Array) -> Array:
        return mix(skin * (1 + 0.06 * noise(p, 2.0)), colour("a8b03a"), 0.7 * smoothstep(0.85, 1.0, np.abs(p[2])))

    part = Part(body, paint, gloss=0.4, bump=lambda p: 0.008 * noise(p, 15.0) + 0.012 * noise(p, 4.0))
    return _citrus(rng, part, lambda p: segments(p, 0.69, "dcb92c", "f3e6ae", 9))


def orange(rng: Random) -> list[Piece]:
    """Round, pored, with a green button."""
    noise = Noise(rng)
    skin = mix(colour("e8780c"), colour("f29a1a"), rng.uniform(0, 1))

    def pits(p: Array) -> Array:
        return specks(noise, p, 17.0, 0.3) + specks(noise, p + 5.5, 22.0, 0.3)

    def paint(p: Array) -> Array:
        peel = skin * (1 + 0.08 * noise(p, 1.5)) * (1 - 0.08 * pits(p))
        return mix(peel, colour("6f7a2c"), (p[2] > 0) * smoothstep(0.1, 0.05, length(p[:2])))

    def pores(p: Array) -> Array:
        dent: Array = 0.06 * smoothstep(0.25, 0.0, length(p[:2])) * (p[2] > 0)
        relief: Array = 0.006 * noise(p, 4.0) - 0.005 * pits(p)
        return relief - dent

    part = Part(stretched(sphere(0.85), (1, 1, 0.95)), paint, gloss=0.45, bump=pores)
    return _citrus(rng, part, lambda p: segments(p, 0.85, "f08a12", "f7d9a0", 10))


def watermelon(rng: Random) -> list[Piece]:
    """Striped, whole behind and cut in front."""
    noise = Noise(rng)
    light, dark, count = colour("8fae5a"), colour("1f4a1f"), int(rng.integers(9, 12))

    def rind(p: Array) -> Array:
        wave = np.cos(angle(p) * count + 2.2 * noise(p, 3.5))
        return mix(light, dark, smoothstep(-0.1, 0.45, wave + 0.35 * noise(p, 9.0)))

    def flesh(p: Array) -> Array:
        radius = length(p)
        inside = mix(colour("d8323a"), colour("ee5a55"), 0.5 + 0.5 * noise(p, 7.0))
        seeds = specks(noise, p + 0.4, 5.5, 0.3) * smoothstep(0.25, 0.35, radius)
        inside = mix(inside, colour("1c0f0a"), seeds * smoothstep(0.8, 0.72, radius))
        inside = mix(inside, colour("e9eecb"), smoothstep(0.84, 0.9, radius))
        return mix(inside, colour("5f8f3f"), smoothstep(0.93, 0.96, radius))

    melon = Part(stretched(sphere(1.0), (1, 1, 1.12)), rind, gloss=0.5)
    return _with_half(rng, melon, _half(melon, flesh), 0.78)
