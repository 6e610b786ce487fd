"""The numbers and pictures of the slides, from where they were measured. A number that is not found is an error.

Three sources: a run (its manifest, projection, components and photos), the measurements in `benchmarks`, and the
package's own estimates (`costs.py`). No measurement and no price is typed into the slides.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from costs import REGION, reckon

from verger.backbone import load_backbone
from verger.calibration import INT8_NETWORK
from verger.checks import PROJECTION
from verger.errors import PhotoError, SettingError
from verger.image import thumbnail
from verger.manifest import read_manifest
from verger.parts import components_path, part_names, vector_matrix
from verger.pricing.duration import PHOTOS_PER_SECOND_PER_VCPU
from verger.pricing.prices import load_prices
from verger.projection import Projection
from verger.settings import Settings
from verger.storage import Place, open_place

ROOT = Path(__file__).parents[2]
MAP_PHOTOS = 160
STRIP_PHOTOS = 12  # on the first slides, each of another label
THUMBNAIL_PIXELS, STRIP_PIXELS = 96, 256
SHARES = (0.80, 0.90, 0.95)

# Where benchmarks/RESULTS.md says it: the first group of each pattern is the number.
MEASURED = {
    "verger_of_limit": r"\| Verger, embedding stage \| \*\*([\d.]+)\*\*",
    "daft_of_limit": r"\| Daft [\d.]+, embedding alone \| ([\d.]+)",
    "reference_of_limit": r"\| the reference, embedding, 9,800 photos \| ([\d.]+)",
    "times_reference": r"\| the reference, embedding, 9,800 photos \|.*?\*\*([\d.]+)\*\* times as fast",
    "times_reference_thousand": r"\| the reference, embedding, 2,000 and 1,000 photos \|.*?and ([\d.]+) times",
    "times_spark_pca": r"\| Spark ML's PCA: fit, transform, write \|.*?\*\*([\d.]+)\*\* times as fast",
    "photos": r"224, ([\d,]+) real photos of 100×100",
    "embed_seconds": r"Seconds of that whole run:.*?embed ([\d.]+)",
    "components_seconds": r"Seconds of that whole run:.*?components ([\d.]+)",
    "slow_storage": r"\| 40 ms added to every read,.*?\| ([\d.]+) \|",
    "large_photos": r"\| 200 real photos enlarged to 12 megapixels:.*?\| ([\d.]+) times as fast",
    "worker_megabytes": r"\| largest memory of a worker, whole run:.*?\| ([\d.]+) MB",
    "worker_megabytes_fourfold": r"\| largest memory of a worker, whole run:.*?MB, ([\d.]+) MB",
    "start_seconds": r"From the shell to the prompt, medians of three: ([\d.]+) s",
    "lite0_accuracy": r"\| efficientnet_lite0 \|(?:.*\n)*?\| +\| 224 \| float32 \|[^%]*?([\d.]+) % \|",
    "mobilenet_accuracy": r"\| mobilenet_v2 \|(?:.*\n)*?\| +\| 224 \| float32 \|[^%]*?([\d.]+) % \|",
    "list_ten_million_seconds": r"\| 10,000,000 \| ([\d.]+) \|",
    "driver_ten_million_megabytes": r"\| 10,000,000 \|.*\| ([\d,]+) \|",
    "answers_per_second": r"\| the server, 20 clients \| ([\d.]+)",
}
# The same in benchmarks/RECOGNISER.md. Of the shops, what Verger does, on the photos kept for reporting.
_SHOPS = r"what Verger does\)\*\* \| [\d.]+ / \*\*"
RECOGNISED = {
    "shops_coarse": _SHOPS + r"([\d.]+)",
    "shops_fine": _SHOPS + r"[\d.]+\*\* \| [\d.]+ / \*\*([\d.]+)",
    "shops_calibration_error": _SHOPS + r".*\| ([\d.]+) \|\n",
    "shops_false_alarms": r"\(\*\*what Verger does\*\*\) \| ([\d.]+) \|",
    "packages_unknown": r"\(\*\*what Verger does\*\*\) \| [\d.]+ \| [\d.]+ \| ([\d.]+) \|",
    "varieties": r"On all [\d,]+ photos(?:.|\n)*?mean ([\d.]+), folds from",
    "varieties_worst": r"On all [\d,]+ photos(?:.|\n)*?folds from ([\d.]+) to",
    "varieties_best": r"On all [\d,]+ photos(?:.|\n)*?folds from [\d.]+ to ([\d.]+)",
    "varieties_sure": r"On all [\d,]+ photos(?:.|\n)*?([\d.]+) % sure and",
    "varieties_right_when_sure": r"On all [\d,]+ photos(?:.|\n)*?% sure and ([\d.]+) %",
}


def gather(run: str, folder: Path) -> dict[str, Any]:
    """Every number of the slides; thumbnails are written to `folder`.

    Args:
        run: DEST of a finished run, whose photos are still there.
        folder: receives the pictures.

    Raises:
        SettingError: the run or a number is missing; the message names it.
    """
    dest = open_place(run)
    manifest = read_manifest(dest)
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    recognised = (ROOT / "benchmarks" / "RECOGNISER.md").read_text(encoding="utf-8")
    measured = find_numbers(results, MEASURED, "benchmarks/RESULTS.md")
    return {
        "run": of_run(manifest, dest),
        "bench": measured,
        "recogniser": find_numbers(recognised, RECOGNISED, "benchmarks/RECOGNISER.md"),
        "network": of_network(manifest, dest),
        "cost": costs(measured["daft_of_limit"] / measured["verger_of_limit"]),
        "map": draw_map(dest, open_place(manifest["source"]), folder),
    }


def find_numbers(text: str, patterns: Mapping[str, str], page: str) -> dict[str, float]:
    """What each pattern finds in a page, as numbers.

    Raises:
        SettingError: a pattern finds nothing.
    """
    numbers = {}
    for name, pattern in patterns.items():
        found = re.search(pattern, text)
        if found is None:
            raise SettingError(
                f"the number `{name}` in {page}",
                f"nothing that fits {pattern}",
                "Give the page its sentence back, or change the pattern in docs/slides/facts.py.",
            )
        numbers[name] = float(found[1].replace(",", ""))
    return numbers


def costs(daft_share: float) -> dict[str, Any]:
    """Euros for a million photos in every way of running, with what they rest on."""
    prices = load_prices()
    ways = reckon(1_000_000, prices, daft_share)
    return {
        "ways": [{"name": way.name, "eur": way.eur} for way in ways],
        "bucket_eur": ways[0].bucket_eur,
        "photos_per_second_per_vcpu": PHOTOS_PER_SECOND_PER_VCPU,
        "usd_per_eur": prices.exchange.usd_per_eur,
        "dated": str(prices.region(REGION).dated),
    }


def of_run(manifest: Mapping[str, Any], dest: Place) -> dict[str, Any]:
    """What a run says of itself, and its curve of variance."""
    try:
        photos, projection = manifest["photos"], manifest["projection"]
        facts = {key: photos[key] for key in ("found", "embedded", "failed")}
        facts |= {key: projection[key] for key in ("components", "explained_variance")}
        facts |= {key: manifest["backbone"][key] for key in ("name", "vector_length", "image_size")}
        facts |= {"spark": manifest["spark"]["version"], "finished": manifest["finished"][:10]}
        facts |= {"seconds": manifest["seconds"]["total"], "recogniser": manifest.get("recogniser")}
    except KeyError as error:
        raise SettingError(f"the number `{error.args[0]}` in manifest.json", "none", "Run again.") from error
    fitted = Projection.from_bytes(dest.read(PROJECTION))
    shares = np.cumsum(fitted.spectrum) / fitted.total_variance
    facts["curve"] = [round(float(share), 5) for share in shares]
    facts["reached"] = {f"{share:.2f}": int(np.searchsorted(shares, share - 1e-12) + 1) for share in SHARES}
    facts["axes"] = [float(value) for value in fitted.variance[:2] / fitted.total_variance]
    return facts


def of_network(manifest: Mapping[str, Any], dest: Place) -> dict[str, Any]:
    """The size of what is broadcast, in megabytes."""
    settings = Settings(**manifest["settings"])
    if settings.precision == "int8":
        return {"megabytes": len(dest.read(INT8_NETWORK)) / 1e6}
    backbone = load_backbone(settings.backbone, **settings.network)
    return {"megabytes": (len(backbone.graph) + sum(array.nbytes for array in backbone.weights)) / 1e6}


def draw_map(dest: Place, source: Place, folder: Path) -> dict[str, Any]:
    """Thumbnails in `folder`, their places on the map in 0 to 1, and for the first slide one photo of each label."""
    tables = []
    for name in part_names(dest, "components"):
        with dest.open(components_path(name)) as content:
            tables.append(pq.read_table(content))
    table = pa.concat_tables(tables).sort_by("path")
    components = vector_matrix(table["components"], len(table["components"][0].as_py()))[:, :2]
    low, high = components.min(axis=0), components.max(axis=0)
    places = (components - low) / np.maximum(high - low, 1e-9)
    paths, labels = table["path"].to_pylist(), table["label"].to_pylist()
    first = sorted({label: at for at, label in reversed(list(enumerate(labels)))}.values())  # photos, one a label
    strip = [first[i * len(first) // STRIP_PHOTOS] for i in range(STRIP_PHOTOS)] if len(first) > STRIP_PHOTOS else first
    every = max(1, -(-len(paths) // MAP_PHOTOS))
    return {
        "labels": len(first),
        "strip": [
            write_picture(source, paths[at], folder / f"strip-{i:02}.jpg", STRIP_PIXELS) for i, at in enumerate(strip)
        ],
        "photos": [
            {
                "file": write_picture(source, paths[at], folder / f"photo-{at:06}.jpg", THUMBNAIL_PIXELS),
                "x": float(places[at, 0]),
                "y": float(places[at, 1]),
            }
            for at in range(0, len(paths), every)
        ],
    }


def write_picture(source: Place, path: str, file: Path, side: int) -> str:
    """A small JPEG of a photo. Returns its name.

    Raises:
        SettingError: the photo is not there any more.
    """
    try:
        file.write_bytes(thumbnail(source.read(path), side, Settings.max_pixels))
    except (OSError, PhotoError) as error:
        raise SettingError(f"the photo {path} of the run in {source.uri}", f"{error}", "Run again.") from error
    return file.name
