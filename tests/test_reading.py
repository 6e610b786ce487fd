import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import photo

from verger.errors import PhotoError
from verger.photos import Photo
from verger.reading import groups, read_ahead, read_photo
from verger.storage import Folder


@dataclass(frozen=True)
class Slow(Folder):
    """Storage that takes its time, and counts how many reads are under way at once."""

    seconds: float = 0.02

    def read(self, path: str) -> bytes:
        with _counted:
            _under_way.append(path)
        time.sleep(self.seconds)
        content = super().read(path)
        with _counted:
            _most.append(len(_under_way))
            _under_way.remove(path)
        return content


_counted, _under_way, _most = threading.Lock(), list[str](), list[int]()


def listed(folder: Path, count: int) -> list[Photo]:
    for i in range(count):
        (folder / f"{i:03}").write_bytes(bytes([i]))
    return [photo(f"{i:03}") for i in range(count)]


def test_photos_come_in_order_many_read_at_once(tmp_path: Path) -> None:
    _most.clear()
    place = Slow(str(tmp_path))
    read = read_ahead(lambda one: place.read(one.path), listed(tmp_path, 150))
    assert b"".join(content for group in read for content in group) == bytes(range(150))
    assert 16 <= max(_most) <= 32


def test_the_next_group_is_read_while_this_one_is_used(tmp_path: Path) -> None:
    asked: list[str] = []
    reader = read_ahead(lambda one: asked.append(one.path), listed(tmp_path, 30), group_photos=10)
    next(reader)  # 5 photos: the first group is half as long
    deadline = time.monotonic() + 5
    while len(asked) < 15 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(asked) == [f"{i:03}" for i in range(15)]


def test_groups_are_bounded_in_number_and_in_bytes() -> None:
    assert [len(group) for group in groups([photo(str(i)) for i in range(150)], 64)] == [32, 64, 54]
    assert [len(group) for group in groups([photo(str(i), size=15_000_000) for i in range(6)], 64)] == [2, 2, 2]
    assert [len(group) for group in groups([photo(str(i), size=40_000_000) for i in range(3)], 64)] == [1, 1, 1]
    assert [len(group) for group in groups([photo("1"), photo("2")], 1)] == [1, 1]
    assert list(groups([], 64)) == []


@pytest.mark.parametrize(("name", "cause"), [("gone.jpg", "vanished"), ("folder", "unreadable")])
def test_a_photo_that_cannot_be_read_has_a_cause(tmp_path: Path, name: str, cause: str) -> None:
    (tmp_path / "folder").mkdir()
    content = read_photo(Folder(str(tmp_path)), photo(name), 10)
    assert isinstance(content, PhotoError)
    assert content.cause == cause


def test_closing_the_reader_early_leaves_no_thread(tmp_path: Path) -> None:
    place = Slow(str(tmp_path))
    reader = read_ahead(lambda one: place.read(one.path), listed(tmp_path, 150))
    next(reader)
    reader.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]


def test_what_reading_raises_reaches_the_caller(tmp_path: Path) -> None:
    place = Folder(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        list(read_ahead(lambda one: place.read(one.path), [photo("gone")]))
