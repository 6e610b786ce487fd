import dataclasses
from pathlib import Path

import pytest

from verger import SettingError, Settings
from verger.settings import parse_components, read_toml


def test_the_decimal_point_tells_a_share_from_a_number() -> None:
    assert parse_components("50") == 50
    assert isinstance(parse_components("1"), int)
    assert parse_components("0.90") == 0.90
    assert isinstance(parse_components("1.0"), float)


@pytest.mark.parametrize("value", [0, -3, 0.0, 1.5, -0.1])
def test_components_outside_their_range_are_refused(value: float) -> None:
    with pytest.raises(SettingError, match=r"components.*Received: components="):
        Settings(source="a", dest="b", components=value)


def test_components_that_are_no_number_are_refused() -> None:
    with pytest.raises(SettingError, match="'many'"):
        parse_components("many")


@pytest.mark.parametrize(
    ("name", "value"),
    [("image_size", 8), ("label_level", 0), ("part_photos", 0), ("max_failed", 1.1), ("engine", "torch")],
)
def test_a_bad_setting_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"`{name}`.*Received: {name}="):
        Settings(source="a", dest="b", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"), [("components", "0.9"), ("components", True), ("image_size", "224"), ("standardise", 1)]
)
def test_a_setting_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"`{name}` to be of type.*Received: {name}="):
        Settings(source="a", dest="b", **{name: value})  # type: ignore[arg-type]


def test_a_whole_number_will_do_for_a_share_of_failures() -> None:
    assert Settings(source="a", dest="b", max_failed=1).max_failed == 1


def test_settings_do_not_change_once_made() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings(source="a", dest="b").components = 3  # type: ignore[misc]


def test_every_setting_has_help_that_ends_like_a_sentence() -> None:
    for setting in dataclasses.fields(Settings):
        assert setting.metadata["help"].endswith((".", "].")), setting.name


def test_a_toml_file_gives_settings(tmp_path: Path) -> None:
    file = tmp_path / "verger.toml"
    file.write_text('components = 0.8\nbackbone = "mobilenet_v2"\n')
    assert read_toml(file) == {"components": 0.8, "backbone": "mobilenet_v2"}


@pytest.mark.parametrize(("text", "said"), [("colour = 1", "colour"), ("components = ", "Invalid"), (None, "No such")])
def test_a_toml_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "verger.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingError, match=said):
        read_toml(file)
