"""A network in int8: calibrated on photos of the run, and kept in DEST so that the next run uses the same."""

import contextlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from verger.errors import PhotoError
from verger.image import decode
from verger.network import Backbone
from verger.photos import Photo
from verger.reading import read_ahead, read_photo
from verger.settings import Limits, Settings
from verger.storage import Place

CALIBRATION_PHOTOS = 64  # more of them did not change the recognition of held-out varieties


INT8_NETWORK = "model/network-int8.onnx"
MADE_OF = "verger.float32"  # among that file's properties: the fingerprint of the network it was made of


def to_int8(backbone: Backbone, places: tuple[Place, Place], photos: Sequence[Photo], settings: Settings) -> Backbone:
    """The network in int8. Nothing is written.

    Args:
        backbone: in float32.
        places: SOURCE and DEST.
        photos: of the run; some of them, evenly spaced, calibrate the network where DEST keeps none.
        settings: limits (larger photos are passed over), and whether to restart, with a new calibration.

    Raises:
        SettingError: the network cannot be quantised, or there is no photo that could calibrate it.
    """
    # Imported here, because most runs are float32.
    from onnx import ModelProto, helper

    from verger.quantise import int8_backbone, quantise

    source, dest = places
    if not settings.restart:
        with contextlib.suppress(FileNotFoundError):
            kept = dest.read(INT8_NETWORK)
            if {MADE_OF: backbone.fingerprint} == _properties(kept):
                return int8_backbone(backbone, kept)
    pixels = calibration_pixels(source, photos, settings.image_size, settings.limits)
    model = ModelProto.FromString(quantise(backbone, pixels).graph)
    helper.set_model_props(model, {MADE_OF: backbone.fingerprint})
    return int8_backbone(backbone, model.SerializeToString())


def keep_network(dest: Place, backbone: Backbone) -> None:
    """Write a calibrated network to DEST, before its first vector; a network that any run can build is not kept."""
    if backbone.precision == "int8":
        dest.write(INT8_NETWORK, backbone.graph)
    else:
        dest.delete(INT8_NETWORK)


def _properties(graph: bytes) -> dict[str, str]:
    """What an ONNX file says of itself; nothing where it is none."""
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    try:
        return {entry.key: entry.value for entry in ModelProto.FromString(graph).metadata_props}
    except DecodeError:
        return {}


def calibration_pixels(source: Place, photos: Sequence[Photo], side: int, limits: Limits) -> NDArray[np.uint8]:
    """Up to CALIBRATION_PHOTOS photos that can be read, evenly spaced over the listing, uint8 (n, side, side, 3)."""
    every = max(1, len(photos) // CALIBRATION_PHOTOS)
    chosen = photos[::every][:CALIBRATION_PHOTOS]
    decoded = []
    for group in read_ahead(lambda photo: read_photo(source, photo, limits.max_bytes), chosen, 8):
        for content in group:
            try:
                decoded += [decode(content, side, limits.max_pixels).pixels] if isinstance(content, bytes) else []
            except PhotoError:
                continue  # the run itself reports it
    return np.stack(decoded) if decoded else np.empty((0, side, side, 3), np.uint8)
