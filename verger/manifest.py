"""What happened, as `manifest.json`: written last, it is the commit mark of a run.

A folder without it is an unfinished run, and is never read as a result. Its keys are a contract; see docs/reference.md.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from verger import __version__
from verger.changes import count_changes
from verger.errors import SettingError
from verger.photos import Listing
from verger.projection import Projection
from verger.resume import Remaining, Work
from verger.settings import Settings
from verger.stages import Stages
from verger.storage import Place, open_place
from verger.vectors import EmbedResult

if TYPE_CHECKING:
    from pyspark import SparkContext

NAME = "manifest.json"


def count_photos(listing: Listing, embedded: EmbedResult, remaining: Remaining) -> dict[str, Any]:
    """What became of the photos; found = embedded + failed + reused."""
    return {
        "found": len(listing.photos),
        "embedded": embedded.embedded,
        "failed": len(embedded.failures),
        "reused": remaining.reused,
        "causes": dict(sorted(embedded.causes.items())),
        "left_out": dict(sorted(listing.left_out.items())),
    }


def describe(
    settings: Settings,
    stages: Stages,
    context: "SparkContext",
    work: Work,
    embedded: EmbedResult,
    projection: Projection,
    recogniser: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The manifest of a run. Nothing in it is secret or personal: settings hold no credential."""
    seconds, backbone = stages.seconds, work.backbone
    photos = count_photos(work.listing, embedded, work.remaining)
    return {
        "verger": __version__,
        "started": stages.started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": open_place(settings.source).uri,
        "settings": asdict(settings),
        "spark": {"version": context.version, "master": context.master, "cores": context.defaultParallelism},
        "backbone": {
            "name": backbone.name,
            "engine": backbone.engine,
            "fingerprint": backbone.fingerprint,
            "vector_length": backbone.vector_length,
            "image_size": backbone.image_size,
            "normalisation": backbone.normalisation,
            "precision": backbone.precision,
        },
        "photos": photos,
        "changes": count_changes(work, (path for path, _ in embedded.failures)),
        "projection": {
            "components": projection.components.shape[1],
            "explained_variance": projection.explained_variance,
            "standardised": projection.standardised,
            "asked": "kept" if settings.keep_projection else settings.components,
        },
        "recogniser": recogniser,
        "seconds": seconds,
        "embed_photos_per_second": round(photos["embedded"] / seconds["embed"], 1),
    }


def write_manifest(dest: Place, manifest: Mapping[str, Any]) -> None:
    """Write the commit mark. Everything else of the run must be written by then."""
    dest.write(NAME, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())


def remove_manifest(dest: Place) -> None:
    """Take the commit mark away, because what it speaks of is about to change."""
    dest.delete(NAME)


def last_manifest(dest: Place) -> dict[str, Any] | None:
    """The manifest of the last finished run; None where there is none that can be read."""
    try:
        return read_manifest(dest)
    except SettingError:
        return None


def read_manifest(dest: Place) -> dict[str, Any]:
    """The manifest of a finished run.

    Raises:
        SettingError: there is no finished run in DEST.
    """
    try:
        manifest = json.loads(dest.read(NAME))
    except FileNotFoundError as error:
        advice = f"Run first: verger run SOURCE --to {dest.uri}. A run that stopped halfway goes on where it was."
        raise SettingError("a finished run, with its manifest.json", f"{dest.uri}, without one", advice) from error
    except (OSError, ValueError) as error:
        raise SettingError("a readable manifest.json", f"{error}", "Run again on the same DEST.") from error
    if not isinstance(manifest, dict):
        raise SettingError("a manifest.json that Verger wrote", f"{type(manifest).__name__}", "Run again.")
    return manifest
