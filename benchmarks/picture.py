"""The rates as one bar chart for the README, in shares of the hardware's limit. SVG, written by hand.

The card brings its own background, in a light and a dark dress, so that it can be read on any page.
"""

import statistics
from collections.abc import Mapping
from html import escape
from typing import Any, NamedTuple

from results import LIMIT, amount, rows

WIDTH, LEFT, RIGHT, TOP, BAR, STEP, BOTTOM = 720, 176, 176, 78, 26, 42, 36
NAMES = {
    "limit": "Hardware's limit",
    "verger": "Verger",
    "daft": "Daft",
    "reference": "Notebook method",
}
STYLE = """
  text { font: 15px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1d1f1c }
  .heading { font-size: 17px; font-weight: 600 }
  .small { font-size: 12.5px; fill: #5d625a }
  .strong { font-weight: 600 }
  .card { fill: #fbfbf8; stroke: #d9dcd3 }
  .track { fill: #eceee7 }
  .limit { fill: #a9afa1 } .verger { fill: #2e8b46 } .daft, .reference { fill: #7d93b2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #eceee7 }
    .small { fill: #a9afa1 }
    .card { fill: #171a16; stroke: #363b33 }
    .track { fill: #272b25 }
    .limit { fill: #6d7467 } .verger { fill: #4fb86a } .daft, .reference { fill: #6f88ab }
  }
"""


class Bar(NamedTuple):
    """One rate."""

    name: str
    share: float  # of the limit
    rate: float  # photos a second


def bars(figures: Mapping[str, Any]) -> list[Bar]:
    """The embedding rates of those who took part."""
    return [
        Bar(row.contestant, statistics.median(row.ratios), statistics.median(row.values))
        for row in rows(figures)
        if row.contestant in NAMES and row.to == LIMIT and not row.measure.startswith("whole run")
    ]


def draw(figures: Mapping[str, Any]) -> str:
    """The chart as SVG."""
    found = bars(figures)
    height = TOP + STEP * len(found) + BOTTOM
    scale = (WIDTH - LEFT - RIGHT) / max([1.0, *(bar.share for bar in found)])
    said = "; ".join(f"{NAMES[bar.name]} {bar.share:.0%}" for bar in found)
    where = f"{figures['machine']}, {amount(figures['cores'], 'core')}"
    what = f"{figures['backbone']}, {amount(figures['photos'], 'photo')}"
    limit = "Limit: the network alone on every core"
    when = f"{limit}. Median of {amount(figures['rounds'], 'round')}, {figures['date']}, commit {figures['commit']}."
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' role="img" aria-labelledby="title">',
        f'<title id="title">Photos embedded a second, as shares of the hardware\'s limit: {escape(said)}</title>',
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>',
        '<text class="heading" x="24" y="36">Photos embedded a second, against what the hardware can do</text>',
        f'<text class="small" x="24" y="56">{escape(where)}, {escape(what)}</text>',
        *(line for i, bar in enumerate(found) for line in _bar(bar, TOP + STEP * i, scale)),
        f'<text class="small" x="24" y="{height - 16}">{escape(when)}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _bar(bar: Bar, top: float, scale: float) -> list[str]:
    middle, length = top + BAR / 2 + 5, max(2.0, bar.share * scale)
    weight = ' class="strong"' if bar.name == "verger" else ""
    return [
        f'<text{weight} x="{LEFT - 12}" y="{middle}" text-anchor="end">{escape(NAMES[bar.name])}</text>',
        f'<rect class="track" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{BAR}" rx="4"/>',
        f'<rect class="{bar.name}" x="{LEFT}" y="{top}" width="{length:.1f}" height="{BAR}" rx="4"/>',
        f'<text{weight} x="{WIDTH - RIGHT + 14}" y="{middle}">{bar.share:.0%}'
        f'<tspan class="small" dx="10">{bar.rate:.0f} photos/s</tspan></text>',
    ]
