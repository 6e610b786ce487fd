"""Thumbnails: what is left of a photo, and which failures are shown."""

from pathlib import Path

from conftest import photo, write_photo

from verger.previews import pick_failures, thumbnails_of
from verger.settings import Limits
from verger.storage import open_place

LIMITS = Limits(max_bytes=10**6, max_pixels=10**6)


def test_of_many_failures_every_cause_has_its_share() -> None:
    failures = [(f"{i}.jpg", "truncated") for i in range(1000)] + [("gone.jpg", "vanished"), ("a.jpg", "too_large")]
    shown = pick_failures(failures, 5)
    assert [cause for _, cause in shown] == ["truncated", "vanished", "too_large", "truncated", "truncated"]
    assert [path for path, _ in shown if path[0].isdigit()] == ["0.jpg", "1.jpg", "2.jpg"]
    assert pick_failures(failures[-2:], 5) == failures[-2:]


def test_a_photo_that_was_cut_off_is_shown_only_where_that_is_asked_for(tmp_path: Path) -> None:
    write_photo(tmp_path / "whole.jpg", 1)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-200])
    (tmp_path / "junk.jpg").write_bytes(b"no photo")
    listed = [photo(name) for name in ("whole.jpg", "cut.jpg", "junk.jpg", "gone.jpg")]
    place = open_place(str(tmp_path))
    plain = thumbnails_of(place, listed, LIMITS)
    shown = thumbnails_of(place, listed, LIMITS, cut_off=True)
    assert [path for path, image in plain.items() if image] == ["whole.jpg"]
    assert [path for path, image in shown.items() if image] == ["whole.jpg", "cut.jpg"]
    assert shown["whole.jpg"] == plain["whole.jpg"]
