from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import photo
from hypothesis import given
from hypothesis import strategies as st

from verger import SettingError
from verger.network import Backbone
from verger.parts import (
    FINGERPRINT,
    VECTORS,
    list_column,
    name_part,
    part_lengths,
    plan_parts,
    read_index,
    remove_strangers,
    rewrite_part,
    table_bytes,
    vector_matrix,
    vectors_path,
)
from verger.photos import Photo, Photos
from verger.resume import Remaining, of_this_network, remaining_photos, settle
from verger.storage import Folder


@cache
def many(count: int):
    return [photo(f"{i:06}.jpg") for i in range(count)]


@given(count=st.integers(0, 30_000), cores=st.integers(1, 200), most=st.integers(1, 5000))
def test_every_photo_is_in_one_part_and_no_core_is_idle(count: int, cores: int, most: int) -> None:
    photos = many(30_000)[:count]
    parts = plan_parts(photos, most, cores, "f")
    lengths = [len(part.photos) for part in parts]
    assert sum(lengths) == count
    assert [one for part in parts for one in part.photos] == photos
    if count:
        assert max(lengths) <= most
        assert lengths == sorted(lengths, reverse=True)
        share = -(-count // min(cores, -(-count // 8)))
        assert lengths[0] <= (share if share <= 128 else max(128, share // 8 + 1))


@pytest.mark.parametrize(
    ("count", "most", "cores", "expected"),
    [
        (0, 1000, 2, []),
        (12, 1000, 2, [6, 6]),
        (144, 1000, 2, [72, 72]),
        (1000, 1000, 2, [128] * 4 + [122, 91, 68, 64, 64, 64, 15]),
        (9_800, 1000, 2, [613] * 12 + [611, 458, 343, 258, 193, 145, 109, 81, 64, 64, 64, 54]),
        (100_000, 1000, 2, [1000] * 97 + [750, 562, 422, 316, 237, 178, 133, 100, 75, 64, 64, 64, 35]),
        (100, 10, 4, [10] * 10),
    ],
)
def test_parts_are_long_first_and_short_at_the_end(count: int, most: int, cores: int, expected: list[int]) -> None:
    assert part_lengths(count, most, cores) == expected


def test_a_part_is_named_by_its_photos_and_its_network() -> None:
    one = plan_parts(many(3), 10, 1, "f")[0].name
    assert len(one) == 20
    assert plan_parts(many(3), 10, 1, "f")[0].name == one
    assert plan_parts(many(3), 10, 1, "g")[0].name != one
    assert plan_parts([*many(2), photo("000002.jpg", size=2)], 10, 1, "f")[0].name != one


def test_matrices_and_list_columns_turn_into_each_other() -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    column = pa.chunked_array([list_column(matrix)])
    assert column.to_pylist() == [[0, 1, 2], [3, 4, 5]]
    np.testing.assert_array_equal(vector_matrix(column, 3), matrix)
    np.testing.assert_array_equal(vector_matrix(column.slice(1), 3), matrix[1:])


def write_part(dest: Folder, name: str, rows: list[tuple[str, str | None]], fingerprint: str = "f") -> None:
    """A part with the given (path, error) rows; a vector is the path's first digit, twice."""
    columns = {
        "path": [path for path, _ in rows],
        "label": ["apple"] * len(rows),
        "bytes": [1] * len(rows),
        "modified": [0] * len(rows),
        "vector": [None if error else [float(path[0])] * 2 for path, error in rows],
        "error": [error for _, error in rows],
    }
    arrays = {field.name: pa.array(columns.get(field.name, [None] * len(rows)), field.type) for field in VECTORS}
    table = pa.table(arrays, schema=VECTORS.with_metadata({FINGERPRINT: fingerprint.encode()}))
    dest.write(vectors_path(name), table_bytes(table))


@pytest.fixture
def dest(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path))


def held(dest: Folder) -> dict[str, str]:
    """path → label of every row in DEST."""
    rows = [row for part in read_index(dest) for row in part.rows.to_pylist()]
    assert len(rows) == len({row["path"] for row in rows})
    return {row["path"]: row["label"] for row in rows}


def settled(dest: Folder, photos: list[Photo]) -> tuple[Remaining, set[str]]:
    """What a run would do before it embeds."""
    index = read_index(dest)
    remaining = remaining_photos(Photos.of(photos), index)
    return remaining, settle(dest, index, Photos.of(photos), remaining)


def network(fingerprint: str = "f") -> Backbone:
    return Backbone("net", "onnx", 224, 2, fingerprint, "raw", b"")


def test_what_holds_is_kept_and_the_rest_remains(dest: Folder) -> None:
    write_part(dest, "a", [("1", None), ("2", None)])
    write_part(dest, "b", [("3", "truncated"), ("4", None)])
    photos = [photo("1"), photo("2", size=9), photo("3"), photo("5")]  # 2 changed, 3 failed, 4 vanished, 5 is new
    remaining, names = settled(dest, photos)
    assert [one.path for one in remaining.photos] == ["2", "3", "5"]
    assert {name: list(places) for name, places in remaining.kept.items()} == {"a": [0], "b": []}
    assert (remaining.reused, remaining.labels) == (1, {"apple": 1})
    assert names == {name_part([photo("1")], "f")}
    assert held(dest) == {"1": "apple"}


def test_a_part_that_holds_is_not_touched(dest: Folder) -> None:
    write_part(dest, "a", [("1", None), ("2", None)])
    before = Path(dest.root, vectors_path("a")).stat()
    assert settled(dest, [photo("1"), photo("2")])[1] == {"a"}
    after = Path(dest.root, vectors_path("a")).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_photo_in_two_parts_stays_in_the_first(dest: Folder) -> None:
    write_part(dest, "a", [("1", None), ("2", None)])
    write_part(dest, "b", [("2", None), ("3", None)])
    remaining, names = settled(dest, [photo("1"), photo("2"), photo("3")])
    assert {name: list(places) for name, places in remaining.kept.items()} == {"a": [0, 1], "b": [2]}
    assert names == {"a", name_part([photo("3")], "f")}
    assert held(dest).keys() == {"1", "2", "3"}


@pytest.mark.parametrize("salt", range(8))
def test_a_kill_while_parts_are_replaced_leaves_every_row_that_holds(dest: Folder, salt: int) -> None:
    photos = [photo(str(i)) for i in range(4)]
    whole = name_part([photo(f"{salt}"), *photos], "f")  # sorts before or after the new part's name, by the salt
    write_part(dest, whole, [(one.path, None) for one in photos])
    left = photos[:3]
    rewrite_part(dest, read_index(dest)[0], left)  # the new part is there; the kill comes before the old one goes
    for _ in range(2):
        _, names = settled(dest, left)
        assert held(dest).keys() == {"0", "1", "2"}
        assert names == {part.name for part in read_index(dest)}


def test_a_table_of_somebody_else_is_named(dest: Folder) -> None:
    dest.write(vectors_path("a"), table_bytes(pa.table({"path": ["1"]})))
    with pytest.raises(SettingError, match=r"vectors/part-a.parquet"):
        read_index(dest)


def test_a_new_label_is_written_without_the_network(dest: Folder) -> None:
    write_part(dest, "a", [("1", None)])
    assert not settled(dest, [photo("1", label="pear")])[0].photos
    assert held(dest) == {"1": "pear"}


def test_strangers_and_leftovers_go_and_the_rest_stays(dest: Folder) -> None:
    write_part(dest, "a", [("1", None)])
    write_part(dest, "b", [("2", None)])
    dest.write("components/part-b.parquet", b"")
    dest.write("vectors/.verger-part-c.parquet.12.tmp", b"half")
    dest.write("vectors/mine.txt", b"not Verger's")
    remove_strangers(dest, ["a"])
    assert sorted(file.path for file in dest.files()) == ["vectors/mine.txt", "vectors/part-a.parquet"]


def test_vectors_of_another_network_are_refused_unless_discarded(dest: Folder) -> None:
    write_part(dest, "a", [("1", None)], fingerprint="other")
    index = read_index(dest)
    with pytest.raises(SettingError, match=r"\(net, f\).*another one \(other\).*--restart"):
        of_this_network(index, network(), dest, restart=False)
    assert of_this_network(index, network(), dest, restart=True) == []
    assert of_this_network(index, network("other"), dest, restart=False) == index


@pytest.mark.parametrize("kind", [PermissionError, TimeoutError, FileNotFoundError])
def test_a_part_that_the_store_does_not_give_is_not_called_damaged(dest: Folder, kind: type[OSError]) -> None:
    class Denying(Folder):
        def open(self, path: str) -> pa.NativeFile:
            raise kind(path)

    write_part(dest, "a", [("1", None)])
    with pytest.raises(kind):
        read_index(Denying(dest.root))


def test_a_damaged_part_is_named(dest: Folder) -> None:
    dest.write(vectors_path("a"), b"not Parquet")
    with pytest.raises(SettingError, match=r"vectors/part-a.parquet.*Delete that file"):
        read_index(dest)
