"""The built-in orchard: a labelled set of rendered fruit photos, to try Verger without having any of one's own.

Every photo derives from its seed, kind and number alone, so that neither order nor workers change a byte.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from verger.errors import Cause, SettingError
from verger.orchard.awkward import ODDITIES, jpeg
from verger.orchard.camera import photograph
from verger.orchard.fruits import FRUITS

KINDS: tuple[str, ...] = tuple(FRUITS)
SIDE = 256  # pixels
AWKWARD: Mapping[str, Cause | None] = {name: oddity.cause for name, oddity in ODDITIES.items()}
"""File name in awkward/ -> the expected cause of failure, or None where it embeds."""

Progress = Callable[[int, int], None]

_WORTH_WORKERS = 24  # files; fewer are rendered sooner than worker processes start


@dataclass(frozen=True)
class _Shot:
    """One file to write: a photo of a kind, and the name of its oddity if it has one."""

    path: Path
    kind: str
    index: int
    seed: int
    oddity: str | None = None

    def write(self) -> None:
        encode = ODDITIES[self.oddity].encode if self.oddity else jpeg
        self.path.write_bytes(encode(Image.fromarray(render(self.kind, self.index, self.seed))))


def render(kind: str, index: int, seed: int = 0, side: int = SIDE) -> np.typing.NDArray[np.uint8]:
    """One photo of a kind, (side, side, 3), sRGB; each index is another fruit in another light."""
    rng = np.random.default_rng([seed, index, *kind.encode()])
    return photograph(FRUITS[kind](rng), rng, side)


def write_sample(
    directory: Path,
    *,
    photos_per_kind: int = 12,
    seed: int = 0,
    awkward: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write the orchard, one folder a kind; returns the number of files written.

    It starts worker processes, so a script had better call it below `if __name__ == "__main__":`.

    Args:
        directory: a new or empty folder.
        photos_per_kind: how many photos of each fruit, 1 to 1000.
        seed: another whole number gives other photos; the same one gives the same bytes.
        awkward: add awkward/, with the files that real life brings (`AWKWARD`).
        progress: called with (done, total) after each file.

    Raises:
        SettingError: a number is out of range, or the folder is not empty or cannot be written.
    """
    _check("photos_per_kind", photos_per_kind, 1, 1000)
    _check("seed", seed, 0, 2**32 - 1)
    shots = list(_shots(directory, photos_per_kind, seed, awkward))
    try:
        _claim(directory)
        for folder in {shot.path.parent: None for shot in shots}:
            folder.mkdir(parents=True)
    except OSError as error:
        raise SettingError("a folder that can be written", f"{directory}: {error}", "Choose another folder.") from error
    for done, _ in enumerate(_written(shots), start=1):
        if progress:
            progress(done, len(shots))
    return len(shots)


def _written(shots: Sequence[_Shot]) -> Iterator[None]:
    """Write every file, by a process for each core where that pays: threads would wait for one another."""
    workers = os.cpu_count() or 1
    if workers == 1 or len(shots) < _WORTH_WORKERS:
        yield from map(_Shot.write, shots)
        return
    done = 0
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            for _ in pool.map(_Shot.write, shots):
                done += 1
                yield
    except BrokenProcessPool:  # a script without the guard, or too little memory: one process will do
        yield from map(_Shot.write, shots[done:])


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise SettingError(f"`{name}` between {low} and {high}", f"{name}={value}", "Choose a value in that range.")


def _claim(directory: Path) -> None:
    """Make sure that nothing of anyone else's is in the folder."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        received = f"{directory}, which is {'not empty' if directory.is_dir() else 'a file'}"
        raise SettingError("an empty or new folder", received, "Choose another folder.")


def _shots(directory: Path, photos_per_kind: int, seed: int, awkward: bool) -> Iterator[_Shot]:
    for kind in KINDS:
        for index in range(photos_per_kind):
            yield _Shot(directory / kind / f"{kind}_{index:02d}.jpg", kind, index, seed)
    if awkward:
        for index, name in enumerate(ODDITIES):
            kind = KINDS[index % len(KINDS)]
            yield _Shot(directory / "awkward" / name, kind, 10_000 + index, seed, name)
