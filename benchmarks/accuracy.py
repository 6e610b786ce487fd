"""What a smaller image or int8 costs: accuracy on varieties never seen, cosine to float32, speed and size.

    python benchmarks/accuracy.py PHOTOS --cache DIR [--backbones NAME …] [--weights FILE] [--sizes SIDE …]
        [--precisions float32 int8] [--every 4] [--json FILE]

PHOTOS holds `<Kind>/<Variety>/*.jpg`, as Fruits-360 does. The kind is predicted: PCA to 128 components, then LDA with
Ledoit–Wolf shrinkage, both fitted on the other varieties. A tenth of the varieties is held out at a time, spread over
the kinds: photos of one variety are frames of one turning fruit, so holding out photos would show 99 % for anything.
The varieties are divided into tenths several times, because one division moves the mean by a point or two.

The cache folder keeps vectors; a run that was stopped goes on from there.
"""

import argparse
import datetime as dt
import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import verger
from verger.backbone import load_backbone
from verger.image import decode
from verger.network import Backbone
from verger.projection import Statistics, fit_projection
from verger.quantise import quantise

BATCH, MAX_PIXELS = 8, 64_000_000
TURN_SECONDS = 0.2


class Photo(NamedTuple):
    path: Path
    kind: str
    variety: str


class Variant(NamedTuple):
    """One row of the table."""

    precision: str
    backbone: Backbone


def list_photos(source: Path, every: int) -> list[Photo]:
    paths = sorted(source.glob("*/*/*.jpg"))[::every]
    return [Photo(path, path.parts[-3], "/".join(path.parts[-3:-1])) for path in paths]


def decoded(photos: Sequence[Photo], side: int) -> NDArray[np.uint8]:
    return np.stack([decode(photo.path.read_bytes(), side, MAX_PIXELS).pixels for photo in photos])


def variants(a: argparse.Namespace, name: str, photos: Sequence[Photo]) -> Iterator[Variant]:
    """The network at every size and precision; float32 comes before int8."""
    chosen = [photos[i * len(photos) // a.calibrate] for i in range(a.calibrate)]
    for side in a.sizes:
        weights = a.weights if name == "mobilenet_v2" else None
        backbone = load_backbone(name, weights=weights, image_size=side)
        if "float32" in a.precisions:
            yield Variant("float32", backbone)
        if "int8" in a.precisions:
            yield Variant("int8", quantise(backbone, decoded(chosen, side)))


def vectors(backbone: Backbone, photos: Sequence[Photo], cache: Path) -> NDArray[np.float32]:
    """The vectors of all photos, from the cache if they are there."""
    listing = hashlib.sha256("\n".join(f"{p.variety}/{p.path.name}" for p in photos).encode()).hexdigest()[:16]
    file = cache / f"{backbone.fingerprint}-{listing}.npy"
    if not file.exists():
        network, side = backbone.load(), backbone.image_size
        groups = [photos[start : start + 8 * BATCH] for start in range(0, len(photos), 8 * BATCH)]
        found = np.concatenate([network(decoded(group, side)) for group in groups])
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part.npy")
        np.save(unfinished, found)
        unfinished.rename(file)
    kept: NDArray[np.float32] = np.load(file)
    return kept


def rates(backbones: Sequence[Backbone], rounds: int) -> list[float]:
    """Photos a second of each, on one thread, in short turns: median over the rounds."""
    rng = np.random.default_rng(0)
    jobs = []
    for backbone in backbones:
        side = backbone.image_size
        jobs.append((backbone.load(), rng.integers(0, 256, (BATCH, side, side, 3), dtype=np.uint8)))
        jobs[-1][0](jobs[-1][1])
    seen: list[list[float]] = [[] for _ in jobs]
    for _ in range(rounds):
        for (network, pixels), rate in zip(jobs, seen, strict=True):
            done, start = 0, time.perf_counter()
            while time.perf_counter() - start < TURN_SECONDS:
                network(pixels)
                done += BATCH
            rate.append(done / (time.perf_counter() - start))
    return [statistics.median(rate) for rate in seen]


def held_out(photos: Sequence[Photo], folds: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    """Which photos are held out, fold by fold: every variety once."""
    rng = np.random.default_rng(seed)
    order: list[str] = []
    for kind in sorted({photo.kind for photo in photos}):
        varieties = sorted({photo.variety for photo in photos if photo.kind == kind})
        order += [varieties[i] for i in rng.permutation(len(varieties))]
    varieties_of = np.array([photo.variety for photo in photos])
    for fold in range(folds):
        yield np.isin(varieties_of, order[fold::folds])


def accuracies(found: NDArray[np.float32], photos: Sequence[Photo], a: argparse.Namespace) -> list[float]:
    """Top-1 accuracy of every fold of every division."""
    kinds = np.array([photo.kind for photo in photos])
    shares = []
    for seed in range(a.divisions):
        for test in held_out(photos, a.folds, seed):
            projection = fit_projection(Statistics.of(found[~test]), a.components)
            classifier = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
            classifier.fit(projection.apply(found[~test]), kinds[~test])
            shares.append(float((classifier.predict(projection.apply(found[test])) == kinds[test]).mean()))
    return shares


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    a, b = one.astype(np.float64), other.astype(np.float64)
    answer: NDArray[np.float64] = (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return answer


def measure(a: argparse.Namespace, name: str, photos: Sequence[Photo]) -> Iterator[dict[str, Any]]:
    """One row for each size and precision of a network."""
    found = list(variants(a, name, photos))
    usual = load_backbone(name, weights=a.weights if name == "mobilenet_v2" else None)
    usual_rate, *speeds = rates([usual, *(variant.backbone for variant in found)], a.rounds)
    exact: dict[int, NDArray[np.float32]] = {}
    for (precision, backbone), rate in zip(found, speeds, strict=True):
        mine = vectors(backbone, photos, a.cache)
        row: dict[str, Any] = {
            "backbone": name,
            "size": backbone.image_size,
            "precision": precision,
            "relative_speed": round(rate / usual_rate, 2),
            "photos_per_second": round(rate, 1),
            "graph_bytes": len(backbone.graph),
        }
        if precision == "float32":
            exact[backbone.image_size] = mine
        elif backbone.image_size in exact:
            near = cosines(exact[backbone.image_size], mine)
            row["cosine_median"], row["cosine_1_percent"] = (round(float(q), 4) for q in np.quantile(near, [0.5, 0.01]))
        shares = accuracies(mine, photos, a)
        row["accuracy_mean"], row["accuracy_worst"] = round(statistics.mean(shares), 4), round(min(shares), 4)
        yield row


def as_table(rows: Sequence[dict[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*(name.replace("_", " ") for name in names))
    for row in rows:
        table.add_row(*(str(row.get(name, "")) for name in names))
    return table


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="PHOTOS")
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps the vectors")
    parser.add_argument("--backbones", nargs="+", default=["efficientnet_lite0"])
    parser.add_argument("--weights", help="of mobilenet_v2")
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 160, 192, 224])
    parser.add_argument("--precisions", nargs="+", choices=["float32", "int8"], default=["float32", "int8"])
    parser.add_argument("--every", type=int, default=4, help="every so many photos; adjacent ones are almost the same")
    parser.add_argument("--calibrate", type=int, default=64, help="photos that int8 is calibrated on")
    parser.add_argument("--components", type=int, default=128)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--divisions", type=int, default=3, help="how often the varieties are divided into folds")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each network, for its speed")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser.parse_args()


def main() -> None:
    a = arguments()
    photos = list_photos(a.source, a.every)
    if not photos:
        raise SystemExit(f"Expected {a.source}/<Kind>/<Variety>/*.jpg. Received: no photo. Check the path.")
    rows: list[dict[str, Any]] = []
    for name in a.backbones:
        for row in measure(a, name, photos):
            rows.append(row)
            print(row, flush=True)
            if a.json:
                a.json.write_text(json.dumps(summarise(a, photos, rows), indent=2) + "\n")
    console = Console()
    Console(width=max(console.width, 140)).print(as_table(rows))  # a file is no narrower for not being a terminal


def summarise(a: argparse.Namespace, photos: Sequence[Photo], rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "date": dt.date.today().isoformat(),
        "verger": verger.__version__,
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}",
        "photos": len(photos),
        "varieties": len({photo.variety for photo in photos}),
        "calibrated_on": a.calibrate,
        "components": a.components,
        "folds": a.folds,
        "divisions": a.divisions,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
