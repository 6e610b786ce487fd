import pickle
from pathlib import Path

import pytest
from conftest import photo, write_photo

from verger import SettingError
from verger.photos import CHUNK, Photo, Photos, label_of, list_photos
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


def test_columns_of_photos_behave_like_a_list_of_them() -> None:
    some = [photo(f"{i}.jpg", label="apple" if i % 3 else "pear", size=i, modified_us=-i) for i in range(10)]
    columns = Photos.of(some)
    assert list(columns) == some
    assert len(columns) == 10
    assert (columns[0], columns[9], columns[-1]) == (some[0], some[9], some[9])
    for at in (slice(2, 5), slice(None), slice(7, 100), slice(5, 2), slice(0, 10, 3), slice(None, None, -1)):
        assert list(columns[at]) == some[at]
    assert columns.labels() == {"apple": 6, "pear": 4}
    assert [one.path for one in Photos.of(reversed(some)).ordered()] == sorted(one.path for one in some)
    assert not Photos.of([])
    with pytest.raises(IndexError):
        columns[10]


def test_more_photos_than_a_chunk_keep_their_order() -> None:
    many = [photo(f"{i:07}", size=i) for i in range(CHUNK + 3)]
    columns = Photos.of(many)
    assert columns[CHUNK] == many[CHUNK]
    assert list(columns[CHUNK - 2 :]) == many[CHUNK - 2 :]


def test_a_slice_travels_alone() -> None:
    columns = Photos.of(photo(f"apple/{i:07}.jpg") for i in range(50_000))
    sent = pickle.dumps(columns[100:164])
    assert len(sent) < 64 * 100
    assert list(pickle.loads(sent)) == list(columns[100:164])


def test_a_photo_takes_less_than_a_hundred_bytes() -> None:
    columns = Photos.of(
        Photo(f"Training/Apple/Braeburn/r0_{i}_100.jpg", "Braeburn", 5000, 10**15) for i in range(10**5)
    )
    assert columns.table.nbytes < 10**5 * 100
