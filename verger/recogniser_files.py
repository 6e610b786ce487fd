"""What a run leaves for recognising: `recogniser.npz`, `recogniser.onnx` and `gallery.npz`, in DEST/model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from verger.components import Sample
from verger.evaluation import confusions, measure
from verger.gallery import GALLERY, SIDE_PIXELS, choose_photos, gallery_bytes
from verger.labels import folder_of, label_path, source_name
from verger.learning import LabelledPhoto, Learnt, fit_recogniser
from verger.previews import make_thumbnails
from verger.projection import Projection, Statistics
from verger.recogniser import RECOGNISER, RECOGNISER_GRAPH
from verger.resume import Work
from verger.settings import Settings
from verger.storage import Place

if TYPE_CHECKING:
    from pyspark import SparkContext

CONFUSIONS = 20


class Recognised(NamedTuple):
    """What a run says of its recogniser, by photos held out while it was fitted."""

    figures: dict[str, Any] | None = None  # the manifest's; None where labels allow no recogniser
    confusions: Sequence[tuple[str, str, int]] = ()  # what it is, what was said, of how many photos


def write_recogniser(
    context: "SparkContext",
    work: Work,
    statistics: Statistics,
    projection: Projection,
    sample: Sample,
    settings: Settings,
) -> Recognised:
    """Fit a recogniser and write it, with a gallery of what it knows; where labels do not allow one, none is left.

    They allow it where there are two of at least five photos each, in no more than `projection.MAX_FOLDERS` folders.
    Returns how it did on photos held out.
    """
    dest = work.dest
    remove_recogniser(dest)
    if not statistics.folders:
        return Recognised()
    source = source_name(work.source.uri)
    label_of = {name: label_path(name, settings.label_level, source) for name in statistics.folders}
    chosen = sorted((sample.paths[i], number) for number, i in enumerate(sample.chosen))
    learnt = fit_recogniser(
        statistics, projection, label_of, [LabelledPhoto(folder_of(path), sample.vectors[i]) for path, i in chosen]
    )
    if learnt is None:
        return Recognised()
    recogniser = learnt.recogniser
    dest.write(RECOGNISER, recogniser.to_bytes())
    if work.backbone.engine == "onnx":  # a network that TensorFlow runs has no ONNX form
        from verger.recogniser_graph import recogniser_graph

        dest.write(RECOGNISER_GRAPH, recogniser_graph(work.backbone.graph, projection, recogniser))
    shown = choose_photos(work.listing.photos)
    images = make_thumbnails(context, work.source, shown, settings.limits, SIDE_PIXELS)
    dest.write(GALLERY, gallery_bytes([(photo.label, images[photo.path]) for photo in shown]))
    return recognised(learnt, statistics.count)


def recognised(learnt: Learnt, photos: int) -> Recognised:
    """The figures of a recogniser, and what it takes for what, by photos held out while it was fitted."""
    judged = learnt.judge()
    figures = measure(judged)
    named = {name: figures[name] for name in ("top1", "coverage", "accuracy_when_sure", "unknown", "ece")}
    by = "folders" if learnt.whole_folders else "neighbours"
    about = {"labels": len(judged.labels), "photos": photos, "judged": figures["photos"], "held_out": by}
    return Recognised({**about, **named}, confusions(judged, CONFUSIONS))


def remove_recogniser(dest: Place) -> None:
    """Take away what an earlier run left: it may know labels that are gone."""
    for file in (RECOGNISER, RECOGNISER_GRAPH, GALLERY):
        dest.delete(file)
