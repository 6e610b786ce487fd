"""The files that real life brings: each odd in one way, and named for it."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from verger.errors import Cause

_BOMB_SIDE = 20_000  # pixels: 400 million of them, 50 MB once unpacked, in about 50 kB


@dataclass(frozen=True)
class Oddity:
    """How a photo becomes an awkward file, and why it then fails, or None where it should not."""

    encode: Callable[[Image.Image], bytes]
    cause: Cause | None = None


def jpeg(photo: Image.Image, **options: Any) -> bytes:
    """A photo as JPEG."""
    return _encoded(photo, "JPEG", quality=90, **options)


def _encoded(photo: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, kind, **options)
    return buffer.getvalue()


def _rotated(photo: Image.Image) -> bytes:
    """Stored on its side, as a phone held upright does, with a note to turn it, and a place: 0° N 0° E."""
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn a quarter clockwise to view
    exif.get_ifd(0x8825).update({1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)})
    return jpeg(photo.transpose(Image.Transpose.ROTATE_90), exif=exif)


def _see_through(photo: Image.Image) -> Image.Image:
    """A photo that fades out towards its left side."""
    fade = np.linspace(0, 255, photo.width).astype(np.uint8)
    faded = photo.convert("RGBA")
    faded.putalpha(Image.fromarray(np.tile(fade, (photo.height, 1))))
    return faded


def _deep_grey(photo: Image.Image) -> bytes:
    """16 bits a pixel, as scanners and microscopes give."""
    return _encoded(Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257), "PNG")


def _truncated(photo: Image.Image) -> bytes:
    """What an interrupted upload leaves: the header, and half of the picture."""
    whole = jpeg(photo)
    scan = whole.index(b"\xff\xda")  # the marker after which the pixels start
    return whole[: (scan + len(whole)) // 2]


def _bomb(_: Image.Image) -> bytes:
    """A one-bit PNG that unpacks to far more than it weighs, written by hand so that nobody has to hold it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer, rows = zlib.compressobj(9), bytes(100 * (1 + _BOMB_SIDE // 8))  # a row is its filter and its bits
    packed = b"".join([*(packer.compress(rows) for _ in range(_BOMB_SIDE // 100)), packer.flush()])
    header = struct.pack(">IIBBBBB", _BOMB_SIDE, _BOMB_SIDE, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


ODDITIES: Mapping[str, Oddity] = {
    "exif_rotated_with_gps.jpg": Oddity(_rotated),
    "cmyk.jpg": Oddity(lambda photo: jpeg(photo.convert("CMYK"))),
    "greyscale.jpg": Oddity(lambda photo: jpeg(photo.convert("L"))),
    "greyscale_16_bit.png": Oddity(_deep_grey),
    "palette_with_transparency.png": Oddity(
        lambda photo: _encoded(photo.quantize(64, dither=Image.Dither.NONE), "PNG", transparency=0)
    ),
    "rgba.png": Oddity(lambda photo: _encoded(_see_through(photo), "PNG")),
    "webp.webp": Oddity(lambda photo: _encoded(photo, "WEBP", quality=90)),
    "progressive.jpg": Oddity(lambda photo: jpeg(photo, progressive=True)),
    "gif.gif": Oddity(lambda photo: _encoded(photo, "GIF")),
    "with spaces.jpg": Oddity(jpeg),
    "accent_é.jpg": Oddity(jpeg),
    "percent%20sign.jpg": Oddity(jpeg),
    "hash#sign.jpg": Oddity(jpeg),
    "plus+sign.jpg": Oddity(jpeg),
    "truncated.jpg": Oddity(_truncated, "truncated"),
    "empty.jpg": Oddity(lambda _: b"", "not_an_image"),
    "text.jpg": Oddity(lambda _: b"This is a note about apples, not a photo of one.\n", "not_an_image"),
    "bomb_400_megapixels.png": Oddity(_bomb, "too_many_pixels"),
}
