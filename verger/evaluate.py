"""`verger evaluate`: a recogniser judged on new photos, or on groups held out of those it was fitted on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from verger.errors import PhotoError, SettingError
from verger.evaluation import STRANGER, Judged, measure, worst_mistakes
from verger.evaluation_page import MISTAKES, render_evaluation
from verger.holding_out import Protocol, judge_held_out, read_vectors
from verger.image import thumbnail
from verger.labels import LabelPath, folder_of, label_path, source_name
from verger.manifest import read_manifest
from verger.photos import Photo, list_photos
from verger.reading import read_ahead, read_photo
from verger.recogniser import Answer
from verger.recognition import Recognition, load
from verger.settings import Limits
from verger.stages import Progress
from verger.storage import Place

PAGE = "evaluation.html"
SIDE_PIXELS = 160
GROUP_PHOTOS = 16


def evaluate(
    source: Place,
    dest: Place,
    label_level: int | None = None,
    hold_out_level: int | None = None,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Judge the recogniser of a finished run, and write DEST/evaluation.html.

    Args:
        source: photos in folders that name what they show. Where a level is held out, the photos of the run itself.
        dest: of a finished run.
        label_level: which parent folder is the label; None for that of the run.
        hold_out_level: folders of this level are held out in turn, and judged by what was fitted on the others; None
            to judge new photos.
        progress: called with the number of photos judged.

    Returns:
        The figures of `verger.evaluation.measure`, with `source`, `label_level` and `hold_out_level`.

    Raises:
        SettingError: no finished run, no recogniser, no photo, or levels that leave nothing to hold out or to predict.
    """
    manifest = read_manifest(dest)
    run_level = int(manifest["settings"]["label_level"])
    level = label_level or run_level
    limits = Limits(int(manifest["settings"]["max_bytes"]), int(manifest["settings"]["max_pixels"]))
    if hold_out_level is not None:
        judged = _hold_out(source, dest, manifest, level, hold_out_level)
    else:
        if level < run_level:
            received = f"--label-level {level}, of a run with --label-level {run_level}"
            raise SettingError("a label level that the run has learnt", received, f"Give {run_level} or more.")
        judged = judge_new((source, dest), load(dest), (run_level, level), limits, progress)
    figures = {
        **measure(judged),
        "source": source.uri,
        "label_level": level,
        "hold_out_level": hold_out_level,
        "fitted_on_these": hold_out_level is None and source.uri == manifest["source"],
    }
    shown = worst_mistakes(judged, MISTAKES)
    pictures = {i: _thumbnail(source, judged.paths[i], limits) for i in shown}
    dest.write(PAGE, render_evaluation(figures, judged, pictures).encode())
    return figures


def _hold_out(source: Place, dest: Place, manifest: Mapping[str, Any], level: int, hold_out_level: int) -> Judged:
    if source.uri != manifest["source"]:
        received = f"{source.uri}, while {dest.uri} holds vectors of {manifest['source']}"
        raise SettingError("the SOURCE of the run, for --hold-out-level", received, "Give that SOURCE.")
    projection = manifest["projection"]
    protocol = Protocol(
        level, hold_out_level, int(projection["components"]), bool(projection["standardised"]), source_name(source.uri)
    )
    return judge_held_out(*read_vectors(dest), protocol)


def judge_new(
    places: tuple[Place, Place],
    recognition: Recognition,
    levels: tuple[int, int],
    limits: Limits,
    progress: Progress,
) -> Judged:
    """The recogniser's word on the photos of a place, beside what their folders say; what cannot be read is left out.

    Args:
        places: the photos, and DEST, which may lie among them.
        recognition: of a run.
        levels: the label level of the run, and the one that is asked for: as deep, or nearer to the root.
        limits: larger photos are left out.
        progress: called with the number of photos judged.
    """
    (source, dest), (run_level, level) = places, levels
    leaves = recognition.recogniser.labels
    coarse = [path[min(level - run_level, len(path) - 1) :] for path in leaves]
    labels = tuple(sorted(set(coarse)))
    belongs = np.array([[float(path == label) for label in labels] for path in coarse])  # (leaves, c)
    found: list[tuple[str, Any, Answer]] = []
    for photo, probabilities, answer in _answers(source, dest, recognition, limits):
        found.append((photo.path, probabilities @ belongs, answer))
        progress(len(found))
    if not found:
        raise SettingError("photos that can be read", f"{source.uri}, with none", "Check SOURCE.")
    truth = [_number(label_path(folder_of(path), level, source_name(source.uri)), labels) for path, _, _ in found]
    paths, probabilities, answers = zip(*found, strict=True)
    return Judged(labels, paths, np.array(truth), np.stack(probabilities), answers)


def _answers(
    source: Place, dest: Place, recognition: Recognition, limits: Limits
) -> Iterator[tuple[Photo, Any, Answer]]:
    photos = list_photos(source, dest, 1).photos

    def read(photo: Photo) -> tuple[Photo, bytes | PhotoError]:
        return photo, read_photo(source, photo, limits.max_bytes)

    for group in read_ahead(read, photos, GROUP_PHOTOS):
        for photo, content in group:
            pixels = recognition.pixels(content, limits) if isinstance(content, bytes) else content
            if not isinstance(pixels, PhotoError):
                probabilities, distances = recognition.judge(pixels[None])
                yield photo, probabilities[0], recognition.recogniser.answers(probabilities, distances)[0]


def _number(label: LabelPath, labels: Sequence[LabelPath]) -> int:
    """The number of a label path; where other folders lead there, that of the only label with its name."""
    if label in labels:
        return labels.index(label)
    named = [i for i, other in enumerate(labels) if other[0] == label[0]]
    return named[0] if len(named) == 1 else STRANGER


def _thumbnail(source: Place, path: str, limits: Limits) -> bytes:
    """A small JPEG; nothing where the photo cannot be read any more."""
    try:
        return thumbnail(source.read(path), SIDE_PIXELS, limits.max_pixels)
    except (OSError, PhotoError):
        return b""
