from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import mean_colour, write_photo

from verger.backbone import load_backbone
from verger.calibration import INT8_NETWORK, keep_network, to_int8
from verger.errors import SettingError
from verger.network import Backbone
from verger.photos import Photo, list_photos
from verger.settings import Settings
from verger.storage import Folder

SIDE = 32


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    return load_backbone("efficientnet_lite0", image_size=SIDE)


@pytest.fixture
def places(photos: Path, tmp_path: Path) -> tuple[Folder, Folder]:
    return Folder(str(photos)), Folder(str(tmp_path / "out"))


def asked(places: tuple[Folder, Folder], *, restart: bool = False) -> Settings:
    return Settings(
        source=places[0].uri, dest=places[1].uri, image_size=SIDE, components=2, precision="int8", restart=restart
    )


def listed(places: tuple[Folder, Folder]) -> list[Photo]:
    return list(list_photos(*places, 1).photos)


def test_a_calibrated_network_is_kept_and_used_whatever_photos_follow(
    lite0: Backbone, places: tuple[Folder, Folder], photos: Path
) -> None:
    first = to_int8(lite0, places, listed(places), asked(places))
    assert first.precision == "int8"
    assert first.fingerprint != lite0.fingerprint
    assert not Path(places[1].uri).exists()  # nothing changes before the run begins
    keep_network(places[1], first)
    write_photo(photos / "apple" / "bright.jpg", 250)
    again = to_int8(lite0, places, listed(places), asked(places))
    assert (again.fingerprint, again.graph) == (first.fingerprint, first.graph)
    assert to_int8(lite0, places, listed(places), asked(places, restart=True)).fingerprint != first.fingerprint


def test_a_kept_network_of_another_float_network_is_not_taken(lite0: Backbone, places: tuple[Folder, Folder]) -> None:
    keep_network(places[1], to_int8(lite0, places, listed(places), asked(places)))
    other = replace(lite0, fingerprint="0123456789abcdef")
    assert to_int8(other, places, listed(places), asked(places)).graph != places[1].read(INT8_NETWORK)


def test_a_damaged_kept_network_is_made_anew(lite0: Backbone, places: tuple[Folder, Folder]) -> None:
    first = to_int8(lite0, places, listed(places), asked(places))
    places[1].write(INT8_NETWORK, first.graph[:1000])
    assert to_int8(lite0, places, listed(places), asked(places)).graph == first.graph


def test_a_float_run_leaves_no_int8_network(lite0: Backbone, places: tuple[Folder, Folder]) -> None:
    places[1].write(INT8_NETWORK, b"of an earlier run")
    keep_network(places[1], lite0)
    assert not list(places[1].files("model"))


def test_bad_photos_are_passed_over_and_none_at_all_is_an_error(
    lite0: Backbone, places: tuple[Folder, Folder], photos: Path
) -> None:
    (photos / "apple" / "00.jpg").write_bytes(b"words")
    pixels = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    assert to_int8(lite0, places, listed(places), asked(places)).load()(pixels).shape == (1, 1280)
    for photo in photos.rglob("*.jpg"):
        photo.write_bytes(b"words")
    with pytest.raises(SettingError, match=r"one photo or more to calibrate int8 on"):
        to_int8(lite0, places, listed(places), asked(places))


def test_a_network_that_cannot_be_quantised_is_refused(places: tuple[Folder, Folder]) -> None:
    with pytest.raises(SettingError, match=r"a network that can be quantised to int8.*[Uu]se float32"):
        to_int8(mean_colour(), places, listed(places), asked(places))
