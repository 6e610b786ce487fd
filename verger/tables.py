"""What commands print for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from verger.backbone import BackboneInfo
from verger.storage import Place

MILLION = 1_000_000


def closing(manifest: Mapping[str, Any], dest: Place) -> Table:
    """The closing table of a run, and what `verger show` prints."""
    photos, network, projection = manifest["photos"], manifest["backbone"], manifest["projection"]
    seconds = manifest["seconds"]
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("Photos", _photos(photos))
    if photos["failed"]:
        table.add_row("Failed", ", ".join(f"{count} {cause}" for cause, count in photos["causes"].items()))
    if photos["left_out"]:
        table.add_row("Left out", ", ".join(f"{count} {reason}" for reason, count in photos["left_out"].items()))
    table.add_row("Network", f"{network['name']}, {network['vector_length']} numbers a photo, {network['fingerprint']}")
    table.add_row(
        "Components",
        f"{projection['components']} of {network['vector_length']} keep {projection['explained_variance']:.1%} "
        f"of the {'standardised ' if projection['standardised'] else ''}variance",
    )
    if recogniser := manifest.get("recogniser"):
        table.add_row("Recogniser", _recogniser(recogniser))
    stages = ", ".join(f"{stage} {taken:.1f}" for stage, taken in seconds.items() if stage != "total")
    table.add_row("Time", f"{seconds['total']:.1f} s ({stages})")
    if photos["embedded"]:
        table.add_row("Rate", f"{manifest['embed_photos_per_second']:,.1f} photos/s while embedding")
    table.add_row("Results", dest.uri)
    table.add_row("Report", f"{dest.uri}/report.html")
    return table


def _photos(photos: Mapping[str, Any]) -> str:
    parts = [f"{photos['found']:,} found", f"{photos['embedded']:,} embedded"]
    parts += [f"{photos[key]:,} {key}" for key in ("reused", "failed") if photos[key]]
    return ", ".join(parts)


def _recogniser(figures: Mapping[str, Any]) -> str:
    held = "whole folders" if figures["held_out"] == "folders" else "neighbouring photos, so hopeful"
    return f"{figures['labels']:,} labels; {figures['top1']:.1%} of photos held out ({held}) named rightly"


def forgotten(receipt: Mapping[str, Any], dest: Place, *, dry_run: bool) -> str:
    """What `verger forget` did, or would do."""
    versions = receipt["versions"]
    count = f"{receipt['photos']:,} photos" + (f" and {versions:,} older versions of objects" if versions else "")
    if dry_run:
        return f"{count} would be forgotten; nothing was changed."
    lines = [f"{count} are forgotten; {receipt['receipt']} says so by digest."]
    if versions is None:
        lines += [f"Older versions and snapshots that {dest.uri} may keep were not reached: its own tools delete them."]
    return "\n".join([*lines, "Run again on the same DEST for components and a report without them."])


def backbones(known: Sequence[BackboneInfo]) -> Table:
    """The built-in networks."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("Network", "Vector", "Input", "Weights", "At hand", "Source"):
        table.add_column(heading, overflow="fold")
    for info in known:
        side = f"{info.image_size}×{info.image_size}"
        size = f"{info.bytes / MILLION:.1f} MB"
        table.add_row(info.name, str(info.vector_length), side, size, "yes" if info.at_hand else "no", info.source)
    return table


def answers(found: Sequence[Mapping[str, Any]]) -> Table:
    """What photos show, in words."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("Photo", "Answer", "Guesses"):
        table.add_column(heading, overflow="fold")
    for one in found:
        shown = one["guesses"] if one["known"] else ()  # guesses at what it does not know would only mislead
        guesses = ", ".join(f"{guess['label']} {guess['probability']:.0%}" for guess in shown)
        table.add_row(one["photo"], _answer(one), guesses)
    return table


def _answer(one: Mapping[str, Any]) -> str:
    if one["error"]:
        return f"cannot be read: {one['error']}"
    if not one["known"]:
        return "nothing I know"
    if not one["sure"]:
        return f"not sure; perhaps {one['guesses'][0]['label']}"
    best = one["guesses"][0]
    perhaps = f"; perhaps {best['label']}" if one["label"] in best["parents"] else ""
    return f"{one['label']}, {one['probability']:.0%} sure{perhaps}"


def evaluation(figures: Mapping[str, Any], page: str) -> Table:
    """The figures of an evaluation."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("Photos", f"{figures['photos']:,}")
    table.add_row("First guess right", _share(figures["top1"]))
    table.add_row("Right among three", _share(figures["top3"]))
    table.add_row("Answered for sure", f"{_share(figures['coverage'])}, {_share(figures['accuracy_when_sure'])} right")
    table.add_row("Called unknown", f"{_share(figures['unknown'])}, though known")
    if "strangers" in figures:
        strangers = figures["strangers"]
        table.add_row(
            "Other things", f"{_share(strangers['unknown'])} of {strangers['photos']:,} photos called unknown"
        )
    table.add_row("Calibration error", _share(figures["ece"]))
    if "folds" in figures:
        folds = figures["folds"]
        spread = f"mean {_share(folds['mean'])}, from {_share(folds['worst'])} to {_share(folds['best'])}"
        table.add_row(f"{folds['count']} folds", spread)
    table.add_row("Page", page)
    return table


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
