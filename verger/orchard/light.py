"""How pieces and their table look under a lamp and a sky. Colours are linear light, (3, n)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verger.orchard.paints import Paint, smoothstep
from verger.orchard.pieces import Part, Placed, gradient, trace
from verger.orchard.shapes import Array, Field, column, length, mix, unit


@dataclass(frozen=True)
class Scene:
    """Fruit on a table under a lamp and a sky."""

    pieces: Sequence[Placed]
    table: Paint
    lamp: Array  # (3, 1) direction towards it
    lamp_colour: Array  # (3, 1)
    sky: Array  # (3, 1)
    bounce: Array  # (3, 1) the table's mean colour, which lights fruit from below
    softness: float  # the lamp's half-width, in radians

    def shadow(self, points: Array) -> Array:
        """The share of the lamp that (3, n) points see, (n,): the narrower a ray's escape, the darker."""
        seen = np.ones(points.shape[1], dtype=np.float32)
        for piece in self.pieces:
            enter, leave = piece.span(points, self.lamp, margin=1.5)
            active = np.flatnonzero(enter < leave)
            travelled = np.maximum(enter[active], np.float32(0.03))
            stride = 0.7 + 0.3 * (active * active * 0.618 % 1).astype(np.float32)  # uneven: no rings
            for _ in range(14):
                gap = piece.distance(points.take(active, axis=1) + self.lamp * travelled)
                fringe = np.minimum(self.softness * travelled, 0.35 * piece.radius)  # ends within the margin
                seen[active] = np.minimum(seen[active], 0.5 + 0.5 * gap / fringe)
                going = (seen[active] > 0) & (travelled < leave[active])
                active, stride, step = active[going], stride[going], np.maximum(gap[going], np.float32(0.05))
                travelled = travelled[going] + step * stride
        return smoothstep(0, 1, seen)

    def openness(self, points: Array, normals: Array) -> Array:
        """The share of the sky that (3, n) points see, (n,), from how soon the way out along the normal widens."""
        reaches, weights = column((0.1, 0.35, 0.85)), column((0.35, 0.35, 0.4))
        gaps = np.minimum(points[2] + normals[2] * reaches, reaches)  # (3, n): to the table, at three reaches
        for piece in self.pieces:
            near = np.flatnonzero(length(points - piece.centre) < piece.radius + 1.4 * reaches[-1])
            for gap, reach in zip(gaps, reaches, strict=True):
                probes = points.take(near, axis=1) + normals.take(near, axis=1) * reach
                gap[near] = np.minimum(gap[near], piece.distance(probes))
        hidden = weights * np.clip(1 - gaps / reaches, 0, 1)
        open_share: Array = np.clip(1 - hidden.sum(axis=0), 0.05, 1)
        return open_share

    def window(self, directions: Array, gloss: float) -> Array:
        """The lamp's square reflection in (3, n) directions, (n,): a crisp window on polish, a haze on fuzz."""
        across = unit(np.cross(self.lamp, column((0, 0, 1)), axis=0))
        up = np.cross(self.lamp, across, axis=0)
        size, edge = 0.25 + 0.2 * (1 - gloss), 0.06 + 0.5 * (1 - gloss) ** 1.5
        front = smoothstep(0, 0.3, (directions * self.lamp).sum(axis=0))
        sides = [smoothstep(size + edge, size - edge, np.abs((directions * axis).sum(axis=0))) for axis in (across, up)]
        return front * sides[0] * sides[1]

    def light(self, points: Array, normals: Array, glow: float) -> Array:
        """What arrives at (3, n) points, (3, n); `glow` lets light wrap around the edge of the night side."""
        towards = (normals * self.lamp).sum(axis=0)
        wrap = np.float32(0.35 * glow)
        facing: Array = np.clip((towards + wrap) / (1 + wrap), 0, 1)
        lamp: Array = self.lamp_colour * (facing * self.shadow(points + normals * np.float32(0.02)))
        up = 0.5 + 0.5 * normals[2]
        around: Array = self.sky * up + self.bounce * (1 - up)
        return lamp + around * self.openness(points, normals)

    def shine(self, normals: Array, views: Array, gloss: float, shade: Array) -> Array:
        """What the skin mirrors, (3, n): the lamp and the sky, more towards its edge (Schlick's Fresnel)."""
        facing: Array = np.clip(-(normals * views).sum(axis=0), 0, 1)
        mirrored = views + 2 * facing * normals
        fresnel: Array = np.float32(0.04) + np.float32(0.5 * gloss) * (1 - facing) ** 5
        sky = mix(self.bounce * 0.4, self.sky, smoothstep(-0.2, 0.5, mirrored[2]))
        lamp: Array = self.lamp_colour * self.window(mirrored, gloss) * np.float32(1 + 5 * gloss * gloss)
        return (lamp + sky * np.float32(0.4 + 0.6 * gloss)) * fresnel * shade

    def table_colour(self, points: Array) -> Array:
        """What the camera sees of the table at (3, n) points, (3, n)."""
        up = np.broadcast_to(column((0, 0, 1)), points.shape)
        return self.table(points) * self.light(points, up, 0.0)

    def part_colour(self, piece: Placed, part: Part, points: Array, views: Array) -> Array:
        """What the camera, looking along `views`, sees of a part at (3, n) world points, (3, n)."""
        local, bump = piece.local(points), part.bump
        relief: Field = part.shape if bump is None else lambda p: part.shape(p) - bump(p)
        normals = piece.world(gradient(relief, local))
        arriving = self.light(points, normals, part.glow)
        shade = np.clip(arriving.mean(axis=0), 0, 1)
        return part.paint(local) * arriving + self.shine(normals, views, part.gloss, shade)

    def look(self, origin: Array, directions: Array) -> Array:
        """The colour of each ray, (3, n), from one (3, 1) origin."""
        travelled = -origin[2] / directions[2]
        owner = np.full(travelled.shape, -1)
        for index, piece in enumerate(self.pieces):
            arrived = trace(piece, origin, directions)
            owner[arrived < travelled] = index
            travelled = np.minimum(travelled, arrived)
        points = origin + directions * travelled
        seen: Array = np.empty_like(points)
        seen[:, owner < 0] = self.table_colour(points[:, owner < 0])
        for index, piece in enumerate(self.pieces):
            mine = np.flatnonzero(owner == index)
            local = piece.local(points[:, mine])
            nearest = np.argmin(np.stack([part.shape(local) for part in piece.parts]), axis=0)
            for number, part in enumerate(piece.parts):
                here = mine[nearest == number]
                if here.size:
                    seen[:, here] = self.part_colour(piece, part, points[:, here], directions[:, here])
        return seen
