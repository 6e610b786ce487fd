"""A finished run as one page, `report.html`, which opens from a disk without a network.

The words and the layout are in the template of that name, the looks in `report.css`; the scripts draw the map and
answer questions. This module computes what the page shows, and puts everything into one file.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from numpy.typing import NDArray

from verger.report_curve import variance_curve
from verger.report_map import Map, map_arrays, map_words, script_json
from verger.report_words import NO_LABEL, duration, moment, natural, percent, plural, size

if TYPE_CHECKING:
    from verger.report_cost import Cost

SCRIPTS = ("report_raster.js", "report_map.js", "report_neighbours.js", "report_page.js")
CONFUSIONS_SHOWN = 15


@dataclass(frozen=True)
class Failure:
    """One photo that failed, and what can be seen of it."""

    path: str
    cause: str
    thumbnail: bytes  # a small JPEG; b"" where nothing can be shown
    bytes: int  # of the file


@dataclass(frozen=True)
class ReportData:
    """What the page shows beside the manifest."""

    labels: Mapping[str, int]  # embedded photos of each label
    variance: NDArray[np.float64]  # (r,) variance of every component, largest first; k <= r
    total_variance: float
    photos: Map  # embedded photos, all or an even sample
    failures: Sequence[Failure]  # some of those of this run
    confusions: Sequence[tuple[str, str, int]] = ()  # of the recogniser: truth, answer, photos; most frequent first
    previous: Mapping[str, Any] | None = None  # the manifest of the last finished run
    cost: "Cost | None" = None


def render_report(manifest: Mapping[str, Any], data: ReportData) -> str:
    """The whole page, as HTML in which nothing refers to another file. The same input gives the same text."""
    curve = variance_curve(manifest["projection"], data.variance, data.total_variance)
    script = "\n".join(_read(name) for name in SCRIPTS)
    words = {**map_words(data.photos), "shares": [round(float(share), 4) for share in curve.shares]}
    return _template().render(
        manifest=manifest,
        ranked=sorted(data.labels.items(), key=lambda item: (-item[1], natural(item[0]))),
        data=data,
        curve=curve,
        failures=_failures(manifest["photos"], data.failures),
        stages=_stages(manifest["seconds"]),
        figures=_figures(manifest, data.previous),
        confusions=data.confusions[:CONFUSIONS_SHOWN],
        style=_read("report.css"),
        script=script,
        # The browser runs this script and no other, whatever a file name may try.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        words=script_json(words),
        arrays=map_arrays(data.photos),
    )


def _read(name: str) -> str:
    return files("verger").joinpath(name).read_text(encoding="utf-8")


def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(plural=plural, percent=percent, duration=duration, moment=moment, size=size)
    environment.filters.update(count=lambda number: f"{number:,}", shown=lambda label: label or NO_LABEL)
    environment.filters.update(jpeg=lambda picture: f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}")
    return environment.from_string(_read("report.html"))


def _failures(photos: Mapping[str, Any], failures: Sequence[Failure]) -> dict[str, Any]:
    """The causes with their counts, largest first; the photos to show, by cause; `left`: how many are not shown."""
    ordered = sorted(photos["causes"].items(), key=lambda item: (-item[1], item[0]))
    shown = [failure for cause, _ in ordered for failure in failures if failure.cause == cause]
    return {"causes": ordered, "shown": shown, "total": photos["failed"], "left": photos["failed"] - len(shown)}


def _stages(seconds: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """(name, seconds, share of the whole) of each stage; what no stage accounts for is the last, `everything else`."""
    stages = {name: spent for name, spent in seconds.items() if name != "total"}
    whole = max(float(seconds["total"]), sum(stages.values()), 1e-9)
    if whole - sum(stages.values()) >= 0.05:
        stages["everything else"] = whole - sum(stages.values())
    return [(name, spent, spent / whole) for name, spent in stages.items()]


def _figures(manifest: Mapping[str, Any], previous: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """(what, in the last run, in this one), for what both manifests say; nothing without a last run."""
    if previous is None or not manifest.get("changes"):
        return []
    kinds = (
        ("photos found", "photos", "found", "{:,}".format),
        ("photos failed", "photos", "failed", "{:,}".format),
        ("components", "projection", "components", "{:,}".format),
        ("variance kept", "projection", "explained_variance", percent),
        ("photos embedded in that run", "photos", "embedded", "{:,}".format),
        ("time", "seconds", "total", duration),
    )
    both = [
        (what, written, [run.get(part, {}).get(key) for run in (previous, manifest)])
        for what, part, key, written in kinds
    ]
    return [(what, written(then), written(now)) for what, written, (then, now) in both if None not in (then, now)]
