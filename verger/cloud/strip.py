"""Photos without what they tell of people: EXIF with its GPS, XMP, IPTC, comments and thumbnails go.

Pixels are not decoded, so they stay what they are, bit for bit. Of the metadata only the orientation is kept, and the
colour profile. What is kept is listed, and everything else goes: a maker's own segment is not known to be harmless.
"""

import io
import re
import struct
import zlib

from PIL import ExifTags, Image

ORIENTATIONS = range(2, 9)  # 1 is upright, and need not be said
# JPEG (ITU T.81, table B.1): the markers without which the picture cannot be decoded. SOF, DHT, DAC; SOS to EXP.
PICTURE = frozenset({*range(0xC0, 0xD0), *range(0xDA, 0xE0)}) - {0xC8}
PROFILES = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}  # application segments that change colours
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # within a scan, ff00 is a byte and ffd0 to ffd7 are restarts
# PNG, third edition, section 11.3: chunks that change how pixels look. Critical ones begin with a capital letter.
LOOKS = frozenset({b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI"})
WEBP_PICTURE = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"})
WEBP_EXIF, WEBP_XMP = 0x08, 0x04  # flags in VP8X


class StripError(Exception):
    """A file whose metadata cannot be told from its picture. Its words say why; it must not travel."""


def strip(content: bytes) -> bytes:
    """The same photo without metadata: same pixels, same orientation, same colour profile.

    JPEG, PNG and WebP are cut; BMP holds no metadata.

    Raises:
        StripError: the file is something else, or broken before its picture begins.
    """
    try:
        if content.startswith(b"\xff\xd8"):
            return _strip_jpeg(content)
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            return _strip_png(content)
        if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
            return _strip_webp(content)
    except (struct.error, IndexError, ValueError) as error:
        raise StripError("broken before its picture begins") from error
    if content.startswith(b"BM"):
        return content[: int.from_bytes(content[2:6], "little") or None]
    if content.startswith((b"GIF8", b"II*\0", b"MM\0*")):
        raise StripError("GIF and TIFF keep metadata among the pixels: save it as PNG")
    raise StripError("not a JPEG, PNG, WebP or BMP")


def _orientation(content: bytes) -> bytes:
    """EXIF that says how to turn the photo and nothing else; empty for one that is upright."""
    try:
        with Image.open(io.BytesIO(content)) as photo:
            turn = photo.getexif().get(ExifTags.Base.Orientation)
    except (OSError, SyntaxError, ValueError):  # what Pillow cannot read, it will not turn later either
        return b""
    if turn not in ORIENTATIONS:
        return b""
    # A TIFF header, one directory of one entry: tag 0x0112, a short, one of it, its value; no next directory.
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, ExifTags.Base.Orientation, 3, 1, turn, 0, 0)


def _strip_jpeg(content: bytes) -> bytes:
    exif = _orientation(content)
    kept = [content[:2]]
    if exif:
        kept.append(b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif)
    at, seen_scan = 2, False
    while at < len(content):
        if content[at] != 0xFF:
            raise ValueError(at)
        while content[at + 1] == 0xFF:  # markers may be filled up with ff
            at += 1
        marker = content[at + 1]
        if marker == END_OF_IMAGE:  # what follows is another picture, or a film, with metadata of its own
            return b"".join([*kept, content[at : at + 2]])
        end = at + 2 + struct.unpack_from(">H", content, at + 2)[0]
        segment = content[at:end]
        if marker == START_OF_SCAN:
            following = NEXT_MARKER.search(content, end)
            end = following.start() if following else len(content)
            segment, seen_scan = content[at:end], True
        if marker in PICTURE or (marker in PROFILES and segment[4:].startswith(PROFILES[marker])):
            kept.append(segment)
        at = end
    if not seen_scan:
        raise StripError("broken before its picture begins")
    return b"".join(kept)


def _strip_png(content: bytes) -> bytes:
    exif = _orientation(content)
    kept, at = [content[:8]], 8
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind == b"IDAT" and exif:
            kept.append(struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif)))
            exif = b""
        if kind[:1].isupper() or kind in LOOKS:
            kept.append(content[at : at + 12 + length])
        at += 12 + length
        if kind == b"IEND":
            break
    return b"".join(kept)


def _strip_webp(content: bytes) -> bytes:
    exif = _orientation(content)
    end = min(len(content), 8 + int.from_bytes(content[4:8], "little"))
    kept, at = [], 12
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", content, at)
        padded = 8 + length + length % 2
        chunk = bytearray(content[at : at + padded])
        if kind == b"VP8X":
            chunk[8] = (chunk[8] & ~(WEBP_EXIF | WEBP_XMP)) | (WEBP_EXIF if exif else 0)
        if kind in WEBP_PICTURE:
            kept.append(bytes(chunk))
        at += padded
    if exif:
        kept.append(struct.pack("<4sI", b"EXIF", len(exif)) + exif)
    body = b"WEBP" + b"".join(kept)
    if at > end:  # cut short: it must not look whole
        return b"RIFF" + content[4:8] + body
    return b"RIFF" + struct.pack("<I", len(body)) + body
