"""Photos as a hostile client sends them: files of every format with bytes changed, cut out, doubled or cut off."""

import io
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG", "PNG")  # the first and the last with what is rare
RARE = {"JPEG": {"progressive": True, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}, "PNG": {"bits": 8}}


def whole_files(pixels: NDArray[np.uint8]) -> list[bytes]:
    """One picture in every format that Verger reads, (h, w, 3); some twice, in a form of their own."""
    files = []
    for number, name in enumerate(FORMATS):
        out = io.BytesIO()
        options = RARE[name] if number >= 6 else {}
        Image.fromarray(pixels).save(out, name, **options)
        files.append(out.getvalue())
    return files


def mutations(files: Sequence[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """Damaged copies of files, the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        content = bytearray(files[number % len(files)])
        for _ in range(int(rng.integers(1, 6))):
            _damage(content, rng)
        yield bytes(content)


def _damage(content: bytearray, rng: np.random.Generator) -> None:
    length = len(content)
    if not length:
        return
    # Half of the damage falls on the first bytes: that is where sizes, offsets and depths are.
    at = int(rng.integers(0, min(length, 200) if rng.random() < 0.5 else length))
    span = int(rng.integers(1, 64))
    kind = int(rng.integers(0, 11)) // 2  # the last, a cut, half as often as the others: little survives it
    if kind == 0:
        content[at] ^= 1 << int(rng.integers(0, 8))
    elif kind == 1:
        content[at : at + span] = rng.bytes(min(span, length - at))
    elif kind == 2:
        content[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\xff\xff"])
    elif kind == 3:
        del content[at : at + span]
    elif kind == 4:
        content[at:at] = content[at : at + span]
    else:
        del content[at:]
