"""Components as CSV, part by part, without Spark."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from verger.errors import SettingError
from verger.manifest import read_manifest
from verger.parts import components_path, part_names, vector_matrix
from verger.storage import Place


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
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise SettingError("a FILE that can be written", f"{file}: {error}", "Choose another FILE.") from error
    return count
