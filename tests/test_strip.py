"""Photos lose what cameras wrote into them, and keep every pixel."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from verger.cloud.strip import StripError, strip

SECRETS = [b"Anna", b"GPS", b"Canon", b"xpacket", b"Rose Street", b"Exif\0\0II"]


def picture(mode: str = "RGB", seed: int = 0) -> Image.Image:
    bands = {"RGB": 3, "RGBA": 4, "CMYK": 4, "L": 1}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, bands), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(), mode) if mode == "CMYK" else Image.fromarray(pixels.squeeze())


def exif(turn: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = turn
    tags[ExifTags.Base.Artist] = "Anna"
    tags[ExifTags.Base.Make] = "Canon"
    tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = "GPS of Rose Street"
    return tags


def saved(image: Image.Image, kind: str, turn: int, **given: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, exif=exif(turn), **given)
    return out.getvalue()


def jpeg(turn: int = 6, mode: str = "RGB", **given: object) -> bytes:
    """A JPEG with everything that phones add: EXIF, XMP, a comment, a maker's segment, and a film after its end."""
    content = saved(picture(mode), "JPEG", turn, comment=b"Anna", xmp=b"<?xpacket Rose Street?>", **given)
    maker = b"\xff\xed" + struct.pack(">H", 2 + 11) + b"Rose Street"
    return content[:2] + maker + content[2:] + b"a film of Anna"


def png(turn: int) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Anna")
    text.add_itxt("XML:com.adobe.xmp", "<?xpacket Rose Street?>")
    return saved(picture("RGBA"), "PNG", turn, pnginfo=text) + b"Anna"


FULL = {
    **{f"jpeg turned {turn}": jpeg(turn) for turn in range(1, 9)},
    "progressive": jpeg(progressive=True),
    "restarts": jpeg(restart_marker_blocks=2),
    "CMYK": jpeg(mode="CMYK"),
    "grey": jpeg(mode="L"),
    "colour profile": jpeg(icc_profile=b"profile" * 20_000),
    "png": png(6),
    "upright png": png(1),
    "webp": saved(picture("RGB"), "WEBP", 6, xmp=b"<?xpacket Rose Street?>"),
    "webp with alpha": saved(picture("RGBA"), "WEBP", 3, lossless=True, xmp=b"<?xpacket Rose Street?>"),
}


@pytest.mark.parametrize("name", FULL)
def test_metadata_goes_and_pixels_stay(name: str) -> None:
    content = FULL[name]
    assert any(secret in content for secret in SECRETS)
    stripped = strip(content)
    assert [secret for secret in SECRETS if secret in stripped] == []
    before, after = Image.open(io.BytesIO(content)), Image.open(io.BytesIO(stripped))
    assert (before.mode, before.format) == (after.mode, after.format)
    assert np.array_equal(np.asarray(before), np.asarray(after))
    turned = [np.asarray(ImageOps.exif_transpose(image)) for image in (before, after)]
    assert np.array_equal(*turned)
    assert before.info.get("icc_profile") == after.info.get("icc_profile")
    assert set(after.getexif()) <= {ExifTags.Base.Orientation}
    assert strip(stripped) == stripped


def test_a_turn_that_only_xmp_knows_is_kept() -> None:
    out = io.BytesIO()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    picture().save(out, "JPEG", xmp=xmp)
    assert Image.open(io.BytesIO(strip(out.getvalue()))).getexif()[ExifTags.Base.Orientation] == 8


def test_a_second_picture_behind_the_first_goes() -> None:
    out = io.BytesIO()
    picture().save(out, "MPO", save_all=True, append_images=[picture(seed=1)], exif=exif(1))
    stripped = strip(out.getvalue())
    assert Image.open(io.BytesIO(stripped)).format == "JPEG"
    assert stripped.count(b"\xff\xd9") == 1


def test_a_bmp_has_nothing_to_take_away_but_what_follows_it() -> None:
    out = io.BytesIO()
    picture().save(out, "BMP")
    assert strip(out.getvalue() + b"Anna") == out.getvalue()


def test_a_photo_that_was_cut_short_stays_cut_short() -> None:
    whole = jpeg(1, quality=95)
    stripped = strip(whole[:-800])
    assert b"Anna" not in stripped
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(stripped)).load()


@pytest.mark.parametrize(
    "content", [b"", b"words", b"\xff\xd8", b"\xff\xd8\xff\xe1\xff", b"\xff\xd8words", jpeg()[:60], b"GIF89a", b"II*\0"]
)
def test_what_cannot_be_told_apart_does_not_travel(content: bytes) -> None:
    with pytest.raises(StripError):
        strip(content)


def test_real_photos_keep_every_pixel(real_photos: Path) -> None:
    for file in sorted(real_photos.rglob("*.jpg"))[::500]:
        content = file.read_bytes()
        before, after = (np.asarray(Image.open(io.BytesIO(each))) for each in (content, strip(content)))
        assert np.array_equal(before, after)
