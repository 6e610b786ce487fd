"""A worker of the page's server that knows a small orchard: the nearest class mean of real vectors. It needs no Spark.

`python tests/orchard_worker.py MEANS.npz MAX_BYTES MAX_PIXELS`. Two colours stand for what real photos should never do:
it dies of magenta, and never ends with cyan.
"""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from orchard_server import jpeg

from verger.backbone import load_backbone
from verger.errors import PhotoError, SettingError
from verger.image import decode
from verger.recogniser import Answer, Guess
from verger.sample import render
from verger.settings import Limits
from verger.web.worker import work

KINDS = ("apple", "banana", "pear", "strawberry")
PARENTS = {"apple": ("pome",), "pear": ("pome",)}
DEADLY, ENDLESS = (255, 0, 255), (0, 255, 255)
SURE = 0.9
FARTHEST = 0.79  # cosine distance to the nearest mean; noise is farther away
SHARPNESS = 12.0


class Orchard:
    """What `verger.recognition.Recognition` does, with a handful of means."""

    def __init__(self, means: NDArray[np.float32], photos: NDArray[np.uint8]) -> None:
        self._photos = photos
        self._centre = means.mean(axis=0)
        self._means = unit(means - self._centre)
        self._backbone = load_backbone("efficientnet_lite0")
        self._network = self._backbone.load()

    def answer(self, photos: Sequence[bytes], limits: Limits) -> list[Answer | PhotoError]:
        return [self._answer(photo, limits) for photo in photos]

    def lookalikes(self, label: str) -> list[bytes]:
        return [jpeg(pixels) for pixels in self._photos[KINDS.index(label)]]

    def _answer(self, photo: bytes, limits: Limits) -> Answer | PhotoError:
        try:
            pixels = decode(photo, self._backbone.image_size, limits.max_pixels).pixels
        except PhotoError as error:
            return error
        if (pixels == DEADLY).all():
            os._exit(9)
        if (pixels == ENDLESS).all():
            time.sleep(3600)
        likeness = self._means @ unit(self._network(pixels[None]) - self._centre)[0]
        weights = np.exp(SHARPNESS * likeness)
        guesses = [Guess(k, PARENTS.get(k, ()), float(p)) for k, p in zip(KINDS, weights / weights.sum(), strict=True)]
        guesses.sort(key=lambda guess: -guess.probability)
        pome = sum(guess.probability for guess in guesses if guess.parents)
        label, probability = guesses[0].label, guesses[0].probability
        if probability < SURE:
            label, probability = ("pome", pome) if pome >= SURE else (None, probability)
        distance = float(1 - likeness.max()) / FARTHEST
        known = distance <= 1
        return Answer(
            label if known else None, known and label is not None, known, probability, tuple(guesses[:3]), distance
        )


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def learn(file: Path) -> None:
    """Render a few photos of each kind, and keep the means of their vectors."""
    backbone = load_backbone("efficientnet_lite0")
    pixels = [render(kind, index, side=backbone.image_size) for kind in KINDS for index in range(2)]
    means = backbone.load()(np.stack(pixels)).reshape(len(KINDS), 2, -1).mean(axis=1)
    np.savez(file, means=means, photos=np.stack(pixels).reshape(len(KINDS), 2, *pixels[0].shape))


def load(file: Path) -> Orchard:
    if not file.is_file():
        raise SettingError("a file of class means", str(file), "Call learn first.")
    learned = np.load(file)
    return Orchard(learned["means"], learned["photos"])


if __name__ == "__main__":
    work(lambda: load(Path(sys.argv[1])), Limits(int(sys.argv[2]), int(sys.argv[3])))
