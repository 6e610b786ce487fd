"""Where a photo's time goes: one worker on one core, with one kind of work taken out at a time.

Each variant is what a Spark task runs, `verger.vectors.embed_part`, with another place or another network as its
argument; the network alone runs between them, in the same process, and is what each is compared with.
"""

import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
from picking import evenly

import verger.vectors
from verger.backbone import load_backbone
from verger.image import Decoded, decode
from verger.network import Backbone, Network
from verger.parts import Part, name_part
from verger.photos import Photo, list_photos
from verger.reading import GROUP_PHOTOS, read_ahead, read_photo
from verger.settings import Settings
from verger.storage import Folder
from verger.vectors import embed_part


@dataclasses.dataclass(frozen=True)
class Held(Folder):
    """A folder whose photos are in memory already."""

    contents: dict[str, bytes] = dataclasses.field(repr=False, compare=False, default_factory=dict)

    def read(self, path: str) -> bytes:
        """A photo."""
        return self.contents[path]


class Discarding(Folder):
    """A folder that keeps nothing."""

    def write(self, path: str, content: bytes | pa.Buffer) -> None:
        """Write nothing."""


class Nothing(Backbone):
    """A network that answers zeros at once."""

    def load(self, *_: object, **__: object) -> Network:
        """The function from pixels to zeros."""
        return lambda pixels: np.zeros((len(pixels), self.vector_length), np.float32)


class Bench:
    """The variants on the same photos. Each is a function without arguments."""

    def __init__(self, source: Folder, dest: Folder, photos: list[Photo], backbone: Backbone) -> None:
        self.source, self.dest, self.photos, self.backbone = source, dest, photos, backbone
        self.limits = Settings(source=source.root, dest=dest.root).limits
        self.contents = {photo.path: source.read(photo.path) for photo in photos}
        self.held = Held(source.root, self.contents)
        side = backbone.image_size
        self.pixels = np.random.default_rng(0).integers(0, 256, (len(photos), side, side, 3), np.uint8)
        facts = {field.name: getattr(backbone, field.name) for field in dataclasses.fields(backbone)}
        self.nothing = Nothing(**facts | {"fingerprint": "0" * 16})
        self.run_network = backbone.load()

    def embed(self, source: Folder, dest: Folder, backbone: Backbone, photos: list[Photo]) -> None:
        """One task, as Spark would run it."""
        _, failures = embed_part(Part(name_part(photos, "bench"), photos), (source, dest), backbone, self.limits)
        if failures:
            raise SystemExit(f"expected photos that can all be embedded, received {failures[:3]}")

    def variants(self) -> dict[str, tuple[Backbone, Callable[[], Any]]]:
        """The work of each variant, and the network that its worker keeps."""
        ours, photos = self.backbone, self.photos
        return {
            "whole": (ours, lambda: self.embed(self.source, self.dest, ours, photos)),
            "no writing": (ours, lambda: self.embed(self.source, Discarding(self.dest.root), ours, photos)),
            "no reading": (ours, lambda: self.embed(self.held, self.dest, ours, photos)),
            "no decoding": (ours, self.without_decoding),
            "no network": (self.nothing, lambda: self.embed(self.source, self.dest, self.nothing, photos)),
            "only reading": (ours, self.only_reading),
            "only decoding": (ours, self.only_decoding),
        }

    def without_decoding(self) -> None:
        """The whole, where every photo is the same one, decoded already."""
        fixed = Decoded(self.pixels[0], 100, 100)
        # PATCH: a worker takes no other decoder as an argument, so its name is replaced where the worker looks it up.
        with mock.patch.object(verger.vectors, "decode", return_value=fixed):
            self.embed(self.source, self.dest, self.backbone, self.photos)

    def only_reading(self) -> None:
        """Every photo's bytes, in the groups of a worker."""
        limit = self.limits.max_bytes
        for _ in read_ahead(lambda photo: read_photo(self.source, photo, limit), self.photos, GROUP_PHOTOS):
            pass

    def only_decoding(self) -> None:
        """Every photo's pixels."""
        for content in self.contents.values():
            decode(content, self.backbone.image_size, self.limits.max_pixels)

    def milliseconds(self, work: Callable[[], Any]) -> float:
        """How long a photo takes."""
        start = time.perf_counter()
        work()
        return round(1000 * (time.perf_counter() - start) / len(self.photos), 4)


def measure(source: str, name: str, weights: str | None, photos: int, passes: int) -> dict[str, Any]:
    """Milliseconds a photo of every variant, and of the network alone around it, pass by pass."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    place = Folder(source)
    with tempfile.TemporaryDirectory(prefix="verger-bench-") as folder:
        dest = Folder(folder)
        listed = list_photos(place, dest, 1).photos
        picked = evenly(listed, photos)
        bench = Bench(place, dest, picked, load_backbone(name, weights=weights))
        return {"photos": len(picked), "passes": [one_pass(bench, number) for number in range(-1, passes)][1:]}


def one_pass(bench: Bench, number: int) -> dict[str, dict[str, float]]:
    """Every variant once, each pass beginning with another; the first pass of all only warms up."""
    variants = list(bench.variants().items())
    begin = number % len(variants)
    figures = {}
    before = bench.milliseconds(lambda: bench.run_network(bench.pixels))
    for variant, (backbone, work) in [*variants[begin:], *variants[:begin]]:
        # A worker keeps its network from task to task; this loads it, on one photo, if another was here before.
        bench.embed(bench.held, Discarding(bench.dest.root), backbone, bench.photos[:1])
        taken = bench.milliseconds(work)
        after = bench.milliseconds(lambda: bench.run_network(bench.pixels))
        figures[variant] = {"ms": taken, "network_ms": round((before + after) / 2, 4)}
        before = after
    return figures


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
