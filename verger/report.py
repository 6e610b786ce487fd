"""A finished run as one page, `report.html`, which opens from a disk without a network.

The words and the layout are in the template of that name; this module computes what it shows, and makes the two plots.
"""

import base64
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined, Template
from numpy.typing import NDArray

FAILURES_SHOWN = 200
NO_LABEL = "(no label)"
GREY, RED = "#8b9184", "#a63c12"

# Ordered so that neighbours differ; a hue that is used again comes back darker or lighter, and with another marker.
HUES: tuple[str, ...] = ("#2171b5", "#e4572e", "#2e9e4f", "#8c4fbf", "#e0a100", "#17a2a2")
HUES = (*HUES, "#d6498f", "#7a5230", "#8fbf1f", "#5566d9", "#b02a37", "#6b7f1a")
SHADES = ((255, 0.0), (0, 0.4), (255, 0.45))  # (towards black 0 or white 255, by how much)
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle")

NO_PREVIEW = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 160 160">
<text x="80" y="84" text-anchor="middle" font-family="sans-serif" font-size="13" fill="#555">no preview</text></svg>"""
# Bokeh escapes what it puts in the place of @name.
TOOLTIP = """<div style="width:160px;font:13px/1.35 system-ui,sans-serif;color:#1d1f1c">
<img src="@thumbnail" alt="" style="display:block;width:160px;height:160px;object-fit:contain;background:#f4f5f1">
<div style="font-weight:600;margin-top:6px;overflow-wrap:anywhere">@label</div>
<div style="color:#5d625a;overflow-wrap:anywhere">@path</div></div>"""


@dataclass(frozen=True)
class MapPhoto:
    """One photo of the map: its first two components, and a small picture of it."""

    path: str
    label: str
    x: float
    y: float
    thumbnail: bytes  # a small JPEG, PNG or WebP without metadata; b"" when the photo could not be read again


@dataclass(frozen=True)
class ReportData:
    """What the page shows beside the manifest."""

    labels: Mapping[str, int]  # embedded photos of each label
    variance: NDArray[np.float64]  # (r,) variance of every component, largest first; k <= r
    total_variance: float
    photos: Sequence[MapPhoto]  # a sample of the embedded photos
    failures: Sequence[tuple[str, str]]  # (path, cause)


class Curve(NamedTuple):
    """The cumulative share of variance, and where it passes what people ask for."""

    shares: NDArray[np.float64]  # (r,) of the first 1, 2, …, r components together, in [0, 1]
    kept: int  # components that this run kept
    reached: Mapping[float, int | None]  # 0.8, 0.9, 0.95 → how many components reach it, when r components do


def render_report(manifest: Mapping[str, Any], data: ReportData) -> str:
    """The whole page, as HTML in which nothing refers to another file. The same input gives the same text."""
    from bokeh.embed import json_item  # Bokeh takes half a second to import: only who draws waits for it
    from bokeh.resources import Resources

    curve = _curve(manifest["projection"], data)
    looks = _looks({photo.label for photo in data.photos})
    plots = {"map": _map_plot(data.photos, looks, curve), "curve": _curve_plot(curve)}
    return _template().render(
        manifest=manifest,
        ranked=sorted(data.labels.items(), key=lambda item: (-item[1], _natural(item[0]))),
        data=data,
        curve=curve,
        looks=looks,
        failures=_failures(manifest["photos"], data.failures),
        stages=_stages(manifest["seconds"]),
        bokeh_js="\n".join(Resources(mode="inline", components=["bokeh"], minified=True).js_raw),
        plots={name: _renumber(json_item(plot), {}) for name, plot in plots.items()},
    )


def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # and unsorted: Bokeh reads in order
    environment.filters.update(plural=_plural, percent=_percent, duration=_duration)
    environment.filters.update(moment=lambda text: f"{datetime.fromisoformat(text):%Y-%m-%d, %H:%M %Z}".strip())
    environment.filters.update(count=lambda number: f"{number:,}", shown=lambda label: label or NO_LABEL)
    return environment.from_string(files("verger").joinpath("report.html").read_text(encoding="utf-8"))


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _percent(share: float) -> str:
    """`0.671` is `67.1 %`. What is short of everything never reads as 100 %, nor what is there as nothing."""
    if 0 < share < 0.0005:
        return "< 0.1\N{NO-BREAK SPACE}%"
    percent = 100.0 if share > 1 - 1e-9 else min(round(100 * share, 1), 99.9)
    return f"{percent:g}\N{NO-BREAK SPACE}%"


def _duration(seconds: float) -> str:
    if seconds < 59.95:
        return f"{seconds:.1f}\N{NO-BREAK SPACE}s"
    big, small, units = (60, 1, ("min", "s")) if seconds < 3599.5 else (3600, 60, ("h", "min"))
    first, rest = divmod(round(seconds / small), big // small)
    return f"{first:,}\N{NO-BREAK SPACE}{units[0]} {rest:02}\N{NO-BREAK SPACE}{units[1]}"


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """A sort key by which `Apple 9` comes before `Apple 10`."""
    parts = re.split(r"([0-9]+)", text.casefold())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts if part]


def _curve(projection: Mapping[str, Any], data: ReportData) -> Curve:
    total = data.total_variance if data.total_variance > 0 else 1.0  # photos that are all alike have no variance
    shares = np.clip(np.cumsum(data.variance) / total, 0.0, 1.0)
    found = {share: int(np.searchsorted(shares, share - 1e-12)) + 1 for share in (0.80, 0.90, 0.95)}
    reached = {share: number if number <= len(shares) else None for share, number in found.items()}
    return Curve(shares, int(projection["components"]), reached)


def _looks(labels: set[str]) -> dict[str, tuple[str, str]]:
    """The colour and marker of each label, in natural order. Up to twelve labels get a hue each; of more, those with
    the same first word (`Apple Golden 1`, `Apple Pink Lady`) share a hue, and differ by shade and marker.
    """
    ordered = sorted(sorted(labels), key=_natural)
    families = {label: re.split(r"[\s_/-]", label.strip())[0].casefold() for label in ordered}
    if len(ordered) <= len(HUES) or len(set(families.values())) < 6:
        families = {label: label for label in ordered}
    hues = {family: HUES[i % len(HUES)] for i, family in enumerate(dict.fromkeys(families.values()))}
    uses: Counter[str] = Counter()
    looks = {}
    for label in ordered:
        hue = hues[families[label]]
        towards, by = SHADES[uses[hue] % len(SHADES)]
        channels = (round(int(hue[i : i + 2], 16) * (1 - by) + towards * by) for i in (1, 3, 5))
        looks[label] = ("#" + "".join(f"{channel:02x}" for channel in channels), MARKERS[uses[hue] % len(MARKERS)])
        uses[hue] += 1
    return looks


def _data_uri(picture: bytes) -> str:
    kind = "jpeg" if picture[:2] == b"\xff\xd8" else "webp" if picture[:4] == b"RIFF" else "png"
    kind, content = (kind, picture) if picture else ("svg+xml", NO_PREVIEW)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _figure(titles: Sequence[str], **options: Any) -> Any:
    """An empty plot with quiet looks."""
    from bokeh.plotting import figure

    options |= {"sizing_mode": "stretch_width", "toolbar_location": "above", "tools": "pan,box_zoom,reset,save"}
    plot: Any = figure(x_axis_label=titles[0], y_axis_label=titles[1], **options)
    plot.toolbar.logo = plot.outline_line_color = plot.axis.minor_tick_line_color = None
    plot.grid.grid_line_color, plot.axis.axis_line_color, plot.axis.major_tick_line_color = "#eceee9", GREY, GREY
    plot.axis.axis_label_text_font_style, plot.axis.axis_label_text_font_size = "normal", "13px"
    return plot


def _map_plot(photos: Sequence[MapPhoto], looks: Mapping[str, tuple[str, str]], curve: Curve) -> Any:
    """The photos by their first two components. The page's own script hides labels, through the filter `shown`."""
    from bokeh.models import CDSView, ColumnDataSource, HoverTool, IndexFilter, WheelZoomTool

    columns = {
        "x": [photo.x for photo in photos],
        "y": [photo.y for photo in photos],
        "label": [photo.label or NO_LABEL for photo in photos],
        "path": [photo.path for photo in photos],
        "thumbnail": [_data_uri(photo.thumbnail) for photo in photos],
        "color": [looks[photo.label][0] for photo in photos],
        "marker": [looks[photo.label][1] for photo in photos],
    }
    source, shown = (
        ColumnDataSource(columns, name="photos"),
        IndexFilter(indices=list(range(len(photos))), name="shown"),
    )
    own = np.diff(curve.shares[: min(curve.kept, 2)], prepend=0.0)
    titles = [f"Component {i} ({_percent(share)} of the variance)" for i, share in enumerate(own, start=1)]
    plot = _figure([*titles, "(no second component)"], height=640, match_aspect=True)
    plot.scatter("x", "y", source=source, size=4, color="#d5d8d0", line_color=None)  # stays where a label is hidden
    style = {"size": 9, "marker": "marker", "fill_color": "color", "fill_alpha": 0.85, "line_color": "white"}
    points = plot.scatter("x", "y", source=source, view=CDSView(filter=shown), line_width=0.6, **style)
    plot.toolbar.active_scroll = wheel = WheelZoomTool(modifiers="ctrl")  # a plain wheel still scrolls the page
    plot.add_tools(wheel, HoverTool(renderers=[points], tooltips=TOOLTIP, limit=1))
    return plot


def _curve_plot(curve: Curve) -> Any:
    """The share of variance against the number of components, with what was kept and what people ask for."""
    from bokeh.models import ColumnDataSource, HoverTool, NumeralTickFormatter

    numbers, log = range(1, len(curve.shares) + 1), len(curve.shares) > 20
    axis = "log" if log else "linear"
    plot = _figure(("components", "share of the variance"), height=400, x_axis_type=axis, y_range=(0, 1.07))
    words = [f"{_plural(n, 'component')}: {_percent(s)}" for n, s in zip(numbers, curve.shares, strict=True)]
    source = ColumnDataSource({"n": list(numbers), "share": curve.shares.tolist(), "words": words})
    for share, number in curve.reached.items():
        if number is not None:
            plot.line([1, number], [share, share], color=GREY, line_dash="dotted")
            plot.scatter([number], [share], size=6, color=GREY)
            plot.text([1], [share], [f"{_percent(share)}: {number:,}"], text_font_size="11px", text_color="#5d625a")
    line = plot.line("n", "share", source=source, color="#2f6b3c", line_width=2)
    kept, share = curve.kept, float(curve.shares[curve.kept - 1])
    beyond = np.log(kept) > 0.6 * np.log(len(numbers)) if log else kept > 0.6 * len(numbers)
    side: dict[str, Any] = {"text_align": "right", "x_offset": -8} if beyond else {"x_offset": 8}  # inside the plot
    plot.line([kept, kept], [0, share], color=RED)
    plot.scatter([kept], [share], size=9, color=RED)
    side |= {"text": [words[kept - 1].replace(":", " kept:")], "text_font_size": "13px", "text_color": RED}
    plot.text([kept], [share / 2], **side)
    plot.add_tools(HoverTool(renderers=[line], tooltips="@words", mode="vline", line_policy="nearest", limit=1))
    plot.xaxis.ticker = [step * 10**power for power in range(6) for step in (1, 2, 5)]
    plot.xaxis.formatter, plot.yaxis.formatter = NumeralTickFormatter(format="0,0"), NumeralTickFormatter(format="0 %")
    return plot


def _renumber(node: Any, ids: dict[str, str]) -> Any:
    """The JSON of a plot with ids counted from 1: Bokeh's own count on, and the same plot must give the same text."""
    if isinstance(node, list):
        return [_renumber(child, ids) for child in node]
    if not isinstance(node, dict):  # names and labels are here: columns are lists, so their names are never keys
        return node
    fresh = {key: ids.setdefault(node[key], f"m{len(ids) + 1}") for key in ("id", "root_id") if key in node}
    return {key: fresh[key] if key in fresh else _renumber(child, ids) for key, child in node.items()}


def _failures(photos: Mapping[str, Any], failures: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The causes with their counts, largest first, and the first paths of each; `left`: how many are not listed."""
    shown = failures[:FAILURES_SHOWN]
    ordered = sorted(photos["causes"].items(), key=lambda item: (-item[1], item[0]))
    groups = [(cause, number, [path for path, its in shown if its == cause]) for cause, number in ordered]
    return {"groups": groups, "total": photos["failed"], "left": photos["failed"] - len(shown)}


def _stages(seconds: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """(name, seconds, share of the whole) of each stage; what no stage accounts for is the last, `everything else`."""
    stages = {name: spent for name, spent in seconds.items() if name != "total"}
    whole = max(float(seconds["total"]), sum(stages.values()), 1e-9)
    if whole - sum(stages.values()) >= 0.05:
        stages["everything else"] = whole - sum(stages.values())
    return [(name, spent, spent / whole) for name, spent in stages.items()]
