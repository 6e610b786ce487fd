"""Whatever happens to photos and to runs: after a run that nobody disturbs, DEST holds what a fresh one would.

Hundreds of random histories of photos that come, go, change, break and move, of runs killed at any write, of workers
that end late, and of settings that change in between. VERGER_SEED repeats a failed history, whose seed is in the
message; VERGER_HISTORIES sets how many there are.
"""

import hashlib
import io
import os
import random
import secrets
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import mean_colour
from histories import Here, Killed, Memory, Row, disturb, jpeg, rows_of

import verger
from verger import RunFailedError, SettingError, Settings, pipeline
from verger.parts import components_path, vectors_path
from verger.stages import Quiet, Stages
from verger.storage import Folder

SEED = int(os.environ.get("VERGER_SEED", secrets.randbelow(10**6)))
HISTORIES = int(os.environ.get("VERGER_HISTORIES", "250"))
FOREIGN = {"notes.txt", "vectors/read me.md"}  # somebody else's files in DEST, which stay


def microseconds(moment: datetime) -> int:
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


class History:
    """Photos, a DEST, and what happens to them."""

    def __init__(self, seed: int, networks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.chance = random.Random(seed)
        self.networks, self.level, self.told = networks, 1, [f"VERGER_SEED={seed} VERGER_HISTORIES=1"]
        self.source, self.dest = Memory("memory:source", self.chance), Memory("memory:dest", self.chance)
        self.context = Here(self.chance)
        self.monkeypatch = monkeypatch
        # A killed run of this test leaves a claim of this process, which lives on; test_claim.py kills real ones.
        monkeypatch.setattr(pipeline, "claimed", lambda _: nullcontext(lambda: None))
        for i in range(self.chance.randint(1, 12)):
            self.source.put(f"north/apple/{i}.jpg", jpeg(i))
        for path in FOREIGN:
            self.dest.put(path, b"not ours")

    def run(self, dest: Memory, **settings: Any) -> list[str]:
        """What `pipeline.run` does up to the vectors, by the same two functions."""
        self.monkeypatch.setattr(pipeline, "open_place", {"source": self.source, "dest": dest}.__getitem__)
        defaults = {"backbone": self.networks[0], "image_size": 32, "part_photos": 4, "label_level": self.level}
        chosen = Settings(source="source", dest="dest", components=0.9, **(defaults | settings))
        work = pipeline.prepare(chosen, Stages(Quiet()), ExitStack())
        embedded, names = pipeline.embed(self.context, work, chosen, lambda _: None)  # type: ignore[arg-type]
        assert embedded.photos + work.remaining.reused == len(work.listing.photos)
        return names

    def rows(self, dest: Memory) -> list[Row]:
        return rows_of([(path, dest.stored[path][0]) for path in dest.stored if path.endswith(".parquet")])

    def killed_run(self) -> None:
        """A run that ends at some write or delete, or that photos change under; its workers may end later still."""
        self.dest.fuse = self.chance.randint(1, 14)
        victim = self.chance.choice(sorted(self.source.stored))

        def change_under_the_run(path: str) -> None:
            if path == victim and len(self.source.stored) > 1 and self.source.stored.get(path):
                self.chance.choice([lambda: self.source.stored.pop(path), lambda: self.source.put(path, jpeg(41))])()

        self.source.before_reading = change_under_the_run if self.chance.random() < 0.3 else lambda _: None
        self.told.append(f"run, killed at change {self.dest.fuse}")
        held = self.holding()
        try:
            self.run(self.dest)
        except Killed:
            self.dest.fuse = None
            for late in self.chance.sample(self.context.unfinished, min(len(self.context.unfinished), 1)):
                self.end_late(late)
        self.dest.fuse, self.context.unfinished = None, []
        self.source.before_reading = lambda _: None
        assert {path for path in held if path in self.source.stored} <= {row[0] for row in rows_of(self.parts())}

    def end_late(self, task: Callable[[], Any]) -> None:
        """A worker of a killed run writes its part at once; or later, over what the next run made of newer photos."""
        before = dict(self.dest.stored)
        task()
        late = self.dest.stored.items() - before.items()
        photos = [row[0] for row in rows_of([(path, content) for path, (content, _) in late])]
        if photos and photos[0] in self.source.stored and self.chance.random() < 0.5:
            self.dest.stored = before
            self.context.strangers = [lambda: self.dest.stored.update(late)]
            self.source.put(photos[0], jpeg(42))
            self.told.append(f"change {photos[0]}, and its old vector comes late")

    def holding(self) -> set[str]:
        """The photos whose vectors are in DEST and hold; whatever ends a run, their rows are there afterwards."""
        rows = pa.concat_tables(pq.read_table(io.BytesIO(c)) for _, c in self.parts()) if self.parts() else None
        found = rows.select(["path", "bytes", "modified", "error"]).to_pylist() if rows else []
        now = {(path, len(content), modified) for path, (content, modified) in self.source.stored.items()}
        keys = {(row["path"], row["bytes"], microseconds(row["modified"])) for row in found if row["error"] is None}
        return {path for path, *_ in now & keys}

    def whole_run(self) -> None:
        """A run that nobody disturbs, held against a fresh one."""
        self.told.append(f"run, label level {self.level}")
        names = self.run(self.dest)
        self.context.strangers = []  # one that outlives the run is beyond what it can mend
        for name in names:
            self.dest.put(components_path(name), b"components, which go when their part goes")
        fresh = Memory("memory:fresh", self.chance)
        self.run(fresh)
        table = rows_of([(p, c) for p, (c, _) in self.dest.stored.items() if p.startswith("vectors/part-")])
        assert table == self.rows(fresh)
        assert [row[0] for row in table] == sorted(self.source.stored)
        wanted = {path for name in names for path in (vectors_path(name), components_path(name))}
        assert self.dest.stored.keys() == wanted | FOREIGN

    def relabelled_run(self) -> None:
        """Another label level needs no photo but those that failed."""
        failed = {row[0] for row in rows_of(self.parts()) if row[5]}
        self.level = 3 - self.level
        self.source.reads.clear()
        self.run(self.dest)
        assert set(self.source.reads) == failed
        self.whole_run()

    def refused_run(self) -> None:
        """Another network is refused where there are vectors, and nothing changes."""
        before = dict(self.dest.stored)
        self.told.append("another network")
        if self.parts():
            with pytest.raises(SettingError, match="another one"):
                self.run(self.dest, backbone=self.networks[1])
        assert self.dest.stored == before

    def parts(self) -> list[tuple[str, bytes]]:
        return [(p, content) for p, (content, _) in self.dest.stored.items() if p.startswith("vectors/part-")]

    def happen(self) -> None:
        for _ in range(self.chance.randint(2, 6)):
            self.told += [disturb(self.source, self.chance) for _ in range(self.chance.randint(0, 4))]
            steps = [self.killed_run] * 4 + [self.whole_run, self.refused_run, lambda: setattr(self, "level", 2)]
            self.chance.choice(steps)()
        self.whole_run()
        self.relabelled_run()


@pytest.fixture
def networks(tmp_path: Path) -> list[str]:
    import onnx

    (tmp_path / "one.onnx").write_bytes(mean_colour().graph)
    other = onnx.ModelProto.FromString(mean_colour().graph)
    other.producer_name = "somebody else"
    (tmp_path / "other.onnx").write_bytes(other.SerializeToString())
    return [str(tmp_path / "one.onnx"), str(tmp_path / "other.onnx")]


def test_after_any_history_a_run_leaves_what_a_fresh_one_leaves(
    networks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "load_backbone", cache(pipeline.load_backbone))
    for seed in range(SEED, SEED + HISTORIES):
        history = History(seed, networks, monkeypatch)
        try:
            history.happen()
        except BaseException as error:
            error.add_note("\n".join(history.told))
            raise


@dataclass(frozen=True)
class Breaking(Folder):
    """A folder in which some writes and deletes fail, on the driver and on workers: which ones, `salt` decides."""

    salt: str

    def _break(self, path: str) -> None:
        if hashlib.sha256(f"{self.salt} {path}".encode()).digest()[0] < 60:
            raise OSError(f"broken at {path}")

    def write(self, path: str, content: bytes | pa.Buffer) -> None:
        if self.salt < "5":
            self._break(path)
        super().write(path, content)
        self._break(path)

    def delete(self, path: str) -> None:
        super().delete(path)
        self._break(path)


@pytest.mark.spark
@pytest.mark.parametrize("nth", range(2))
def test_so_it_is_with_spark(nth: int, spark, networks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    chance = random.Random(SEED + nth)
    source = Memory("memory:source", chance)
    for i in range(20):
        source.put(f"north/apple/{i}.jpg", jpeg(i))
    out, broken = tmp_path / "out", 0

    def run(dest: Path, salt: str = "") -> None:
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
        for path, (content, modified) in source.stored.items():
            (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / path).write_bytes(content)
            os.utime(tmp_path / "in" / path, ns=(0, modified * 1000))
        places = {"in": Folder(str(tmp_path / "in")), "out": Breaking(str(dest), salt) if salt else Folder(str(dest))}
        monkeypatch.setattr(pipeline, "open_place", places.__getitem__)
        verger.run(Settings(source="in", dest="out", backbone=networks[0], image_size=32, components=2, max_failed=0.9,
                            part_photos=4), spark)  # fmt: skip

    for _ in range(4):
        for _ in range(4):
            disturb(source, chance)
        try:
            run(out, f"{chance.random()}"[2:])
        except (RunFailedError, OSError):
            broken += 1
    run(out)
    run(tmp_path / "fresh")
    one, two = (
        [(f"vectors/{p.name}", p.read_bytes()) for p in (d / "vectors").iterdir()] for d in (out, tmp_path / "fresh")
    )
    assert broken, f"no write failed with VERGER_SEED={SEED}"
    assert rows_of(one) == rows_of(two), f"VERGER_SEED={SEED}"
    assert {p.name for p in (out / "components").iterdir()} == {p.name for p in (out / "vectors").iterdir()}
    assert not list(out.rglob("*.tmp"))
