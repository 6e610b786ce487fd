"""Photos and a DEST in memory that break when told to, and a stand-in for Spark: for `test_exactly_once.py`."""

import io
import random
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from verger.parts import name_part, vectors_path
from verger.photos import Photo
from verger.storage import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, StoredFile

Row = tuple[str, str, int, str | None, tuple[float, ...] | None, str | None]


class Killed(BaseException):
    """The end of a driver: no handler of an exception sees it."""


class Memory:
    """A place in memory that breaks when told to: at its `fuse`-th change, before, in the middle of or after it."""

    def __init__(self, uri: str, chance: random.Random) -> None:
        self.uri, self.chance = uri, chance
        self.stored: dict[str, tuple[bytes, int]] = {}
        self.clock = 0
        self.fuse: int | None = None
        self.before_reading: Callable[[str], None] = lambda _: None
        self.reads: list[str] = []

    def exists(self) -> bool:
        return True

    def check_writable(self) -> None:
        pass

    def files(self, folder: str = "") -> Iterator[StoredFile]:
        found = [(path, *kept) for path, kept in self.stored.items() if not folder or path.startswith(f"{folder}/")]
        self.chance.shuffle(found)
        return iter([StoredFile(path, len(content), modified) for path, content, modified in found])

    def read(self, path: str) -> bytes:
        self.before_reading(path)
        self.reads.append(path)
        if path not in self.stored:
            raise FileNotFoundError(path)
        return self.stored[path][0]

    def open(self, path: str) -> pa.NativeFile:
        return pa.BufferReader(self.read(path))

    def write(self, path: str, content: bytes | pa.Buffer) -> None:
        folder, slash, name = path.rpartition("/")
        half = f"{folder}{slash}{TEMPORARY_PREFIX}{name}.0a0b{TEMPORARY_SUFFIX}"
        self._change(lambda: self.put(path, bytes(content)), lambda: self.put(half, bytes(content)[:9]))

    def delete(self, path: str) -> None:
        self._change(lambda: self.stored.pop(path, None), lambda: None)

    def _change(self, whole: Callable[[], Any], half: Callable[[], Any]) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                if self.fuse == 0:  # later ones come from code that cleans up, which a kill does not wait for
                    self.chance.choice([lambda: None, half, whole])()
                raise Killed
        whole()

    def put(self, path: str, content: bytes) -> None:
        self.clock += 1
        self.stored[path] = content, self.clock


class Here:
    """A Spark context as far as `embed` needs one: tasks in this process, in any order, some of them twice.

    It stands in because Spark takes half a second for what takes it two milliseconds; the test below has a real one.
    """

    defaultParallelism = 2  # noqa: N815  (Spark's name, as below)

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.unfinished: list[Callable[[], Any]] = []  # when it was killed
        self.strangers: list[Callable[[], Any]] = []  # what workers of an earlier run do while a job runs

    def broadcast(self, value: Any) -> SimpleNamespace:
        return SimpleNamespace(value=value, destroy=lambda: None)

    def getConf(self) -> dict[str, str]:  # noqa: N802
        return {}

    def accumulator(self, value: int) -> SimpleNamespace:
        return SimpleNamespace(value=value, add=lambda _: None)

    def parallelize(self, items: list[Any], _: int) -> SimpleNamespace:
        return SimpleNamespace(map=lambda task: SimpleNamespace(collect=lambda: self._run(task, items)))

    def _run(self, task: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        results: dict[int, Any] = {}
        order = [*range(len(items)), *(self.chance.sample(range(len(items)), 1))]  # one has a speculative twin
        self.chance.shuffle(order)
        self.unfinished = [lambda item=item: task(item) for item in items]
        for at in order:
            results[at] = task(items[at])
        self.unfinished = []
        for late in self.strangers:
            late()
        self.strangers = []
        return [results[at] for at in range(len(items))]


@cache
def jpeg(seed: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "jpeg", quality=80)
    return out.getvalue().ljust(1024, b"\0")  # most are equally long, so that only their times tell them apart


def disturb(source: Memory, chance: random.Random) -> str:
    """One random change to the photos, as people make them."""
    path = chance.choice(sorted(source.stored))
    new = f"{chance.choice(['north', 'south'])}/{chance.choice(['apple', 'pear', 'fig'])}/{chance.randrange(99)}.jpg"
    what = chance.choice(["add", "add", "change", "delete", "touch", "corrupt", "mend", "move"])
    if what in {"change", "mend"}:
        source.put(path, jpeg(chance.randrange(40)))
    elif what == "corrupt":
        source.put(path, chance.choice([b"words", b"", source.stored[path][0][:150]]))
    elif what == "touch":
        source.put(path, source.stored[path][0])
    elif what == "move" and new not in source.stored:  # to another label, with its time of modification
        source.stored[new] = source.stored.pop(path)
    elif what == "delete" and len(source.stored) > 1:
        del source.stored[path]
    else:
        source.put(new, jpeg(chance.randrange(40)))
    return f"{what} {path}"


def rows_of(files: Iterable[tuple[str, bytes]]) -> list[Row]:
    """Every row of vectors in DEST; each part has to bear the name that its rows give it."""
    rows: list[Row] = []
    for path, content in files:
        table = pq.read_table(io.BytesIO(content))
        listed = zip(*(table[name].to_pylist() for name in ("path", "label", "bytes")), strict=True)
        times = table["modified"].cast(pa.int64()).to_pylist()
        photos = [Photo(*photo, modified) for photo, modified in zip(listed, times, strict=True)]
        assert path == vectors_path(name_part(photos, table.schema.metadata[b"verger.fingerprint"].decode()))
        for row, modified in zip(table.to_pylist(), times, strict=True):
            vector = None if row["vector"] is None else tuple(row["vector"])
            rows.append((row["path"], row["label"], modified, row["digest"], vector, row["error"]))
    return sorted(rows, key=lambda row: row[0])
