"""The whole path, top to bottom: photo → vector → components → report → manifest. Read this file first."""

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from verger.backbone import load_backbone
from verger.checks import check_components, check_failures, check_places, read_kept_projection
from verger.components import gather_statistics, project_parts
from verger.manifest import count_photos, describe, remove_manifest, write_manifest
from verger.model import write_model
from verger.parts import plan_parts, read_index, remove_strangers
from verger.photos import list_photos
from verger.previews import make_map
from verger.projection import fit_projection
from verger.report import ReportData, render_report
from verger.resume import of_this_network, remaining_photos, settle
from verger.session import spark_session
from verger.settings import Settings
from verger.stages import Display, Quiet, Stages
from verger.storage import open_place
from verger.vectors import Limits, embed_parts

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MAP_PHOTOS = 2_000  # how many photos the report's map shows at most


def run(settings: Settings, spark: "SparkSession | None" = None, display: Display | None = None) -> dict[str, Any]:
    """Turn the photos of SOURCE into vectors, components, a model and a report in DEST.

    The same call on the same DEST goes on where an earlier one stopped, and embeds only what is new or changed.

    Args:
        settings: what to do.
        spark: a session to use and to leave running; by default one is started, and stopped at the end.
        display: shows progress.

    Returns:
        The manifest, as written to DEST/manifest.json.

    Raises:
        SettingError, MissingError: something cannot be used; nothing was changed.
        RunFailedError: the run had to stop; what is done stays done.
    """
    stages = Stages(display or Quiet())
    source, dest = open_place(settings.source), open_place(settings.dest)
    places, limits = (source, dest), Limits(settings.max_bytes, settings.max_pixels)

    # Everything that can be refused is refused here, before Spark starts and before anything changes.
    with stages("list") as done:
        backbone = load_backbone(
            settings.backbone,
            weights=settings.weights,
            engine=settings.engine,
            image_size=settings.image_size,
            normalisation=settings.normalisation,
        )
        check_places(source, dest)
        listing = list_photos(source, dest, settings.label_level, done)
        check_components(settings, backbone, len(listing.photos))
        projection = read_kept_projection(dest, backbone) if settings.keep_projection else None
        index = of_this_network(read_index(dest), backbone, dest, restart=settings.restart)
        remaining = remaining_photos(listing.photos, index)

    with ExitStack() as stack:
        with stages("start"):
            session = stack.enter_context(spark_session(settings.master, spark))

        # The network runs once per photo: its vectors are on disk before anything reads them.
        with stages("embed", len(remaining.photos)) as done:
            remove_manifest(dest)
            kept = settle(dest, index, remaining)
            cores = session.sparkContext.defaultParallelism
            parts = plan_parts(remaining.photos, settings.part_photos, cores, backbone.fingerprint)
            embedded = embed_parts(session, places, parts, backbone, limits, done)
            names = sorted({*kept, *(part.name for part in parts)})
            remove_strangers(dest, names)
        check_failures(embedded, len(listing.photos), settings.max_failed, dest)

        with stages("components", len(listing.photos)) as done:
            if projection is None:
                statistics = gather_statistics(session, dest, names)
                projection = fit_projection(
                    statistics,
                    settings.components,
                    standardise=settings.standardise,
                    fingerprint=backbone.fingerprint,
                )
            every = -(-len(listing.photos) // MAP_PHOTOS)
            sample = project_parts(session, dest, names, projection, every, done)
            write_model(dest, backbone, projection)

        with stages("report"):
            photos = make_map(session, source, sample, listing.photos, limits)
            counts = count_photos(listing, embedded, remaining)
            manifest = describe(settings, stages, session, backbone, counts, projection)
            labels = Counter(photo.label for photo in [*embedded.embedded, *remaining.kept])
            shown = ReportData(labels, projection.spectrum, projection.total_variance, photos, embedded.failures)
            dest.write("report.html", render_report(manifest, shown).encode())

    manifest["seconds"] = stages.seconds
    write_manifest(dest, manifest)
    return manifest
