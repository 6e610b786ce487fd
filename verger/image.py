"""A photo's bytes → pixels for the network: upright, RGB, resized; or a named failure. Pure Pillow and NumPy."""

import io
import struct
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from verger.errors import Cause, PhotoError

DECODING_VERSION = 1  # to be raised whenever the same photo would give other pixels: it is part of every fingerprint
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
# EXIF's eight ways to hold a camera, as what makes the photo upright again (EXIF 2.3, tag 0x0112).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's readers raise on damaged files, as found by damaging files at random.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error)
# A JPEG is decoded at 1/2, 1/4 or 1/8 as long as it stays this many times larger than what is asked for.
OVERSAMPLING = 2

# Damage becomes the cause of a row, and the number of pixels is checked here: warnings would only be noise in the logs.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Decoded(NamedTuple):
    """A photo ready for the network."""

    pixels: NDArray[np.uint8]  # (size, size, 3), RGB
    width: int  # of the whole photo, upright, in pixels
    height: int


def decode(content: bytes, size: int, max_pixels: int) -> Decoded:
    """Decode a photo: upright by EXIF, alpha on white, squeezed into a square of `size` pixels.

    Raises:
        PhotoError: `not_an_image`, `truncated`, `too_many_pixels` or, for any other damage, `unreadable`.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as photo:
            width, height = photo.size
            if width * height > max_pixels:
                raise PhotoError("too_many_pixels")
            photo.draft(None, (OVERSAMPLING * size, OVERSAMPLING * size))
            turn = photo.getexif().get(ExifTags.Base.Orientation)
            small = _to_rgb(photo, size)
    except DAMAGE as error:
        raise PhotoError(_cause(error, content)) from error
    except Image.DecompressionBombError:
        raise PhotoError("too_many_pixels") from None
    except MemoryError:
        raise PhotoError("too_many_pixels") from None
    if turn in UPRIGHT:  # turning the small square costs less than turning the photo
        small = small.transpose(UPRIGHT[turn])
        if turn >= 5:
            width, height = height, width
    return Decoded(np.asarray(small), width, height)


def _to_rgb(photo: Image.Image, size: int) -> Image.Image:
    """The photo as RGB on white, `size` pixels square. Antialiased, so that a large photo does not glitter."""
    if photo.mode.startswith("I;16"):
        # Pillow's own conversion cuts 16-bit values off at 255 instead of scaling them.
        photo = Image.fromarray((np.asarray(photo) >> 8).astype(np.uint8))
    elif photo.mode == "I":
        photo = Image.fromarray((np.clip(np.asarray(photo), 0, 65535) >> 8).astype(np.uint8))
    transparent = "A" in photo.getbands() or "transparency" in photo.info
    if photo.mode in ("RGB", "RGBA", "L") and (factor := min(photo.size) // (OVERSAMPLING * size)) > 1:
        photo = photo.reduce(factor)  # before any copy is made: a large photo would fill a worker's memory
    mode = "RGBA" if transparent else "RGB"
    colours = photo if photo.mode == mode else photo.convert(mode)
    small = colours.resize((size, size), Image.Resampling.BILINEAR)
    if not transparent:
        return small
    return Image.alpha_composite(Image.new("RGBA", small.size, "white"), small).convert("RGB")


def _cause(error: Exception, content: bytes) -> Cause:
    """Name the damage. A file that starts like an image but cannot be identified was cut within its header."""
    if content.startswith(b"RIFF") and int.from_bytes(content[4:8], "little") + 8 > len(content):
        return "truncated"  # WebP says its own length, and its reader does not say what was wrong
    if isinstance(error, UnidentifiedImageError):
        return "truncated" if content.startswith(SIGNATURES) else "not_an_image"
    return "truncated" if isinstance(error, EOFError) or "truncated" in str(error).lower() else "unreadable"


def thumbnail(content: bytes, side: int, max_pixels: int) -> bytes:
    """A small upright JPEG of a photo, `side` pixels at its longer side, without metadata.

    Raises:
        PhotoError: as `decode`.
    """
    pixels, width, height = decode(content, side, max_pixels)
    longest = max(width, height)
    shape = (max(1, round(side * width / longest)), max(1, round(side * height / longest)))
    out = io.BytesIO()
    Image.fromarray(pixels).resize(shape, Image.Resampling.BILINEAR).save(out, "JPEG", quality=80)
    return out.getvalue()
