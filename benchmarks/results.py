"""Readings → rows: a median, its spread, and a ratio to something measured in the same turn."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

LIMIT = "limit"
Readings = Mapping[str, Sequence[Mapping[str, Any]]]


class Row(NamedTuple):
    """One line of the table. Of `values` and `ratios` the median is shown; `ratios` were made turn by turn."""

    contestant: str
    measure: str
    unit: str
    values: Sequence[float]
    ratios: Sequence[float] = ()
    to: str = ""


def rows(figures: Mapping[str, Any]) -> list[Row]:
    """Every row that the readings allow."""
    readings = figures["readings"]
    kinds = (_limits, _whole_runs, _spark_ml, _peers, _stages, _slow, _big, _memory)
    return [row for kind in kinds for row in kind(readings)]


def _limits(readings: Readings) -> Iterator[Row]:
    found = readings.get("limit", [])
    if found:
        plain, ours = ([one[key] for one in found] for key in ("limit", "limit_best"))
        yield Row("limit", "network alone", "photos/s", plain, [1.0] * len(plain), LIMIT)
        yield Row("limit_best", "as Verger runs it", "photos/s", ours, _divide(ours, plain), LIMIT)


def _divide(values: Sequence[float], by: Sequence[float]) -> list[float]:
    return [value / other for value, other in zip(values, by, strict=True)]


def _whole_runs(readings: Readings) -> Iterator[Row]:
    found = [one for one in readings.get("verger", []) if "limit" in one]
    if not found:
        return
    limits = [one["limit"]["limit"] for one in found]
    best = [one["limit"]["limit_best"] for one in found]
    embedding = [one["photos"] / one["seconds"]["embed"] for one in found]
    whole = [one["photos"] / one["whole"] for one in found]
    yield Row("verger", "embedding", "photos/s", embedding, _divide(embedding, limits), LIMIT)
    yield Row("verger", "embedding", "photos/s", embedding, _divide(embedding, best), "limit_best")
    yield Row("verger", "whole run, shell to prompt", "photos/s", whole, _divide(whole, limits), LIMIT)
    yield Row("verger", "whole run, shell to prompt", "s", [one["whole"] for one in found])
    for stage in found[0]["seconds"]:
        yield Row("verger", f"stage {stage}", "s", [one["seconds"][stage] for one in found])


def _peers(readings: Readings) -> Iterator[Row]:
    for name in ("daft", "reference"):
        found = [one for one in readings.get(name, []) if "limit" in one]
        if found:
            limits = [one["limit"]["limit"] for one in found]
            rates = [one["photos"] / one["embed"] for one in found]
            yield Row(
                name, f"embedding {found[0]['photos']:,} photos", "photos/s", rates, _divide(rates, limits), LIMIT
            )
            yield Row(name, "whole process", "s", [one["whole"] for one in found])


def _spark_ml(readings: Readings) -> Iterator[Row]:
    found = readings.get("spark_ml", [])
    if found:
        seconds = [one["seconds"] for one in found]
        ours = [one["verger_components"] for one in found]
        yield Row("spark_ml", "PCA: fit, transform, write", "s", seconds, _divide(seconds, ours), "Verger's components")


def _stages(readings: Readings) -> Iterator[Row]:
    passes = [one for reading in readings.get("stages", []) for one in reading["passes"]]
    for variant in passes[0] if passes else ():
        taken = [one[variant]["ms"] for one in passes]
        network = [one[variant]["network_ms"] for one in passes]
        yield Row("stages", variant, "ms a photo", taken, _divide(taken, network), "the network alone")


def _slow(readings: Readings) -> Iterator[Row]:
    passes = [one for reading in readings.get("slow", []) for one in reading["passes"]]
    if passes:
        near, far = ([one[key] for one in passes] for key in ("near", "far"))
        delay = 1000 * readings["slow"][0]["delay_seconds"]
        yield Row(
            "slow", f"embedding, {delay:.0f} ms more a read", "photos/s", far, _divide(far, near), "without delay"
        )


def _big(readings: Readings) -> Iterator[Row]:
    found = readings.get("big", [])
    if found:
        ours, whole = ([statistics.median(one["seconds"][way]) for one in found] for way in ("verger", "whole"))
        yield Row(
            "big", "decoding 12 megapixels", "ms a photo", [1000 * one for one in ours], _divide(ours, whole), "whole"
        )
        yield Row("big", "whole: decoded at full size", "ms a photo", [1000 * one for one in whole])
        cosines = [cosine for one in found for cosine in one["cosines"]]
        yield Row("big", "cosine between both vectors", "", cosines)


MEMORY = {
    "worker_rss": "a worker's RSS at most",
    "worker_pss": "a worker's PSS at most",
    "jvm_heap": "JVM heap in use at most",
    "jvm_rss": "JVM's RSS at most",
}


def _memory(readings: Readings) -> Iterator[Row]:
    found = readings.get("memory", [])
    for key, words in MEMORY.items() if found else ():
        one_time = [reading["1"].get(key, 0.0) for reading in found]
        if not any(one_time):  # a JVM that says nothing of its heap
            continue
        for times in (name for name in found[0] if name.isdigit()):
            values = [reading[times][key] for reading in found]
            ratios, to = (_divide(values, one_time), "photos once") if times != "1" else ((), "")
            yield Row("memory", f"{words}, {found[0][times]['photos']:,} photos", "MiB", values, ratios, to)


def as_table(figures: Mapping[str, Any]) -> Group:
    """The rows as people read them, with what they are of above and what to know below."""
    where = f"{figures['machine']}, {amount(figures['cores'], 'core')} · {figures['commit']} · {figures['date']}"
    what = f"{figures['backbone']} · {amount(figures['photos'], 'photo')} · {amount(figures['rounds'], 'round')}"
    table = Table(title=f"{where}\n{what}", title_style="bold", title_justify="left")
    for heading in ("contestant", "what"):
        table.add_column(heading, no_wrap=True)
    for heading in ("median", "spread", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("to", no_wrap=True)
    last = ""
    for row in rows(figures):
        if last and row.contestant != last:
            table.add_section()
        table.add_row("" if row.contestant == last else row.contestant, *_words(row))
        last = row.contestant
    notes = [Text(f"• {note}") for note in figures["notes"]]
    failures = [Text(f"✗ {failure}", style="red") for failure in figures["failures"]]
    return Group(table, *notes, *failures)


def amount(number: int, what: str) -> str:
    """A number of things in words."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _words(row: Row) -> tuple[str, str, str, str, str]:
    middle = f"{_number(statistics.median(row.values))} {row.unit}".strip()
    spread = f"{_number(min(row.values))}–{_number(max(row.values))}" if len(row.values) > 1 else ""
    ratio = _number(statistics.median(row.ratios)) if row.ratios else ""
    return row.measure, middle, spread, ratio, row.to


def _number(value: float) -> str:
    """Three or four digits, and more of what is nearly nothing or nearly one."""
    if 0 < value < 0.1:
        return f"{value:.3f}"
    if 0.99 < value < 1:
        return f"{value:.4f}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"
