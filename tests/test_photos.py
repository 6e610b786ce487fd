from pathlib import Path

import pytest
from conftest import write_photo

from verger import SettingError
from verger.photos import label_of, list_photos
from verger.storage import Folder


def listed(source: Path, level: int = 1, dest: str = "/nowhere"):
    return list_photos(Folder(str(source)), Folder(dest), level)


def test_the_label_is_the_parent_folder(photos: Path) -> None:
    listing = listed(photos)
    assert [photo.path for photo in listing.photos][:2] == ["apple/00.jpg", "apple/01.jpg"]
    assert {photo.label for photo in listing.photos} == {"apple", "pear"}


def test_the_label_level_climbs() -> None:
    assert label_of("Apple/Braeburn/1.jpg", 1, "photos") == "Braeburn"
    assert label_of("Apple/Braeburn/1.jpg", 2, "photos") == "Apple"


def test_a_photo_in_source_itself_is_labelled_by_source(tmp_path: Path) -> None:
    write_photo(tmp_path / "quince" / "1.jpg", 1)
    assert [photo.label for photo in listed(tmp_path / "quince").photos] == ["quince"]


def test_a_label_level_deeper_than_the_path_is_refused(photos: Path) -> None:
    with pytest.raises(SettingError, match=r"at least 2 folders.*lies 1 below.*--label-level of at most 1"):
        listed(photos, level=2)


def test_what_is_no_photo_is_left_out_and_counted(photos: Path) -> None:
    for name in ("notes.txt", "apple/.hidden.jpg", ".git/x.jpg", "README", "apple/UPPER.HEIC", "apple/.jpg"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"x")
    listing = listed(photos)
    assert len(listing.photos) == 12
    assert listing.left_out == {"hidden": 3, ".txt": 1, "no extension": 1, ".heic": 1}


def test_a_name_that_is_not_utf8_is_left_out(photos: Path) -> None:
    with open(bytes(photos) + b"/apple/\xff.jpg", "wb") as file:  # noqa: PTH123  (a Path has no such name)
        file.write(b"x")
    assert listed(photos).left_out == {"not UTF-8": 1}


def test_extensions_are_known_in_capitals_too(tmp_path: Path) -> None:
    write_photo(tmp_path / "a" / "1.JPG", 1)
    assert len(listed(tmp_path).photos) == 1


def test_a_dest_inside_source_is_not_listed(photos: Path) -> None:
    write_photo(photos / "out" / "1.jpg", 1)
    assert len(listed(photos, dest=f"{photos}/out").photos) == 12


@pytest.mark.parametrize("name", ["missing", "empty", "only_text"])
def test_a_source_without_photos_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "only_text").mkdir()
    (tmp_path / "only_text" / "a.txt").write_text("a")
    said = {"missing": "does not exist", "empty": "which is empty", "only_text": "1 .txt"}[name]
    with pytest.raises(SettingError, match=said):
        listed(tmp_path / name)
