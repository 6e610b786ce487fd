"""Many clients at the page's server: `python benchmarks/serve.py DEST PHOTOS [--clients 20] [--seconds 60]`."""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from picking import evenly
from serving import ask, command_of, say, serving

from verger.image import thumbnail
from verger.recognition import load
from verger.settings import Limits
from verger.storage import open_place

SIDE_PIXELS = 1024  # as the page sends them
LIMITS = Limits(10_000_000, 25_000_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dest")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()
    files = evenly(sorted(asked.photos.rglob("*.jpg")), 200)
    photos = [thumbnail(file.read_bytes(), SIDE_PIXELS, LIMITS.max_pixels) for file in files]
    print(f"{len(photos)} photos of {np.mean([len(photo) for photo in photos]) / 1000:.0f} kB on average")
    recognition = load(open_place(asked.dest))
    alone = []
    for photo in photos:
        began = time.perf_counter()
        recognition.answer([photo], LIMITS)
        alone.append(time.perf_counter() - began)
    print(f"the recogniser alone, one thread: median {np.median(alone):.3f} s, {1 / np.mean(alone):.1f} answers/s")
    with serving(command_of(asked.dest)) as server:
        told = ask(server, _until(photos, asked.seconds), asked.clients)
        say(told, server)
    sys.exit(set(told.statuses) != {200})


def _until(photos: list[bytes], seconds: float) -> Iterator[bytes]:
    """Photos over and over, for a time."""
    end = time.monotonic() + seconds
    return itertools.takewhile(lambda _: time.monotonic() < end, itertools.cycle(photos))


if __name__ == "__main__":
    main()
