"""What a finished run gives to others, without Spark: components as CSV; its recogniser as one ONNX file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from verger.calibration import calibration_pixels
from verger.errors import SettingError
from verger.forget import leave_out_forgotten
from verger.manifest import read_manifest
from verger.network import Backbone
from verger.parts import components_path, part_names, vector_matrix
from verger.photos import list_photos
from verger.settings import Limits
from verger.storage import Place, open_place

UNWRITABLE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def export_components(dest: Place, file: Path) -> int:
    """Write path, label, c1 … ck of every photo to a CSV file, in the order of the photos' paths within each part.

    Returns the number of photos.

    Raises:
        SettingError: DEST holds no finished run, or `file` cannot be written.
    """
    kept = read_manifest(dest)["projection"]["components"]
    names = ["path", "label", *(f"c{i + 1}" for i in range(kept))]
    schema = pa.schema([(name, pa.string() if i < 2 else pa.float32()) for i, name in enumerate(names)])
    count = 0
    try:
        with pyarrow.csv.CSVWriter(file, schema) as writer:
            for name in part_names(dest, "components"):
                with dest.open(components_path(name)) as content:
                    table = pq.read_table(content)
                columns = [table["path"], table["label"], *map(pa.array, vector_matrix(table["components"], kept).T)]
                writer.write_table(pa.table(columns, schema=schema))
                count += len(table)
    except UNWRITABLE as error:
        raise SettingError("a FILE that can be written", f"{file}: {error}", "Choose another FILE.") from error
    return count


def export_recogniser(dest: Place, file: Path, precision: str | None = None, source: str | None = None) -> int:
    """Write network, projection and recogniser as one ONNX graph; see `verger.recogniser_graph`.

    Args:
        dest: of a finished run.
        file: to be written.
        precision: of the network: "float32", or "int8", which is a third of the size, and faster; None for that of the
            run. What follows the network is float32.
        source: photos to calibrate int8 on; None for those of the run.

    Returns:
        The size of the file, in bytes.

    Raises:
        SettingError: no finished run in DEST, or none whose network can be had like this; no photo to calibrate on; or
            `file` cannot be written.
    """
    # Imported here, because CSV needs neither ONNX Runtime nor onnx.
    from verger.recognition import read_graph, read_recogniser

    manifest = read_manifest(dest)
    read_recogniser(dest)  # the message, where there is none
    graph, own = read_graph(dest, manifest), str(manifest["backbone"]["precision"])
    if precision == "int8" and own != "int8":
        graph = _int8(dest, graph, manifest, open_place(source or str(manifest["source"])))
    elif precision not in (None, own):
        received = f"{dest.uri}, whose network runs in {own}"
        raise SettingError(f"a run in {precision}", received, f"Give --precision {own}, or run with {precision}.")
    try:
        return file.write_bytes(graph)
    except UNWRITABLE as error:
        raise SettingError("a FILE that can be written", f"{file}: {error}", "Choose another FILE.") from error


def _int8(dest: Place, graph: bytes, manifest: Mapping[str, Any], source: Place) -> bytes:
    """The graph with its network in int8. The photos go through it as any photo will: through every view."""
    from onnx import ModelProto, helper

    from verger.quantise import quantise

    network = manifest["backbone"]
    model = ModelProto.FromString(graph)
    side = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    limits = Limits(int(manifest["settings"]["max_bytes"]), int(manifest["settings"]["max_pixels"]))
    photos = leave_out_forgotten(list_photos(source, dest, 1), dest).photos
    whole = Backbone(str(network["name"]), "onnx", side, int(network["vector_length"]), "", "raw", graph)
    quantised = ModelProto.FromString(quantise(whole, calibration_pixels(source, photos, side, limits)).graph)
    helper.set_model_props(quantised, {entry.key: entry.value for entry in model.metadata_props})
    return bytes(quantised.SerializeToString())
