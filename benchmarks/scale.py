"""What the driver needs for many photos before the first is embedded: processor seconds and memory, without photos.

    python benchmarks/scale.py [--photos 10000 100000 1000000 10000000] [--json FILE]

A place that invents its files is listed; then DEST is held against it as an earlier run would have left it (every
hundredth photo is new, every hundredth has changed), and all photos are cut into parts. Each size has its own process.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from verger.parts import INDEX, IndexedPart, part_lengths, plan_parts
from verger.photos import list_photos
from verger.resume import remaining_photos
from verger.storage import Folder, StoredFile

CORES = 64
PART = 1000


@dataclass(frozen=True)
class Invented(Folder):
    """A place of as many photos as one likes: 131 varieties, names as in Fruits-360."""

    count: int = 0

    def exists(self) -> bool:
        return True

    def files(self, folder: str = "") -> Iterator[StoredFile]:  # noqa: ARG002
        for i in range(self.count):
            yield StoredFile(f"Training/Variety {i % 131}/r{i % 3}_{i // 131}_100.jpg", 4000 + i % 2000, 10**15 + i)


def measure(count: int) -> dict[str, float]:
    """Processor seconds of each step for `count` photos, and the peak of this process's memory."""
    before = peak_megabytes()
    start = time.process_time()
    photos = list_photos(Invented("/invented", count), Folder("/nowhere"), 1).photos
    listed = time.process_time()
    index = earlier(photos.table)
    indexed = time.process_time()
    remaining = remaining_photos(photos, index)
    compared = time.process_time()
    parts = plan_parts(photos, PART, CORES, "f00d")
    planned = time.process_time()
    assert len(remaining.photos) + remaining.reused == count, "every photo is reused or remains"
    assert sum(len(part.photos) for part in parts) == count, "every photo is in a part"
    return {
        "photos": count,
        "list_seconds": listed - start,
        "compare_seconds": compared - indexed,
        "plan_seconds": planned - compared,
        "peak_megabytes": peak_megabytes() - before,
        "listing_bytes_a_photo": photos.table.nbytes / count,
    }


def earlier(table: pa.Table) -> list[IndexedPart]:
    """The parts of an earlier run: every hundredth photo is missing, and every hundredth was changed since."""
    at = np.arange(len(table))
    table = table.filter(pa.array(at % 100 != 0))
    sizes = table["bytes"].to_numpy() + (np.arange(len(table)) % 99 == 50)
    table = table.set_column(2, "bytes", pa.array(sizes)).append_column("error", pa.nulls(len(table), pa.string()))
    lengths = part_lengths(len(table), PART, CORES)
    bounds = np.cumsum([0, *lengths])
    return [
        IndexedPart(f"{i:05}", "f00d", table.slice(low, length).cast(INDEX))
        for i, (low, length) in enumerate(zip(bounds, lengths, strict=False))
    ]


def peak_megabytes() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--json", type=Path, help="write the figures here too")
    a = parser.parse_args()
    figures = []
    for count in a.photos:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures.append(pool.apply(measure, (count,)))
    table = Table(*(name.replace("_", " ") for name in figures[0]))
    for row in figures:
        table.add_row(*(f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in row.values()))
    Console().print(table)
    if a.json:
        a.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
