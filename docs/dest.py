"""What a run leaves in DEST, told for reference.md. A test holds both tables against a run."""

from collections.abc import Mapping

import pyarrow as pa

from verger import claim, evaluate, forget, manifest
from verger.calibration import INT8_NETWORK
from verger.checks import PROJECTION
from verger.gallery import GALLERY
from verger.model import EMBEDDER
from verger.parts import COMPONENTS, VECTORS
from verger.recogniser import RECOGNISER, RECOGNISER_GRAPH


def columns(schema: pa.Schema) -> str:
    """A table's columns with their types."""
    return ", ".join(f"`{field.name} {field.type}`".replace("item: ", "") for field in schema)


FILES: Mapping[str, str] = {
    "vectors/part-*.parquet": f"one row a photo: {columns(VECTORS)}; a row has `vector` or `error`, never both",
    "components/part-*.parquet": f"one row a photo that has a vector: {columns(COMPONENTS)}",
    PROJECTION: "mean, scale, components, variance, total_variance: NumPy arrays, to be read with `allow_pickle=False`",
    "model/spark-pca/": "the same as a Spark ML `PCAModel`",
    EMBEDDER: "network and projection in one: pixels, uint8 (n, size, size, 3) → components; not for Keras networks",
    INT8_NETWORK: "with `--precision int8`: the network as it was calibrated; later runs use the same",
    RECOGNISER: "labels, and what scores them; where there are two labels of five photos or more",
    RECOGNISER_GRAPH: "network, projection and recogniser in one: pixels, uint8 (n, 448, 448, 3) for "
    "`--image-size 224` → `probabilities` (n, labels) and `distance` (n,), above 1 for what is unknown; its property "
    "`verger.labels` names the labels",
    GALLERY: "three thumbnails of each label, as look-alikes",
    "report.html": "one file to look at; opens without a network",
    manifest.NAME: "what happened; written last: a folder without it is an unfinished run",
    evaluate.PAGE: "after `verger evaluate`: figures, confusions, the worst mistakes",
    forget.LIST: "after `verger forget`: digests of paths to leave out; remove a line to let that photo in again",
    f"{forget.RECEIPTS}/*.json": "after `verger forget`: what was removed",
    claim.NAME: "while a run is at work: which one",
}
MANIFEST: Mapping[str, str] = {
    "verger": "version of Verger",
    "started": "date and time, UTC",
    "finished": "date and time, UTC",
    "source": "address of SOURCE",
    "settings": "every [setting](#settings) with its value",
    "spark": "`version`, `master`, `cores`",
    "backbone": "`name`, `engine`, `fingerprint`, `vector_length`, `image_size`, `normalisation`, `precision`",
    "photos": "`found` = `embedded` + `failed` + `reused`; `causes`: how often [each](#causes-of-failure); "
    "`left_out`: files that are no photos, by reason",
    "changes": "since the last finished run, `added`, `changed`, `removed`, `mended`; null where nothing tells",
    "projection": "`components`; `explained_variance`, a share, of the vectors that it was fitted on; `standardised`; "
    '`asked`: the setting, or `"kept"`',
    "recogniser": "null, or `labels`, `photos` and, of `judged` photos held out of it (`held_out`: `folders` or "
    "`neighbours`), `top1`, `coverage`, `accuracy_when_sure`, `unknown`, `ece`, as `verger evaluate` says them",
    "seconds": "`list`, `start`, `embed`, `components`, `recogniser`, `report`, with int8 `calibrate`; `total`",
    "embed_photos_per_second": "embedded photos by the seconds of `embed`",
}
