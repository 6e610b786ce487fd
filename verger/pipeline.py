"""The whole path, top to bottom: photo → vector → components → report → manifest. Read this file first."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from verger.backbone import load_backbone
from verger.calibration import keep_network, to_int8
from verger.checks import check_components, check_device, check_failures, check_places, read_kept_projection
from verger.claim import claimed
from verger.components import Picking, Sample, gather_statistics, project_parts
from verger.forget import leave_out_forgotten
from verger.manifest import describe, last_manifest, remove_manifest, write_manifest
from verger.model import write_model
from verger.parts import plan_parts, read_index, remove_strangers
from verger.photos import list_photos
from verger.projection import Projection, Statistics, fit_projection
from verger.recogniser_files import write_recogniser
from verger.report_files import Outcome, write_report
from verger.resume import Work, of_this_network, remaining_photos, settle
from verger.session import spark_context
from verger.settings import Settings
from verger.stages import Display, Progress, Quiet, Stages
from verger.storage import open_place
from verger.vectors import EmbedResult, embed_parts

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession


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
    with ExitStack() as stack:
        work = prepare(settings, stages, stack)
        with stages("start"):
            context = stack.enter_context(spark_context(settings.master, spark, settings.device))
        with stages("embed", len(work.remaining.photos)) as done:
            embedded, names = embed(context, work, settings, done)
        check_failures(embedded, len(work.listing.photos), settings.max_failed, work.dest)
        with stages("components", len(work.listing.photos)) as done:
            projection, statistics, sample = reduce(context, work, names, settings, done)
        with stages("recogniser"):
            learnt = write_recogniser(context, work, statistics, projection, sample, settings)
        with stages("report"):
            manifest = describe(settings, stages, context, work, embedded, projection, learnt.figures)
            remove_strangers(work.dest, names)  # once more: a worker of a killed run may have ended late
            outcome = Outcome(embedded, projection, sample, learnt.confusions)
            write_report(context, work, manifest, outcome, settings.limits)
        manifest["seconds"] = stages.seconds
        work.check_claim()
        write_manifest(work.dest, manifest)
    return manifest


def prepare(settings: Settings, stages: Stages, stack: ExitStack) -> Work:
    """Find out what there is to do, refuse what can be refused, and hold DEST against other runs until `stack` ends."""
    source, dest = open_place(settings.source), open_place(settings.dest)
    with stages("list") as done:
        check_device(settings)
        backbone = load_backbone(settings.backbone, **settings.network)
        check_places(source, dest)
        listing = leave_out_forgotten(list_photos(source, dest, settings.label_level, done), dest)
        check_components(settings, backbone, len(listing.photos))
    if settings.precision == "int8":
        with stages("calibrate"):
            backbone = to_int8(backbone, (source, dest), listing.photos, settings)
    projection = read_kept_projection(dest, backbone) if settings.keep_projection else None
    check_claim = stack.enter_context(claimed(dest))
    index = of_this_network(read_index(dest), backbone, dest, restart=settings.restart)
    remaining, previous = remaining_photos(listing.photos, index), last_manifest(dest)
    return Work(source, dest, backbone, listing, index, remaining, projection, check_claim, previous)


def embed(context: "SparkContext", work: Work, settings: Settings, done: Progress) -> tuple[EmbedResult, list[str]]:
    """Photos → vectors, on disk before anything reads them: the network runs once per photo. Names all parts."""
    work.check_claim()
    remove_manifest(work.dest)
    keep_network(work.dest, work.backbone)
    kept = settle(work.dest, work.index, work.listing.photos, work.remaining)
    cores = context.defaultParallelism
    parts = plan_parts(work.remaining.photos, settings.part_photos, cores, work.backbone.fingerprint)
    embedded = embed_parts(context, (work.source, work.dest), parts, work.backbone, settings, done)
    names = sorted({*kept, *(part.name for part in parts)})
    remove_strangers(work.dest, names)
    return embedded, names


def reduce(
    context: "SparkContext", work: Work, names: list[str], settings: Settings, done: Progress
) -> tuple[Projection, Statistics, Sample]:
    """Vectors → components, by a projection fitted on all of them or kept from an earlier run."""
    statistics = gather_statistics(context, work.dest, names)
    projection = work.projection or fit_projection(
        statistics, settings.components, standardise=settings.standardise, fingerprint=work.backbone.fingerprint
    )
    sample = project_parts(context, work.dest, names, projection, Picking(len(work.listing.photos)), done)
    write_model(work.dest, work.backbone, projection)
    return projection, statistics, sample
