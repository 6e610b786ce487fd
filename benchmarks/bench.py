"""Verger against the hardware's limit and its peers, in alternating turns, as medians of ratios.

    python benchmarks/bench.py PHOTOS [--rounds 3] [--backbone NAME] [--weights FILE] [--only limit,verger,…]
    python benchmarks/bench.py --from FILE.json [--picture FILE.svg]

A machine's speed may drift by half within minutes, so the network alone is measured before and after every long turn,
and a turn's ratio is taken against the mean of the two. Medians are over the rounds.
"""

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from contestants import CONTESTANTS, Plan, Reading, fresh
from picking import evenly, link_photos
from picture import draw
from processes import TurnFailedError, run
from results import as_table
from rich.console import Console

from verger.photos import list_photos
from verger.storage import Folder

Figures = dict[str, Any]
QUIET_LOAD = 0.5  # processes that others keep running: above that, figures are of a shared machine
WARM_PHOTOS = 32
WIDTH = 120  # of the table in characters, where there is no terminal
say = Console(stderr=True, highlight=False)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="?", type=Path, help="folder of photos, their labels the names of its folders")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", help="weights file of the network, instead of its usual source")
    defaults = ",".join(name for name, contestant in CONTESTANTS.items() if contestant.default)
    parser.add_argument("--only", help=f"of {','.join(CONTESTANTS)}; by default {defaults}, where installed")
    parser.add_argument("--times", type=int, default=1, help="list every photo so many times for verger and memory")
    parser.add_argument("--components", type=int, default=50)
    parser.add_argument("--limit-seconds", type=float, default=3, help="how long each of both limits is measured")
    parser.add_argument("--reference-photos", type=int, help="so many photos for the reference, evenly spaced")
    parser.add_argument("--daft-python", default=sys.executable, help="the Python that has Daft")
    parser.add_argument("--json", type=Path, help="write everything here, every single reading included")
    parser.add_argument("--picture", type=Path, help="draw rates as shares of the limit, as SVG")
    parser.add_argument("--from", dest="earlier", type=Path, help="show the JSON of an earlier run; measure nothing")
    a = parser.parse_args()
    chosen = a.only.split(",") if a.only else []
    if unknown := [name for name in chosen if name not in CONTESTANTS]:
        parser.error(f"--only takes {', '.join(CONTESTANTS)}; received {', '.join(unknown)}")
    if bool(a.photos) == bool(a.earlier):
        parser.error("give PHOTOS to measure, or --from FILE.json to show")
    if min(a.rounds, a.times, a.components, a.limit_seconds, a.reference_photos or 1) <= 0:
        parser.error("numbers must be above zero")
    return a


def main() -> int:
    """Measure or read, then show. Returns the exit code: 1 where a contestant failed."""
    a = arguments()
    for one in (signal.SIGINT, signal.SIGTERM):  # whoever starts this may have switched Ctrl-C off, and it is inherited
        signal.signal(one, signal.default_int_handler)
    figures = json.loads(a.earlier.read_text()) if a.earlier else measure(a)
    Console(width=None if sys.stdout.isatty() else WIDTH).print(as_table(figures))
    if a.picture:
        a.picture.write_text(draw(figures))
    return 1 if figures["failures"] else 0


def measure(a: argparse.Namespace) -> Figures:
    """All rounds; the JSON is written after each, so that an interruption loses one at most."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="verger-bench-", ignore_cleanup_errors=True) as folder:
        photos = a.photos.resolve()
        paths = [photo.path for photo in list_photos(Folder(str(photos)), Folder(folder), 1).photos]
        plan = Plan(
            photos=photos,
            paths=paths,
            folder=Path(folder),
            backbone=a.backbone,
            weights=a.weights and str(Path(a.weights).resolve()),
            components=a.components,
            times=a.times,
            reference_photos=a.reference_photos,
            daft_python=a.daft_python,
            limit_seconds=a.limit_seconds,
        )
        names, notes = choose(plan, a.only)
        if load > QUIET_LOAD:
            notes.append(f"Other work was running when this began (load {load:.1f}): figures of a shared machine.")
        figures = facts(plan) | {"notes": notes, "failures": [], "readings": {}}
        warm_up(plan)
        for number in range(a.rounds):
            one_round(plan, names, figures, f"round {number + 1} of {a.rounds}")
            figures["rounds"] += 1
            if a.json:
                a.json.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def choose(plan: Plan, only: str | None) -> tuple[list[str], list[str]]:
    """The contestants of this run, in the order of their turns, and notes on those left out."""
    wanted = set(only.split(",")) if only else {name for name, one in CONTESTANTS.items() if one.default}
    notes = []
    if "spark_ml" in wanted:
        wanted |= {"verger"}  # whose vectors it takes
    for name in [name for name in CONTESTANTS if name in wanted]:
        if why := CONTESTANTS[name].missing(plan):
            wanted.remove(name)
            notes.append(f"{name} was left out: {why}")
    if "reference" in wanted and plan.reference_photos and plan.reference_photos < len(plan.paths):
        few = f"{plan.reference_photos} of {len(plan.paths)} photos, evenly spaced"
        notes.append(f"reference ran on {few}; in few, its fixed costs weigh more.")
    if plan.times > 1:
        notes.append(f"verger ran on every photo {plan.times} times.")
    return [name for name in CONTESTANTS if name in wanted], notes


def warm_up(plan: Plan) -> None:
    """One small run that is not counted: the first on a machine fills caches that all later ones find."""
    with say.status("Warming up …"), contextlib.suppress(TurnFailedError):
        few = link_photos(plan.photos, evenly(plan.paths, WARM_PHOTOS), plan.folder / "few")
        words = [sys.executable, "-m", "verger", "run", str(few), "--to", str(fresh(plan, "warm")), "--components", "2"]
        run([*words, "--backbone", plan.backbone, *(["--weights", plan.weights] if plan.weights else [])])


def one_round(plan: Plan, names: list[str], figures: Figures, title: str) -> None:
    """One turn of each, with the limit before and after those that are compared with it."""
    done: dict[str, Reading | None] = {}
    latest: Reading | None = None  # the limit, if nothing else ran since
    if "limit" in names and not any(CONTESTANTS[name].limited for name in names):
        turn(plan, "limit", figures, title)
    for name in names:
        if name == "limit" or (name == "spark_ml" and not done["verger"]):
            continue
        limited = CONTESTANTS[name].limited
        before = (latest or turn(plan, "limit", figures, title)) if limited else None
        reading = done[name] = turn(plan, name, figures, title)
        latest = turn(plan, "limit", figures, title) if limited else None
        if reading and before and latest:
            reading["limit"] = {key: (before[key] + latest[key]) / 2 for key in ("limit", "limit_best")}
        if name == "spark_ml" and reading and (run_before := done["verger"]):
            reading["verger_components"] = run_before["seconds"]["components"]


def turn(plan: Plan, name: str, figures: Figures, title: str) -> Reading | None:
    """One turn of one contestant, kept among the readings; None where it failed, which is kept too."""
    start = time.perf_counter()
    try:
        with say.status(f"{title}: {name} …"):
            reading = CONTESTANTS[name].turn(plan) | {"round": figures["rounds"] + 1}
    except TurnFailedError as error:
        figures["failures"].append(f"{name}, {title}: {error}")
        say.print(f"{title}: {name} failed: {error}", style="red", markup=False)
        return None
    figures["readings"].setdefault(name, []).append(reading)
    say.print(f"{title}: {name}, {time.perf_counter() - start:.1f} s")
    return reading


def facts(plan: Plan) -> Figures:
    """Where, when and on what."""
    return {
        "machine": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("verger", "pyspark", "onnxruntime", "pyarrow", "pillow")},
        "commit": commit(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "backbone": plan.backbone,
        "components": plan.components,
        "photos": len(plan.paths),
        "times": plan.times,
        "rounds": 0,
    }


def processor() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def commit() -> str:
    """The commit that is measured; a plus where files have changed since."""
    git = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent)]
    head, changed = (
        subprocess.run([*git, *words], capture_output=True, text=True, check=False).stdout.strip()
        for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain"])
    )
    return f"{head}+" if changed else head


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say.print("Stopped; rounds that were finished are in the JSON, if one was asked for.")
        sys.exit(130)
