"""A finished run as one table: a row a photo, with what the map shows of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from verger.errors import SettingError
from verger.explore.neighbours import nearest
from verger.labels import folder_of
from verger.manifest import read_manifest
from verger.parts import components_path, part_names, vector_matrix
from verger.stages import Progress
from verger.storage import Place

MOST_PHOTOS = 200_000  # neighbours take time that grows with the square: 100,000 take 40 seconds of two cores


class Rows(NamedTuple):
    """The photos of a run, in the order of the paths within each part."""

    paths: Sequence[str]
    labels: Sequence[str]
    components: NDArray[np.float32]  # (n, k)
    left_out: int  # photos that are not shown, because they are too many


def read_rows(dest: Place, most: int = MOST_PHOTOS) -> Rows:
    """Read the components of a finished run; of more than `most` photos, every second, third, … so that they fit.

    Raises:
        SettingError: DEST holds no finished run, or not one photo.
    """
    manifest = read_manifest(dest)
    kept, photos = manifest["projection"]["components"], manifest["photos"]
    step = max(1, -(-(photos["found"] - photos["failed"]) // most))
    paths, labels, components, seen = [], [], [np.empty((0, kept), np.float32)], 0
    for name in part_names(dest, "components"):
        with dest.open(components_path(name)) as content:
            table = pq.read_table(content)
        some = np.arange(-seen % step, len(table), step)
        seen += len(table)
        table = table.take(pa.array(some))
        paths += table["path"].to_pylist()
        labels += table["label"].to_pylist()
        components.append(vector_matrix(table["components"], kept))
    if not paths:
        raise SettingError("a run with photos to show", f"{dest.uri}, which has none", "Run it on some photos first.")
    return Rows(paths, labels, np.concatenate(components), seen - len(paths))


def photo_table(rows: Rows, photo_address: str | None, progress: Progress = lambda _: None) -> pa.Table:
    """The rows as Embedding Atlas takes them.

    Args:
        rows: n photos.
        photo_address: with "{}" for a photo's row, where its picture is; None where there are no pictures.
        progress: called with the number of photos whose neighbours are known.

    Returns:
        id, path, label, folder, x and y (the first two components; y is 0 where there is but one), `neighbours` (rows
        and distances in all components, nearest first), `neighbours_alike` (the share of them that have the same
        label: what is far below 1 lies among other fruit, or bears the wrong name), and `photo` (an address).
    """
    count = len(rows.paths)
    found, apart = nearest(rows.components, progress=progress)
    _, codes = np.unique(np.array(rows.labels, np.str_), return_inverse=True)
    alike = (codes[found] == codes[:, None]).mean(axis=1) if found.shape[1] else np.ones(count)
    x, y = (np.pad(rows.components, ((0, 0), (0, 1)))[:, i] for i in range(2))
    columns: dict[str, Any] = {
        "id": np.arange(count, dtype=np.int32),
        "path": rows.paths,
        "label": rows.labels,
        "folder": [folder_of(path) for path in rows.paths],
        "x": x,
        "y": y,
        "neighbours": pa.StructArray.from_arrays([_lists(found), _lists(apart)], ["ids", "distances"]),
        "neighbours_alike": alike.astype(np.float32),
    }
    if photo_address:
        columns["photo"] = [photo_address.format(row) for row in range(count)]
    return pa.table(columns)


def _lists(values: NDArray[Any]) -> pa.ListArray:
    """A (n, k) array as n lists of k."""
    count, length = values.shape
    return pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * length, pa.array(values.reshape(-1)))


def label_places(table: pa.Table) -> list[dict[str, Any]]:
    """Each label once, at the median of its photos; where room is short, labels of many photos come first."""
    labels = np.array(table["label"].to_pylist(), np.str_)
    x, y = table["x"].to_numpy(), table["y"].to_numpy()
    places = []
    for label in np.unique(labels).tolist():
        own = labels == label
        place = {"x": float(np.median(x[own])), "y": float(np.median(y[own]))}
        places.append({"content": label, **place, "level": 0, "priority": int(own.sum())})
    return places
