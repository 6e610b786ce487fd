"""Who takes part: how each contestant is started, what it needs, and what one turn of it gives."""

import functools
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limit import unwrap
from memory import Peaks
from picking import evenly, link_photos, repeat_photos
from processes import TurnFailedError, run, script

from verger.backbone import load_backbone
from verger.graph import NORMALISATIONS
from verger.network import Backbone

Reading = dict[str, Any]
MEMORY_TIMES = 4
STAGE_PHOTOS, STAGE_PASSES = 192, 2
SLOW_PHOTOS, SLOW_PASSES = 2000, 2
BIG_PHOTOS = 200
DAFT_ADVICE = "Daft may want an older pyarrow than Verger: python -m venv DIR && DIR/bin/pip install daft onnxruntime"
DAFT_ADVICE += " pillow, then --daft-python DIR/bin/python."


@dataclass(frozen=True)
class Plan:
    """What all contestants are given. `paths` are the photos below `photos`; `folder` is for everything temporary."""

    photos: Path
    paths: list[str] = field(repr=False)
    folder: Path
    backbone: str
    weights: str | None
    components: int
    times: int
    reference_photos: int | None
    daft_python: str
    limit_seconds: float

    @property
    def network(self) -> dict[str, str | None]:
        """The network, as the scripts take it."""
        return {"name": self.backbone, "weights": self.weights}

    def load(self) -> Backbone:
        """The network itself."""
        return load_backbone(self.backbone, weights=self.weights)

    def listed(self, times: int) -> Path:
        """A folder that lists every photo so many times."""
        folder = self.folder / f"times-{times}"
        return self.photos if times == 1 else folder if folder.exists() else repeat_photos(self.photos, times, folder)


def limit(plan: Plan) -> Reading:
    """The network alone, without anything around it and as Verger runs it."""
    return script("limit", {**plan.network, "seconds": plan.limit_seconds})


def verger(plan: Plan) -> Reading:
    """A whole run, as a user starts it; its vectors stay for `spark_ml`."""
    return _verger_run(plan, plan.times)


def memory(plan: Plan) -> Reading:
    """The memory of a run, and of one of several times as many photos."""
    found = {}
    for times in (1, plan.times if plan.times > 1 else MEMORY_TIMES):
        peaks = Peaks()
        found[str(times)] = _verger_run(plan, times, peaks.see) | peaks.values | {"samples": peaks.samples}
    return found


def _verger_run(plan: Plan, times: int, watch: Callable[[int], None] | None = None) -> Reading:
    dest = fresh(plan, "verger")
    words = [sys.executable, "-m", "verger", "run", str(plan.listed(times)), "--to", str(dest)]
    words += ["--backbone", plan.backbone, "--components", str(plan.components)]
    words += ["--weights", plan.weights] if plan.weights else []
    start = time.perf_counter()
    run(words, watch)
    whole = time.perf_counter() - start
    manifest = json.loads((dest / "manifest.json").read_text())
    photos = manifest["photos"]
    wanted = times * len(plan.paths)
    if not photos["embedded"] == photos["found"] == wanted or photos["failed"]:
        raise TurnFailedError(f"expected {wanted} embedded photos and none that failed, received {photos}")
    return {"photos": wanted, "whole": round(whole, 3), "seconds": manifest["seconds"]}


def spark_ml(plan: Plan) -> Reading:
    """Spark ML's PCA on the vectors of the last turn of `verger`."""
    job = {"vectors": str(plan.folder / "verger" / "vectors"), "dest": str(fresh(plan, "spark_ml"))}
    return script("spark_ml", {**job, "components": plan.components})


def daft(plan: Plan) -> Reading:
    """Daft, with the same network without our wrapping."""
    graph, shape = unwrap(plan.load())
    network, dest = plan.folder / "network.onnx", fresh(plan, "daft")
    network.write_bytes(graph)
    dest.mkdir()
    suffixes = sorted({Path(path).suffix for path in plan.paths})
    job = {"patterns": [f"{plan.photos}/**/*{suffix}" for suffix in suffixes], "dest": str(dest)}
    job |= {"network": str(network), "shape": shape, "normalisation": NORMALISATIONS[plan.load().normalisation]}
    return _counted(functools.partial(script, "daft_peer", job, plan.daft_python), len(plan.paths))


def reference(plan: Plan) -> Reading:
    """The brief's method, on all photos or on an evenly spaced part of them."""
    paths = evenly(plan.paths, plan.reference_photos or len(plan.paths))
    source = plan.folder / "reference-photos"
    if not source.exists():
        link_photos(plan.photos, paths, source)
    job = {"source": str(source), "dest": str(fresh(plan, "reference")), "weights": plan.weights}
    return _counted(functools.partial(script, "reference", job), len(paths))


def _counted(turn: Callable[[], Reading], wanted: int) -> Reading:
    """A turn with its whole seconds, refused where it left photos out."""
    start = time.perf_counter()
    reading = turn()
    if reading["photos"] != wanted:
        raise TurnFailedError(f"expected {wanted} photos, received {reading['photos']}")
    return reading | {"whole": round(time.perf_counter() - start, 3)}


def stages(plan: Plan) -> Reading:
    """One worker on one core, with one kind of work taken out at a time."""
    job = {"source": str(plan.photos), **plan.network, "photos": STAGE_PHOTOS, "passes": STAGE_PASSES}
    return script("stages", job)


def slow(plan: Plan) -> Reading:
    """The embedding stage with 40 ms added to every read."""
    job = {"source": str(plan.photos), **plan.network, "photos": SLOW_PHOTOS, "passes": SLOW_PASSES}
    return script("slow", job)


def big(plan: Plan) -> Reading:
    """Decoding photos of 12 megapixels."""
    job = {"source": str(plan.photos), **plan.network, "photos": BIG_PHOTOS, "folder": str(plan.folder / "big")}
    return script("big", job)


def fresh(plan: Plan, name: str) -> Path:
    """A folder of that name, which does not exist yet."""
    folder = plan.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def without_daft(plan: Plan) -> str | None:
    """Why Daft cannot take part."""
    words = [plan.daft_python, "-c", "import daft, onnxruntime, PIL"]
    try:
        there = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        there = False
    if not there:
        return f"daft, onnxruntime and pillow are not all installed for {Path(plan.daft_python).name}. {DAFT_ADVICE}"
    if plan.load().engine != "onnx" or plan.load().normalisation not in NORMALISATIONS:
        return "it takes an ONNX network."
    return None


def without_reference(plan: Plan) -> str | None:
    """Why the brief's method cannot take part."""
    if importlib.util.find_spec("tensorflow") is None:
        return "tensorflow is not installed: pip install 'verger[tensorflow]'."
    if plan.backbone != "mobilenet_v2" or not (plan.weights or "").endswith(".h5"):
        return "it takes --backbone mobilenet_v2 and --weights FILE.h5 of Keras."
    return None


@dataclass(frozen=True)
class Contestant:
    """One who takes part. `limited`: its rate is compared with the limit before and after its turn."""

    turn: Callable[[Plan], Reading]
    limited: bool = False
    default: bool = True
    missing: Callable[[Plan], str | None] = lambda _: None


# In the order of their turns: Spark ML right after the run whose vectors it takes.
CONTESTANTS = {
    "limit": Contestant(limit),
    "verger": Contestant(verger, limited=True),
    "spark_ml": Contestant(spark_ml),
    "daft": Contestant(daft, limited=True, missing=without_daft),
    "reference": Contestant(reference, limited=True, missing=without_reference),
    "stages": Contestant(stages),
    "slow": Contestant(slow, default=False),
    "big": Contestant(big, default=False),
    "memory": Contestant(memory, default=False),
}
