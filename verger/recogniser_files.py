"""What a run leaves for recognising: `recogniser.npz`, `recogniser.onnx` and `gallery.npz`, in DEST/model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from verger.components import Sampled
from verger.gallery import GALLERY, SIDE_PIXELS, choose_photos, gallery_bytes
from verger.labels import folder_of, label_path, source_name
from verger.learning import LabelledPhoto, fit_recogniser
from verger.previews import make_thumbnails
from verger.projection import Projection, Statistics
from verger.recogniser import RECOGNISER, RECOGNISER_GRAPH
from verger.resume import Work
from verger.settings import Settings
from verger.storage import Place

if TYPE_CHECKING:
    from pyspark import SparkContext


def write_recogniser(
    context: "SparkContext",
    work: Work,
    statistics: Statistics,
    projection: Projection,
    sample: Sequence[Sampled],
    settings: Settings,
) -> None:
    """Fit a recogniser and write it, with a gallery of what it knows; where labels do not allow one, none is left.

    They allow it where there are two of at least five photos each, in no more than `projection.MAX_FOLDERS` folders.
    """
    dest = work.dest
    remove_recogniser(dest)
    if not statistics.folders:
        return
    source = source_name(work.source.uri)
    label_of = {name: label_path(name, settings.label_level, source) for name in statistics.folders}
    photos = [LabelledPhoto(folder_of(one.path), one.vector) for one in sorted(sample, key=lambda one: one.path)]
    recogniser = fit_recogniser(statistics, projection, label_of, photos)
    if recogniser is None:
        return
    dest.write(RECOGNISER, recogniser.to_bytes())
    if work.backbone.engine == "onnx":  # a network that TensorFlow runs has no ONNX form
        from verger.recogniser_graph import recogniser_graph

        dest.write(RECOGNISER_GRAPH, recogniser_graph(work.backbone.graph, projection, recogniser))
    chosen = choose_photos(work.listing.photos)
    images = make_thumbnails(context, work.source, chosen, settings.limits, SIDE_PIXELS)
    dest.write(GALLERY, gallery_bytes([(photo.label, images[photo.path]) for photo in chosen]))


def remove_recogniser(dest: Place) -> None:
    """Take away what an earlier run left: it may know labels that are gone."""
    for file in (RECOGNISER, RECOGNISER_GRAPH, GALLERY):
        dest.delete(file)
