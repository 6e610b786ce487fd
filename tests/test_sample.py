"""The built-in orchard."""

import colorsys

import numpy as np
import pytest
from PIL import Image, ImageOps

from verger.cli import main
from verger.errors import SettingError
from verger.sample import AWKWARD, KINDS, render, write_sample


@pytest.fixture(scope="module")
def orchard(tmp_path_factory):
    """One photo of each kind, and the awkward files."""
    directory = tmp_path_factory.mktemp("samples") / "orchard"
    reported = []
    count = write_sample(directory, photos_per_kind=1, awkward=True, progress=lambda *now: reported.append(now))
    assert reported == [(done, count) for done in range(1, count + 1)]
    assert count == sum(path.is_file() for path in directory.rglob("*"))
    return directory


def hue_of_centre(kind, index=0):
    """The median hue, 0 to 360 degrees, of the coloured pixels in a photo's middle."""
    middle = render(kind, index, side=64)[16:48, 16:48].reshape(-1, 3) / 255
    hues, saturations, _ = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in middle]).T
    return float(np.median(hues[saturations > 0.55])) * 360


def test_a_photo_on_disk_is_the_photo_its_seed_kind_and_number_say(orchard):
    with Image.open(orchard / "pear" / "pear_00.jpg") as photo:
        difference = np.asarray(photo, dtype=float) - render("pear", 0, seed=0)
    assert np.abs(difference).mean() < 4  # JPEG's own loss


def test_the_command_gives_the_same_bytes_for_the_same_seed_whatever_else_is_written(orchard, tmp_path, capsys):
    again = str(tmp_path / "again")
    assert exit_code("sample", again, "--photos-per-kind", "1") == 0
    assert again in capsys.readouterr().out.replace("\n", "")
    for kind in KINDS:
        name = f"{kind}/{kind}_00.jpg"
        assert (tmp_path / "again" / name).read_bytes() == (orchard / name).read_bytes()
    assert exit_code("sample", again) == 2  # it does not mix


def exit_code(*arguments):
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    return exited.value.code


def test_another_seed_or_number_gives_another_photo():
    first = render("lemon", 0, seed=0, side=32)
    assert (first != render("lemon", 0, seed=1, side=32)).any()
    assert (first != render("lemon", 1, seed=0, side=32)).any()


def test_there_are_a_dozen_kinds_in_their_folders_and_photos_of_256_pixels(orchard):
    assert len(KINDS) >= 12
    assert sorted(path.name for path in orchard.iterdir()) == sorted([*KINDS, "awkward"])
    for kind in KINDS:
        with Image.open(orchard / kind / f"{kind}_00.jpg") as photo:
            assert (photo.format, photo.mode, photo.size) == ("JPEG", "RGB", (256, 256))


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("banana", 35, 65), ("orange", 15, 45), ("lemon", 40, 65), ("blueberry", 205, 250), ("kiwi", 25, 90)],
)
def test_fruit_has_the_colour_of_fruit(kind, low, high):
    assert low < hue_of_centre(kind) < high


def test_awkward_files_are_those_that_are_announced(orchard):
    assert sorted(path.name for path in (orchard / "awkward").iterdir()) == sorted(AWKWARD)


@pytest.mark.parametrize("name", [name for name, cause in AWKWARD.items() if cause is None])
def test_an_awkward_file_that_should_embed_decodes(orchard, name):
    with Image.open(orchard / "awkward" / name) as photo:
        photo.load()
        assert photo.size == (256, 256)


@pytest.mark.parametrize(
    ("name", "kind", "mode"),
    [
        ("cmyk.jpg", "JPEG", "CMYK"),
        ("greyscale.jpg", "JPEG", "L"),
        ("greyscale_16_bit.png", "PNG", "I;16"),
        ("palette_with_transparency.png", "PNG", "P"),
        ("rgba.png", "PNG", "RGBA"),
        ("webp.webp", "WEBP", "RGB"),
        ("gif.gif", "GIF", "P"),
    ],
)
def test_an_awkward_file_is_what_its_name_says(orchard, name, kind, mode):
    with Image.open(orchard / "awkward" / name) as photo:
        assert (photo.format, photo.mode) == (kind, mode)
        assert name != "palette_with_transparency.png" or "transparency" in photo.info


def test_the_rotated_photo_stands_up_once_its_exif_is_obeyed_and_tells_a_place(orchard):
    upright = render(KINDS[0], 10_000)
    with Image.open(orchard / "awkward" / "exif_rotated_with_gps.jpg") as photo:
        assert photo.getexif()[0x0112] == 6
        assert photo.getexif().get_ifd(0x8825)[1] == "N"
        turned = np.asarray(ImageOps.exif_transpose(photo), dtype=float)
        stored = np.asarray(photo, dtype=float)
    assert np.abs(turned - upright).mean() < 4 < np.abs(stored - upright).mean()


def test_the_progressive_photo_is_progressive(orchard):
    with Image.open(orchard / "awkward" / "progressive.jpg") as photo:
        assert photo.info["progressive"]


def test_the_truncated_photo_opens_but_does_not_decode(orchard):
    with Image.open(orchard / "awkward" / "truncated.jpg") as photo, pytest.raises(OSError, match="truncated"):
        photo.load()


@pytest.mark.parametrize("name", [name for name, cause in AWKWARD.items() if cause == "not_an_image"])
def test_what_is_not_an_image_does_not_open(orchard, name):
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(orchard / "awkward" / name)


def test_the_bomb_weighs_little_and_unpacks_to_more_than_64_million_pixels(orchard):
    path = orchard / "awkward" / "bomb_400_megapixels.png"
    assert path.stat().st_size < 100_000
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SettingError, match=r"empty or new folder.*not empty.*another folder"):
        write_sample(tmp_path, photos_per_kind=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_in_the_place_of_the_folder_or_of_its_parent_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SettingError, match="another folder"):
            write_sample(directory, photos_per_kind=1)


@pytest.mark.parametrize("wrong", [{"photos_per_kind": 0}, {"photos_per_kind": 1001}, {"seed": -1}])
def test_a_number_out_of_range_is_refused(tmp_path, wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        write_sample(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()
