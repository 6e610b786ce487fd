"""`verger`, whose workers stop in the middle of writing some parts until a test lets them: for kills and twins.

    python held.py GATES PHOTOS run SOURCE --to DEST …

A part waits if the path of its first photo matches the pattern PHOTOS. Its worker leaves a note in GATES/half when the
part lies in DEST under its temporary name, and one in GATES/whole when it has its own; it goes on when the test has put
the file `open` there.
"""

import hashlib
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq

from verger import pipeline
from verger.cli import main
from verger.storage import Folder, Place, open_place

PATIENCE_SECONDS = 600


@dataclass(frozen=True)
class Held(Folder):
    """A folder in which writing a part takes as long as a test wants. Travels to the workers by value."""

    gates: str
    photos: str

    def write(self, path: str, content: bytes | pa.Buffer) -> None:
        if not path.startswith("vectors/"):
            return super().write(path, content)
        first = pq.read_table(pa.BufferReader(content), columns=["path"])["path"][0].as_py()
        if not re.search(self.photos, first):
            return super().write(path, content)
        note = f"{os.getpid()} {path} {hashlib.sha256(content).hexdigest()}"

        def under_its_temporary_name(_: int) -> None:  # a folder makes sure that this is on the disk, and renames it
            self._wait("half", note)

        with mock.patch.object(os, "fsync", under_its_temporary_name):
            super().write(path, content)
        self._wait("whole", note)
        return None

    def _wait(self, gate: str, note: str) -> None:
        folder = Path(self.gates, gate)
        written = folder / f"{os.getpid()}"
        written.write_text(note)
        written.rename(written.with_suffix(".note"))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (folder / "open").exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody opened {gate}")
            time.sleep(0.02)


if __name__ == "__main__":
    gates, photos, *arguments = sys.argv[1:]
    dest = open_place(arguments[arguments.index("--to") + 1])

    def open_held(uri: str) -> Place:
        place = open_place(uri)
        return Held(dest.uri, gates, photos) if place == dest else place

    pipeline.open_place = open_held
    main(arguments)
