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
