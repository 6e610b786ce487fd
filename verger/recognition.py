"""Photos → answers, with what a finished run left: no Spark, no training, one network.

The network, the projection and the recogniser are one ONNX graph, `recogniser.onnx`: whoever runs that file alone gets
the same numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from verger.errors import PhotoError, SettingError
from verger.gallery import GALLERY, read_gallery
from verger.image import decode
from verger.manifest import read_manifest
from verger.network import open_session
from verger.recogniser import RECOGNISER, RECOGNISER_GRAPH, Answer, Recogniser
from verger.settings import Limits
from verger.storage import Place

PHOTOS_AT_ONCE = 8


@dataclass(frozen=True)
class Recognition:
    """A recogniser with its network, ready to answer. Any number of threads may ask it; each call uses one."""

    recogniser: Recogniser
    session: InferenceSession  # of `recogniser.onnx`
    gallery: Mapping[str, Sequence[bytes]]

    @property
    def side(self) -> int:
        """Of the squares that the graph takes, in pixels."""
        return int(self.session.get_inputs()[0].shape[1])

    def answer(self, photos: Sequence[bytes], limits: Limits) -> list[Answer | PhotoError]:
        """What each photo shows, or why it cannot be read. Each is looked at whole, and from nearer by."""
        answers: list[Answer | PhotoError] = []
        for start in range(0, len(photos), PHOTOS_AT_ONCE):
            some = [self.pixels(content, limits) for content in photos[start : start + PHOTOS_AT_ONCE]]
            read = [pixels for pixels in some if not isinstance(pixels, PhotoError)]
            answered = iter(self.recogniser.answers(*self.judge(np.stack(read)))) if read else iter(())
            answers += [pixels if isinstance(pixels, PhotoError) else next(answered) for pixels in some]
        return answers

    def judge(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Pixels (n, side, side, 3), RGB → probabilities (n, c) of the labels, and distances (n,)."""
        one_by_one = [
            self.session.run(["probabilities", "distance"], {"pixels": pixels[i : i + 1]}) for i in range(len(pixels))
        ]
        probabilities, distances = (np.concatenate(parts) for parts in zip(*one_by_one, strict=True))
        return probabilities, distances

    def lookalikes(self, label: str, most: int = 3) -> list[bytes]:
        """Small JPEGs of photos of the run with this label, or with labels below it; none where it has none."""
        below = [path[0] for path in self.recogniser.labels if label in path]
        kept = [self.gallery[name] for name in dict.fromkeys(below) if name in self.gallery]
        return [images[i] for i in range(most) for images in kept if i < len(images)][:most]

    def pixels(self, content: bytes, limits: Limits) -> NDArray[np.uint8] | PhotoError:
        """A photo as the network takes it, uint8 (side, side, 3), or why it cannot be read."""
        if len(content) > limits.max_bytes:
            return PhotoError("too_large")
        try:
            return decode(content, self.side, limits.max_pixels).pixels
        except PhotoError as error:
            return error


def load(dest: Place) -> Recognition:
    """What the run in DEST learnt.

    Raises:
        SettingError: there is no finished run in DEST, or it has no recogniser.
    """
    manifest = read_manifest(dest)
    recogniser, graph = read_recogniser(dest), read_graph(dest, manifest)
    try:
        gallery = read_gallery(dest.read(GALLERY))
    except FileNotFoundError:
        gallery = {}
    return Recognition(recogniser, open_session(graph), gallery)


def read_graph(dest: Place, manifest: Mapping[str, Any]) -> bytes:
    """`recogniser.onnx` of a finished run that has a recogniser.

    Raises:
        SettingError: its network has no ONNX form.
    """
    try:
        return dest.read(RECOGNISER_GRAPH)
    except FileNotFoundError as error:
        network = f"{dest.uri}, whose network runs on {manifest['backbone']['engine']}"
        advice = "Run with --engine onnx; export a network from a .keras file to ONNX first."
        raise SettingError("a run whose network runs on ONNX", network, advice) from error


def read_recogniser(dest: Place) -> Recogniser:
    """The recogniser of a finished run.

    Raises:
        SettingError: it has none.
    """
    try:
        return Recogniser.from_bytes(dest.read(RECOGNISER))
    except FileNotFoundError as error:
        advice = "Put photos into one folder a label, two labels of five photos or more, and run again."
        raise SettingError("a run with a recogniser", f"{dest.uri}, without {RECOGNISER}", advice) from error
