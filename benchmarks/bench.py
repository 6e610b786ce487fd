"""Verger's embedding stage and whole run against the hardware's limit, in turns, as medians and ratios.

    python benchmarks/bench.py PHOTOS [--rounds 3] [--backbone NAME] [--weights FILE] [--json FILE]

The limit is the network alone: the same ONNX graph on every core, one thread each, on pixels already in memory.
"""

import argparse
import datetime as dt
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import verger
from verger.backbone import load_backbone
from verger.network import Backbone
from verger.vectors import BATCH_PHOTOS


def network_alone(job: tuple[Backbone, float]) -> float:
    """Photos a second of one process with nothing else to do."""
    backbone, seconds = job
    network = backbone.load()
    side = backbone.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH_PHOTOS, side, side, 3), dtype=np.uint8)
    network(pixels)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        network(pixels)
        done += BATCH_PHOTOS
    return done / (time.perf_counter() - start)


def limit(backbone: Backbone, seconds: float) -> float:
    """Photos a second of all cores together."""
    cores = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        return sum(pool.map(network_alone, [(backbone, seconds)] * cores))


def one_run(source: str, settings: dict[str, str]) -> dict[str, float]:
    """Rates and seconds of one whole run, in a process of its own, as a user starts it."""
    with tempfile.TemporaryDirectory() as out:
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        start = time.perf_counter()
        subprocess.run(["verger", "run", source, "--to", out, *options], check=True, capture_output=True)
        whole = time.perf_counter() - start
        manifest = json.loads(Path(out, "manifest.json").read_text())
    return {"photos": manifest["photos"]["embedded"], "whole": whole, **manifest["seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="how long the network runs alone, each round")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    a = parser.parse_args()
    settings = {"backbone": a.backbone} | ({"weights": a.weights} if a.weights else {})
    backbone = load_backbone(a.backbone, weights=a.weights)
    limits, runs = [], []
    for _ in range(a.rounds):
        limits.append(limit(backbone, a.seconds))
        runs.append(one_run(a.source, settings))
    figures = summarise(limits, runs, a.backbone)
    if a.json:
        a.json.write_text(json.dumps(figures, indent=2) + "\n")
    Console().print(as_table(figures))


def summarise(limits: list[float], runs: list[dict[str, float]], backbone: str) -> dict[str, object]:
    """Medians over the rounds; ratios are made round by round, so that a drifting machine does not spoil them."""
    middle = statistics.median
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    rates = [run["photos"] / run["embed"] for run in runs]
    return {
        "date": dt.date.today().isoformat(),
        "verger": verger.__version__,
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}",
        "backbone": backbone,
        "rounds": len(runs),
        "photos": runs[0]["photos"],
        "limit_photos_per_second": round(middle(limits), 1),
        "embed_photos_per_second": round(middle(rates), 1),
        "embed_share_of_limit": round(middle([r / top for r, top in zip(rates, limits, strict=True)]), 3),
        "seconds": {stage: round(middle([run[stage] for run in runs]), 2) for stage in runs[0] if stage != "photos"},
    }


def as_table(figures: dict[str, object]) -> Table:
    table = Table(show_header=False)
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), str(value))
    return table


if __name__ == "__main__":
    main()
