"""Some of many photos, and folders of links to them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")


def evenly(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly spaced, in their order."""
    kept = min(count, len(items))
    return [items[i * len(items) // kept] for i in range(kept)]


def link_photos(source: Path, paths: Iterable[str], folder: Path) -> Path:
    """A folder with links to some photos of another, below the same labels."""
    for path in paths:
        link = folder / source.name / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source / path)
    return folder


def repeat_photos(source: Path, times: int, folder: Path) -> Path:
    """A folder that lists every photo of another several times, below the same labels."""
    for number in range(times):
        link = folder / f"time-{number + 1}" / source.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source)
    return folder
