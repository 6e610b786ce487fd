import contextlib
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from verger.errors import PhotoError
from verger.image import decode, thumbnail

MANY = 64_000_000
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quadrants() -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right; 64 wide, 32 high."""
    photo = Image.new("RGB", (64, 32), WHITE)
    photo.paste(RED, (0, 0, 32, 16))
    photo.paste(GREEN, (32, 0, 64, 16))
    photo.paste(BLUE, (0, 16, 32, 32))
    return photo


def encoded(photo: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    photo.save(out, kind, **options)
    return out.getvalue()


def corners(content: bytes) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quarters: top left, top right, bottom left, bottom right."""
    pixels = decode(content, 32, MANY).pixels
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    return [tuple(int(value) for value in pixels[y, x]) for y, x in itertools.product((8, 24), repeat=2)]


def assert_close(got: list[tuple[int, ...]], expected: list[tuple[int, ...]], within: int = 12) -> None:
    np.testing.assert_allclose(got, expected, atol=within)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_format_gives_the_same_colours(kind: str) -> None:
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    assert_close(corners(encoded(quadrants(), kind, **options)), [RED, GREEN, BLUE, WHITE])


def test_a_progressive_jpeg_is_a_jpeg() -> None:
    assert_close(corners(encoded(quadrants(), "JPEG", progressive=True, quality=95)), [RED, GREEN, BLUE, WHITE], 20)


def test_cmyk_keeps_its_colours() -> None:
    photo = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red
    assert_close(corners(encoded(photo, "JPEG", quality=95)), [RED] * 4)


def test_greyscale_becomes_grey() -> None:
    assert_close(corners(encoded(Image.new("L", (16, 16), 90), "JPEG")), [(90, 90, 90)] * 4, 2)


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    photo = Image.fromarray(np.full((16, 16), 90 * 257, np.uint16))
    assert_close(corners(encoded(photo, "PNG")), [(90, 90, 90)] * 4, 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(mode: str) -> None:
    photo = Image.new("RGBA", (64, 32), (0, 0, 0, 0))
    photo.paste((0, 0, 0, 255), (0, 0, 32, 16))
    black = (0, 0, 0)
    content = encoded(photo.quantize(4) if mode == "P" else photo.convert(mode), "PNG")
    assert_close(corners(content), [black, WHITE, WHITE, WHITE])


def test_a_colour_named_transparent_lies_on_white() -> None:
    assert_close(corners(encoded(quadrants(), "PNG", transparency=RED)), [WHITE, GREEN, BLUE, WHITE])


@pytest.mark.parametrize(("orientation", "turn"), [(i, i) for i in range(1, 9)])
def test_every_exif_orientation_ends_upright(orientation: int, turn: int) -> None:
    stored_as = {  # what a camera held so would store for a scene that looks like `quadrants`
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[turn]
    photo = quadrants() if stored_as is None else quadrants().transpose(stored_as)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(photo, "JPEG", exif=exif, quality=95, subsampling=0)
    assert_close(corners(content), [RED, GREEN, BLUE, WHITE])
    assert decode(content, 32, MANY)[1:] == (64, 32)


def test_a_large_jpeg_decoded_small_looks_the_same() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((4000, 3000), Image.Resampling.BICUBIC)
    small = decode(encoded(photo, "JPEG", quality=95), 224, MANY).pixels.astype(float)
    whole = np.asarray(photo.resize((224, 224), Image.Resampling.BILINEAR)).astype(float)
    assert np.abs(small - whole).mean() < 2
    assert decode(encoded(photo, "JPEG"), 224, MANY)[1:] == (4000, 3000)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "not_an_image"),
        (b"These are words, not a picture.", "not_an_image"),
        (b"%PDF-1.7 not a picture either", "not_an_image"),
        (encoded(quadrants(), "JPEG")[:400], "truncated"),
        (encoded(quadrants(), "JPEG")[:10], "truncated"),
        (encoded(quadrants(), "PNG")[:60], "truncated"),
        (encoded(quadrants(), "GIF")[:30], "truncated"),
        (encoded(quadrants(), "WEBP")[:20], "truncated"),
        (encoded(Image.new("1", (9000, 9000)), "PNG"), "too_many_pixels"),
        (encoded(Image.new("1", (20000, 20000)), "PNG"), "too_many_pixels"),
    ],
)
def test_a_bad_photo_has_a_cause(content: bytes, cause: str) -> None:
    with pytest.raises(PhotoError) as raised:
        decode(content, 32, MANY)
    assert raised.value.cause == cause


def test_damage_anywhere_ends_in_pixels_or_a_cause_and_nothing_else() -> None:
    rng = np.random.default_rng(5)
    whole = [encoded(quadrants(), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]
    for content in whole * 50:
        damaged = bytearray(content)
        for position in rng.integers(0, len(damaged), 5):
            damaged[position] = rng.integers(0, 256)
        with contextlib.suppress(PhotoError):
            assert decode(bytes(damaged), 32, 1_000_000).pixels.shape == (32, 32, 3)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_a_large_photo_of_any_kind_looks_the_same_small(mode: str) -> None:
    large = quadrants().resize((1280, 640), Image.Resampling.NEAREST).convert(mode)
    expected = corners(encoded(quadrants().convert(mode), "PNG"))
    assert_close(corners(encoded(large, "PNG")), expected, 4)


def test_a_thumbnail_keeps_the_shape_and_loses_the_metadata() -> None:
    exif = Image.Exif()
    exif[0x0110] = "A camera with a name"
    content = thumbnail(encoded(quadrants(), "JPEG", exif=exif), 16, MANY)
    with Image.open(io.BytesIO(content)) as small:
        assert small.size == (16, 8)
        assert not small.getexif()
    assert b"camera" not in content
