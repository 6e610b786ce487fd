"""The photos of the map as the page carries them: words as JSON, numbers as arrays in base64.

A photo takes about 60 bytes and its file's name: its folder is named once, its position takes two 16-bit numbers, and
each of its first components, by which the page finds neighbours, one byte.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verger.report_words import NO_LABEL, natural

# Ordered so that neighbours differ; a hue that is used again comes back darker or lighter, and with another marker.
HUES: tuple[str, ...] = ("#2171b5", "#e4572e", "#2e9e4f", "#8c4fbf", "#e0a100", "#17a2a2")
HUES = (*HUES, "#d6498f", "#7a5230", "#8fbf1f", "#5566d9", "#b02a37", "#6b7f1a")
SHADES = ((255, 0.0), (0, 0.4), (255, 0.45))  # (towards black 0 or white 255, by how much)
MARKERS = 5  # shapes that the page can draw; report_raster.js has them in this order


@dataclass(frozen=True)
class Map:
    """The photos of the map, as columns."""

    paths: Sequence[str]  # n
    labels: Sequence[str]  # n
    components: NDArray[np.float32]  # (n, m), m <= k: the map shows two of them, neighbours are found by all
    thumbnails: Mapping[int, bytes]  # place among the n → a small JPEG without metadata; b"" where there is none


def map_words(shown: Map) -> dict[str, Any]:
    """What the page needs besides arrays: the names of labels, folders and files, how labels look, and scales."""
    looks = label_looks(shown.labels)
    places = {label: at for at, label in enumerate(looks)}
    folders = _folders(shown)
    return {
        "labels": [label or NO_LABEL for label in looks],
        "looks": list(looks.values()),
        "folders": [[folder, places[label]] for folder, label in folders],
        "names": [path.rpartition("/")[2] for path in shown.paths],
        "scales": [float(f"{step:.6g}") for step in _steps(shown.components, 127)],
        "pictured": [at for at, picture in shown.thumbnails.items() if picture],
    }


def map_arrays(shown: Map) -> dict[str, str]:
    """Numbers of every photo, in base64, little-endian; and its thumbnails.

    `folders` (n,), uint16, or uint32 where there are more than 65,536: places in `folders` of the words. `positions`
    int16 (n, 2): the first two components, in a unit of their own. `components` int8 (n, m): each component in its own
    of the words' `scales`. `thumbnails`: a line of base64 for each of the words' `pictured`.
    """
    numbers = {folder: at for at, folder in enumerate(_folders(shown))}
    of_folders = [
        numbers[path.rpartition("/")[0], label] for path, label in zip(shown.paths, shown.labels, strict=True)
    ]
    plane = np.zeros((len(shown.paths), 2), np.float32)
    plane[:, : shown.components.shape[1]] = shown.components[:, :2]
    positions = np.rint(plane / _steps(plane, 32767).max(initial=1e-30))  # one unit for both, so that shapes stay true
    bytes_each = np.rint(shown.components / _steps(shown.components, 127))
    pictures = [base64.b64encode(picture).decode("ascii") for picture in shown.thumbnails.values() if picture]
    return {
        "folders": _base64(np.array(of_folders, "<u2" if len(numbers) <= 65_536 else "<u4")),
        "positions": _base64(positions.astype("<i2")),
        "components": _base64(bytes_each.astype(np.int8)),
        "thumbnails": "\n".join(pictures),
    }


def label_looks(labels: Iterable[str]) -> dict[str, tuple[str, int]]:
    """The colour and marker of each label, in natural order. Up to twelve labels get a hue each; of more, those with
    the same first word (`Apple Golden 1`, `Apple Pink Lady`) share a hue, and differ by shade and marker.
    """
    ordered = sorted(sorted(set(labels)), key=natural)
    families = {label: re.split(r"[\s_/-]", label.strip())[0].casefold() for label in ordered}
    if len(ordered) <= len(HUES) or len(set(families.values())) < 6:
        families = {label: label for label in ordered}
    hues = {family: HUES[i % len(HUES)] for i, family in enumerate(dict.fromkeys(families.values()))}
    uses: Counter[str] = Counter()
    looks = {}
    for label in ordered:
        hue = hues[families[label]]
        towards, by = SHADES[uses[hue] % len(SHADES)]
        channels = (round(int(hue[i : i + 2], 16) * (1 - by) + towards * by) for i in (1, 3, 5))
        looks[label] = ("#" + "".join(f"{channel:02x}" for channel in channels), uses[hue] % MARKERS)
        uses[hue] += 1
    return looks


def script_json(value: Any) -> str:
    """JSON that can stand inside a script element: no `<` in it can end the element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _folders(shown: Map) -> list[tuple[str, str]]:
    """Every (folder, label), in the order in which they come."""
    pairs = zip((path.rpartition("/")[0] for path in shown.paths), shown.labels, strict=True)
    return list(dict.fromkeys(pairs))


def _steps(columns: NDArray[np.float32], most: int) -> NDArray[np.float64]:
    """What one unit of each column is worth, when its largest number is to become `most`."""
    steps: NDArray[np.float64] = np.abs(columns).max(axis=0, initial=0).astype(np.float64) / most
    return np.where(steps > 0, steps, 1.0)


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
