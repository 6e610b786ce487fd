"""A projection in the files of a Spark ML `PCAModel`, so that any Spark user can load it.

Written by hand, because Spark itself can only write where its own Hadoop libraries reach; this goes wherever DEST is.
The layout (one JSON line of metadata, one Parquet row of two user-defined types) is that of Spark 3.5 to 4.3.
"""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from verger.projection import Projection
from verger.storage import Place

_INTS, _DOUBLES = pa.list_(pa.int32()), pa.list_(pa.float64())
_MATRIX = {"type": pa.int8(), "numRows": pa.int32(), "numCols": pa.int32(), "colPtrs": _INTS}
_MATRIX |= {"rowIndices": _INTS, "values": _DOUBLES, "isTransposed": pa.bool_()}
_VECTOR = {"type": pa.int8(), "size": pa.int32(), "indices": _INTS, "values": _DOUBLES}
_SPARK_NAMES = {pa.int8(): "byte", pa.int32(): "integer", pa.float64(): "double", pa.bool_(): "boolean"}
_DENSE = 1


def write_spark_pca(projection: Projection, dest: Place, folder: str) -> None:
    """Write `folder` so that `pyspark.ml.feature.PCAModel.load` reads it; inputCol `vector`, outputCol `components`.

    Spark's PCA does not subtract the mean, and its model does not store one: `transform` gives our components plus a
    constant per component. A scale (of a standardised projection) is folded into the loadings. `explainedVariance`
    holds shares of the total variance, as in Spark.
    """
    loadings = projection.components / projection.scale[:, None]  # (d, k)
    length, kept = loadings.shape
    total = projection.total_variance or 1.0
    matrix = {"type": _DENSE, "numRows": length, "numCols": kept, "colPtrs": None, "rowIndices": None}
    matrix |= {"values": loadings.ravel(order="F").tolist(), "isTransposed": False}  # Spark's matrices are column-major
    vector = {"type": _DENSE, "size": None, "indices": None, "values": (projection.variance / total).tolist()}
    table = pa.Table.from_pylist([{"pc": matrix, "explainedVariance": vector}], schema=_schema())
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    uid = f"PCA_{projection.fingerprint or 'verger'}"
    metadata = {
        "class": "org.apache.spark.ml.feature.PCAModel",
        "timestamp": 0,  # the same projection gives the same files
        "sparkVersion": "3.5.0",
        "uid": uid,
        "paramMap": {"inputCol": "vector", "outputCol": "components", "k": kept},
        "defaultParamMap": {"outputCol": f"{uid}__output"},
    }
    dest.write(f"{folder}/data/part-00000.parquet", content.getvalue())
    dest.write(f"{folder}/metadata/part-00000", (json.dumps(metadata) + "\n").encode())
    for part in ("data", "metadata"):
        dest.write(f"{folder}/{part}/_SUCCESS", b"")


def _schema() -> pa.Schema:
    """The Arrow schema, with Spark's own description of it: that is where Spark finds its user-defined types."""
    fields = [("pc", _MATRIX, "Matrix"), ("explainedVariance", _VECTOR, "Vector")]
    described = [
        {"name": name, "type": _described(types, spark_name), "nullable": True, "metadata": {}}
        for name, types, spark_name in fields
    ]
    return pa.schema(
        [(name, pa.struct(list(types.items()))) for name, types, _ in fields],
        metadata={"org.apache.spark.sql.parquet.row.metadata": json.dumps({"type": "struct", "fields": described})},
    )


def _described(types: dict[str, pa.DataType], spark_name: str) -> dict[str, object]:
    columns = []
    for name, kind in types.items():
        is_list = pa.types.is_list(kind)
        element = _SPARK_NAMES[kind.value_type if is_list else kind]
        described = {"type": "array", "elementType": element, "containsNull": False} if is_list else element
        optional = is_list or name == "size"
        columns.append({"name": name, "type": described, "nullable": optional, "metadata": {}})
    return {
        "type": "udt",
        "class": f"org.apache.spark.ml.linalg.{spark_name}UDT",
        "pyClass": f"pyspark.ml.linalg.{spark_name}UDT",
        "sqlType": {"type": "struct", "fields": columns},
    }
