"""Leave-group-out cross-validation from the vectors that a run kept: nothing is embedded again, and no Spark is needed.

For each fold, everything is fitted anew without it: projection, discriminant, temperature and threshold. The statistics
of the rest are those of all photos less those of the fold.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verger.components import vector_blocks
from verger.errors import SettingError
from verger.evaluation import STRANGER, Judged
from verger.labels import LabelPath, folder_of, label_path
from verger.learning import LabelledPhoto, fit_recogniser
from verger.parts import part_names
from verger.projection import Projection, Statistics, fit_projection
from verger.recogniser import Recogniser
from verger.storage import Place

FOLDS = 10
SAMPLE_PHOTOS = 2_000  # on which temperature and threshold are fitted

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Protocol:
    """What is predicted, what is held out, and with how many components."""

    label_level: int
    hold_out_level: int  # 0: single photos, so that neighbours land on both sides, which shows how much that flatters
    components: int
    standardised: bool = False
    source: str = ""  # name of SOURCE
    seed: int = 0  # another one divides the groups into other folds


def read_vectors(dest: Place) -> tuple[Vectors, list[str]]:
    """All vectors (n, d) that a run kept, and the paths of their photos, in the order of paths."""
    blocks = list(vector_blocks(dest, part_names(dest, "vectors")))
    paths = [path for _, some in blocks for path in some]
    order = sorted(range(len(paths)), key=paths.__getitem__)
    return np.concatenate([vectors for vectors, _ in blocks])[order], [paths[i] for i in order]


def divide(folders: Sequence[str], protocol: Protocol) -> dict[str, int]:
    """The fold of every folder: groups of a label are spread over the folds, and no group is in two of them.

    Raises:
        SettingError: nothing would be left to learn a label from.
    """
    group_of = {name: label_path(name, protocol.hold_out_level, protocol.source) for name in folders}
    label_of = {group_of[name]: label_path(name, protocol.label_level, protocol.source) for name in folders}
    of_label: dict[LabelPath, list[LabelPath]] = {}
    for group in sorted(label_of):
        of_label.setdefault(label_of[group], []).append(group)
    if protocol.hold_out_level >= protocol.label_level or all(len(groups) == 1 for groups in of_label.values()):
        raise SettingError(
            "labels with several folders below them, some of which can be held out",
            f"--label-level {protocol.label_level} --hold-out-level {protocol.hold_out_level}",
            "Give for instance --label-level 2 --hold-out-level 1, for photos in KIND/VARIETY/ folders.",
        )
    rng = np.random.default_rng(protocol.seed)
    order = [groups[i] for groups in of_label.values() for i in rng.permutation(len(groups))]
    count = min(FOLDS, len(order))
    fold_of = {group: i % count for i, group in enumerate(order)}
    return {name: fold_of[group_of[name]] for name in folders}


def judge_held_out(vectors: Vectors, paths: Sequence[str], protocol: Protocol) -> Judged:
    """Every photo, judged by a recogniser that never saw its group; a stranger where that was all of its label.

    Args:
        vectors: (n, d).
        paths: of the n photos, sorted.
        protocol: what is predicted, and what is held out.
    """
    folders = [folder_of(path) for path in paths]
    if protocol.hold_out_level:
        units, divided = folders, protocol
    else:  # as if every photo had a folder of its own
        units, divided = list(paths), replace(protocol, label_level=protocol.label_level + 1, hold_out_level=1)
    fold_of = divide(sorted(set(units)), divided)
    folds = np.array([fold_of[unit] for unit in units])
    labels = sorted({label_path(name, protocol.label_level, protocol.source) for name in set(folders)})
    number = {label: i for i, label in enumerate(labels)}
    truth = np.array([number[label_path(name, protocol.label_level, protocol.source)] for name in folders])
    probabilities = np.zeros((len(paths), len(labels)))
    answers: list[Any] = [None] * len(paths)
    for fold, projection, recogniser in fit_without(vectors, folders, folds, protocol):
        held = np.flatnonzero(folds == fold)
        components = projection.apply(vectors[held])
        columns = np.array([number[label] for label in recogniser.labels])
        truth[held] = np.where(np.isin(truth[held], columns), truth[held], STRANGER)
        probabilities[np.ix_(held, columns)] = own = recogniser.probabilities(components)
        distances = recogniser.distances(components, projection.residuals(vectors[held], components))
        for i, answer in zip(held, recogniser.answers(own, distances), strict=True):
            answers[i] = answer
    return Judged(tuple(labels), paths, truth, probabilities, answers, folds)


def fit_without(
    vectors: Vectors, folders: Sequence[str], folds: NDArray[np.int64], protocol: Protocol
) -> Iterator[tuple[int, Projection, Recogniser]]:
    """For each fold its number, and what is fitted on all the others."""
    names = np.array(folders, dtype=object)
    parts = {int(fold): Statistics.of(vectors[folds == fold], names[folds == fold]) for fold in np.unique(folds)}
    label_of = {name: label_path(name, protocol.label_level, protocol.source) for name in set(folders)}
    whole: Statistics | None = None
    for part in parts.values():
        whole = whole.merge(part) if whole else part
    assert whole is not None  # noqa: S101  (there is a fold)
    for fold, part in parts.items():
        statistics = whole.without(part)
        most = min(protocol.components, statistics.count)
        projection = fit_projection(statistics, most, standardise=protocol.standardised)
        seen = np.flatnonzero(folds != fold)
        sample = seen[:: max(1, -(-len(seen) // SAMPLE_PHOTOS))]
        photos = [LabelledPhoto(folders[i], vectors[i]) for i in sample]
        learnt = fit_recogniser(statistics, projection, label_of, photos)
        if learnt is None:
            advice = "Add photos, or hold out another level."
            raise SettingError("two labels of five photos or more in every fold", "fewer", advice)
        yield fold, projection, learnt.recogniser
