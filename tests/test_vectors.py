from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import mean_colour, write_photo

from verger.errors import RunFailedError
from verger.network import ONE_THREAD, Backbone, Network, Placement
from verger.parts import FINGERPRINT, VECTORS, plan_parts
from verger.photos import list_photos
from verger.settings import Limits
from verger.storage import Folder
from verger.vectors import embed_part

LIMITS = Limits(max_bytes=1_000_000, max_pixels=1_000_000)


def embed(source: Path, dest: Path, limits: Limits = LIMITS):
    """Embed everything in SOURCE as one part; returns its table and failures."""
    listing = list_photos(Folder(str(source)), Folder(str(dest)), 1)
    part = plan_parts(listing.photos, 1000, 1, "f00d")[0]
    labels, failures = embed_part(part, (Folder(str(source)), Folder(str(dest))), mean_colour(), limits)
    assert sum(labels.values()) + len(failures) == len(part.photos)
    return pq.read_table(dest / part.path), failures


def test_a_part_holds_a_row_for_every_photo(photos: Path, tmp_path: Path) -> None:
    table, failures = embed(photos, tmp_path / "out")
    assert not failures
    assert table.schema.remove_metadata() == VECTORS
    assert table.schema.metadata[FINGERPRINT] == b"f00d"
    assert table["path"].to_pylist() == [f"{'apple' if i < 6 else 'pear'}/{i:02}.jpg" for i in range(12)]
    assert set(table["width"].to_pylist()) == {40}
    assert table["error"].null_count == 12
    row = table.slice(3, 1).to_pylist()[0]
    from PIL import Image

    with Image.open(photos / row["path"]) as opened:
        expected = np.asarray(opened).mean(axis=(0, 1))
    np.testing.assert_allclose(row["vector"], expected, atol=3)
    assert row["bytes"] == (photos / row["path"]).stat().st_size


def test_a_bad_photo_is_a_row_between_good_ones(photos: Path, tmp_path: Path) -> None:
    before, _ = embed(photos, tmp_path / "before")
    (photos / "apple" / "02a.jpg").write_bytes(b"words")
    (photos / "apple" / "03a.jpg").write_bytes((photos / "apple" / "03.jpg").read_bytes()[:300])
    after, failures = embed(photos, tmp_path / "after")
    assert failures == [("apple/02a.jpg", "not_an_image"), ("apple/03a.jpg", "truncated")]
    good = after.filter(after["error"].is_null())
    assert good.select(["path", "vector"]).to_pylist() == before.select(["path", "vector"]).to_pylist()
    bad = after.filter(after["error"].is_valid()).to_pylist()
    assert [(row["vector"], row["error"]) for row in bad] == [(None, "not_an_image"), (None, "truncated")]


def test_a_part_of_bad_photos_only_is_a_part(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.jpg").write_bytes(b"")
    table, failures = embed(tmp_path / "in", tmp_path / "out")
    assert failures == [("1.jpg", "not_an_image")]
    assert table["vector"].to_pylist() == [None]


def test_limits_turn_large_photos_away(photos: Path, tmp_path: Path) -> None:
    write_photo(photos / "apple" / "wide.jpg", 1, (1200, 900))
    _, failures = embed(photos, tmp_path / "a", LIMITS)
    assert failures == [("apple/wide.jpg", "too_many_pixels")]
    _, failures = embed(photos, tmp_path / "b", Limits(5_000, 2_000_000))
    assert failures == [("apple/wide.jpg", "too_large")]


def test_writing_a_part_twice_gives_the_same_file(photos: Path, tmp_path: Path) -> None:
    embed(photos, tmp_path / "a")
    embed(photos, tmp_path / "b")
    one, two = ([(f.name, f.read_bytes()) for f in (tmp_path / run).rglob("*.parquet")] for run in "ab")
    assert one == two


def test_a_network_that_gives_no_numbers_ends_the_run(photos: Path, tmp_path: Path) -> None:
    class Broken(Backbone):
        def load(self, placement: Placement = ONE_THREAD) -> Network:
            return lambda pixels: np.full((len(pixels), 3 * placement.threads), np.nan, np.float32)

    broken = Broken("broken", "onnx", 32, 3, "another", "imagenet", b"")
    part = plan_parts(list_photos(Folder(str(photos)), Folder("/nowhere"), 1).photos, 1000, 1, "f00d")[0]
    with pytest.raises(
        RunFailedError, match=r"finite numbers from broken.*for apple/00.jpg.*--normalisation, now imagenet"
    ):
        embed_part(part, (Folder(str(photos)), Folder(str(tmp_path / "out"))), broken, LIMITS)
    assert not (tmp_path / "out").exists()
