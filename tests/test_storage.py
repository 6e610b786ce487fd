import os
from pathlib import Path

import pytest

from verger import SettingError
from verger.storage import Bucket, Folder, contains, open_place

ODD_NAMES = ["a b.jpg", "é.jpg", "100%.jpg", "a%20b.jpg", "a#b.jpg", "a+b.jpg", "a?b.jpg", "a\nb.jpg"]


def test_uris_name_places() -> None:
    assert open_place("/tmp/a b#c%20") == Folder("/tmp/a b#c%20")
    assert open_place("file:///tmp/a%20b") == Folder("/tmp/a b")
    assert open_place("photos") == Folder(f"{Path.cwd()}/photos")
    assert open_place("s3a://bucket/some/key/") == Bucket("s3", "bucket", "some/key")
    assert open_place("s3://bucket").uri == "s3://bucket"


@pytest.mark.parametrize("uri", ["ftp://host/photos", "s3://", "s3:///photos"])
def test_a_uri_of_no_known_place_is_refused(uri: str) -> None:
    with pytest.raises(SettingError, match=r"s3://my-bucket"):
        open_place(uri)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_listed_and_read_back(tmp_path: Path, name: str) -> None:
    place = Folder(str(tmp_path))
    place.write(f"x/{name}", b"seven b")
    assert [(file.path, file.bytes) for file in place.files()] == [(f"x/{name}", 7)]
    assert place.read(f"x/{name}") == b"seven b"


def test_listing_follows_links_but_not_in_circles_or_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"1")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "circle").symlink_to(tmp_path)
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "gone")
    assert sorted(file.path for file in Folder(str(tmp_path)).files()) == ["a/1.jpg", "b/1.jpg"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Folder(str(tmp_path))
    place.write("a", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)  # a full disk cannot be had in a test otherwise
    with pytest.raises(OSError, match="No space left"):
        place.write("a", b"new")
    assert place.read("a") == b"old"
    assert [file.path for file in place.files()] == ["a"]


def test_deleting_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    Folder(str(tmp_path)).delete("gone")


def test_files_of_a_folder_that_does_not_exist_are_none(tmp_path: Path) -> None:
    assert list(Folder(str(tmp_path)).files("gone")) == []


def test_a_place_that_cannot_be_written_says_so_and_stays_clean(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="Not a directory"):
        Folder(f"{tmp_path}/file/out").check_writable()
    Folder(f"{tmp_path}/new/out").check_writable()
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


def test_a_place_contains_itself_and_what_lies_below() -> None:
    photos = open_place("/data/photos")
    assert contains(photos, photos)
    assert contains(photos, open_place("/data/photos/out"))
    assert not contains(photos, open_place("/data/photos2"))
    assert not contains(photos, open_place("s3://data/photos"))
    assert contains(open_place("s3://b/k"), open_place("s3a://b/k/x"))
