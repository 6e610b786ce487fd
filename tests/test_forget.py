import hashlib
import json
from pathlib import Path

import pyarrow.dataset
import pytest
from conftest import mean_colour

from verger import SettingError
from verger.claim import claimed
from verger.forget import LIST, forget, leave_out_forgotten
from verger.parts import plan_parts, read_index
from verger.photos import list_photos
from verger.resume import remaining_photos, settle
from verger.settings import Limits
from verger.storage import Folder
from verger.vectors import embed_part


@pytest.fixture
def dest(photos: Path, tmp_path: Path) -> Folder:
    """A run of twelve photos in three parts, with a component part and a report to go with them."""
    place = Folder(str(tmp_path / "out"))
    embed(photos, place)
    for name in [part.name for part in read_index(place)]:
        place.write(f"components/part-{name}.parquet", b"components")
    for name in ("manifest.json", "report.html", "evaluation.html"):
        place.write(name, b"of the run")
    return place


def embed(photos: Path, dest: Folder) -> list[str]:
    """What a run does before its components; returns the paths that it embedded."""
    source = Folder(str(photos))
    listing = leave_out_forgotten(list_photos(source, dest, 1), dest)
    index = read_index(dest)
    remaining = remaining_photos(listing.photos, index)
    settle(dest, index, listing.photos, remaining)
    for part in plan_parts(remaining.photos, 4, 1, "f00d"):
        embed_part(part, (source, dest), mean_colour(), Limits(10**6, 10**6))
    return [photo.path for photo in remaining.photos]


def rows(dest: Folder) -> dict[str, list[float]]:
    """path → vector of all that is in DEST."""
    table = pyarrow.dataset.dataset(f"{dest.root}/vectors").to_table().to_pylist()
    return {row["path"]: row["vector"] for row in table}


def test_forgotten_photos_are_in_no_table_and_no_later_run_brings_them_back(photos: Path, dest: Folder) -> None:
    before = rows(dest)
    receipt = forget(dest, "apple/0[0-2].jpg")
    assert receipt["photos"] == 3
    gone = {f"apple/0{i}.jpg" for i in range(3)}
    assert rows(dest) == {path: vector for path, vector in before.items() if path not in gone}
    assert embed(photos, dest) == []
    assert rows(dest).keys() == before.keys() - gone
    left_out = leave_out_forgotten(list_photos(Folder(str(photos)), dest, 1), dest).left_out
    assert left_out["forgotten"] == 3


def test_the_receipt_names_contents_and_the_list_paths_both_by_digest(photos: Path, dest: Folder) -> None:
    receipt = forget(dest, "pear/1*")
    assert receipt["sha256"] == sorted(
        hashlib.sha256((photos / "pear" / f"{name}.jpg").read_bytes()).hexdigest() for name in (10, 11)
    )
    assert json.loads(dest.read(receipt["receipt"])) == receipt
    assert dest.read(LIST).decode().split() == sorted(
        hashlib.sha256(f"pear/{name}.jpg".encode()).hexdigest() for name in (10, 11)
    )
    for file in (receipt["receipt"], LIST):
        assert b"pear" not in dest.read(file)


def test_what_shows_or_speaks_of_the_photos_goes(dest: Folder) -> None:
    before = {part.name for part in read_index(dest)}
    forget(dest, "apple/00.jpg")
    after = {part.name for part in read_index(dest)}
    assert len(before & after) == 2
    assert sorted(file.path for file in dest.files("components")) == [
        f"components/part-{name}.parquet" for name in sorted(before & after)
    ]
    assert not {"manifest.json", "report.html", "evaluation.html"} & {file.path for file in dest.files()}


def test_what_an_interrupted_forgetting_left_goes_with_the_next(dest: Folder) -> None:
    before = rows(dest).keys()
    dest.write(LIST, hashlib.sha256(b"pear/10.jpg").hexdigest().encode())  # and then it was killed
    assert forget(dest, "apple/00.jpg")["photos"] == 2
    assert rows(dest).keys() == before - {"apple/00.jpg", "pear/10.jpg"}


def test_nothing_is_forgotten_under_a_run_at_work(dest: Folder) -> None:
    before = rows(dest)
    with claimed(dest), pytest.raises(SettingError, match="no other run"):
        forget(dest, "apple/*")
    assert rows(dest) == before


def test_a_dry_run_changes_nothing(dest: Folder) -> None:
    before = sorted(dest.files())
    assert forget(dest, "*", dry_run=True)["photos"] == 12
    assert sorted(dest.files()) == before


def test_a_pattern_without_a_match_is_refused_and_changes_nothing(dest: Folder) -> None:
    before = sorted(dest.files())
    with pytest.raises(SettingError, match=r"some of the 12 photos.*'Apple/\*'"):
        forget(dest, "Apple/*")
    assert sorted(dest.files()) == before


def test_a_path_that_is_taken_off_the_list_is_embedded_again(photos: Path, dest: Folder) -> None:
    forget(dest, "apple/*")
    lines = dest.read(LIST).decode().split()
    digest = hashlib.sha256(b"apple/03.jpg").hexdigest()
    dest.write(LIST, "\n".join(line for line in lines if line != digest).encode())
    assert embed(photos, dest) == ["apple/03.jpg"]


@pytest.mark.parametrize(
    ("pattern", "count"), [("*", 12), ("apple/*", 6), ("*/0?.jpg", 10), ("*/[!0]*.jpg", 2), ("apple/03.jpg", 1)]
)
def test_patterns_are_those_of_a_shell(dest: Folder, pattern: str, count: int) -> None:
    assert forget(dest, pattern, dry_run=True)["photos"] == count
