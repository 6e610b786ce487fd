"""Photos in somebody's own Spark job: a DataFrame in, the same rows with their vectors out; or a function for SQL.

The network travels by broadcast, and each worker process builds it once, as in a run. Vectors are those of a run, bit
for bit. `embedder.py` has the same as a stage of Spark ML's pipelines.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from verger.backbone import load_backbone
from verger.batches import Shared, Task, embed_array, embed_batches
from verger.errors import MissingError, SettingError
from verger.network import Backbone
from verger.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

NETWORK = "efficientnet_lite0"


@dataclass(frozen=True)
class Carried:
    """A network that travels inside the job itself, where Spark offers no broadcast (Spark Connect)."""

    value: Backbone


def embed(
    dataframe: "DataFrame",
    backbone: str | Backbone = NETWORK,
    *,
    content: str = "content",
    path: str = "path",
    max_bytes: int = Settings.max_bytes,
    max_pixels: int = Settings.max_pixels,
    device: str = Settings.device,
) -> "DataFrame":
    """The same rows with two more columns: `vector` array<float>, and `error` string where there is no vector.

    Nothing runs before the result is used, and everything runs again each time it is used: write it, or persist it,
    before using it twice. Rows keep their number, their partition and their order in it. A photo that is null fails as
    `unreadable`; the other causes are those of a run.

    Args:
        dataframe: from any source.
        backbone: as in `Settings.backbone`, or a network that `verger.backbone.load_backbone` made.
        content: name of the column of photos' bytes, as `spark.read.format("binaryFile")` gives it.
        path: where there is no such column: name of a column of paths or URIs, absolute; the workers read them.
        max_bytes: a larger photo fails as `too_large`.
        max_pixels: a photo of more pixels fails as `too_many_pixels`.
        device: "cpu" or "cuda".

    Raises:
        SettingError: no such column, no such network, or a limit outside its range.
        MissingError: pandas is not installed, or weights that cannot be fetched.
    """
    for name in ("vector", "error"):
        if find_column(dataframe, name) is not None:
            advice = f"Rename it: dataframe.withColumnRenamed({name!r}, …)."
            raise SettingError(f"a DataFrame without a column {name!r}, which embed adds", "one that has it", advice)
    found = find_column(dataframe, content)
    column = find_column(dataframe, path) if found is None else found
    if column is None:
        raise SettingError(
            f"a column {content!r} of photos' bytes, or a column {path!r} of their paths",
            f"the columns {', '.join(dataframe.columns) or '(none)'}",
            "Name yours: embed(dataframe, content=…) or embed(dataframe, path=…).",
        )
    settings = limited(max_bytes, max_pixels, device)
    task = Task(share(dataframe.sparkSession, backbone), settings.limits, settings.device)
    return add_vectors(dataframe, column, ("vector", "error"), task)


def embed_udf(
    backbone: str | Backbone = NETWORK,
    *,
    max_bytes: int = Settings.max_bytes,
    max_pixels: int = Settings.max_pixels,
    device: str = Settings.device,
) -> Any:
    """A function of a column of photos' bytes that gives array<float>, null where a photo cannot be embedded.

    For `withColumn` and `select`, and for SQL after `spark.udf.register("embed", embed_udf())`. It is marked as not
    deterministic, because Spark computes others again wherever their result is used.

    Args:
        backbone: as for `embed`.
        max_bytes: as for `embed`.
        max_pixels: as for `embed`.
        device: as for `embed`.

    Raises:
        SettingError: no Spark session is running, no such network, or a limit outside its range.
        MissingError: pandas is not installed, and Spark is older than 4.1; or weights that cannot be fetched.
    """
    from pyspark.sql import SparkSession, functions
    from pyspark.sql.types import ArrayType, FloatType

    spark = SparkSession.getActiveSession()
    if spark is None:
        raise SettingError("a Spark session that is running", "none", "Start one first: SparkSession.builder….")
    on_arrow = hasattr(functions, "arrow_udf")  # since Spark 4.1
    if not on_arrow:
        need_pandas(spark)
    settings = limited(max_bytes, max_pixels, device)
    task = Task(share(spark, backbone), settings.limits, settings.device)
    make: Any = getattr(functions, "arrow_udf" if on_arrow else "pandas_udf")
    return make(_on_arrow(task) if on_arrow else _on_pandas(task), ArrayType(FloatType())).asNondeterministic()


def add_vectors(dataframe: "DataFrame", column: int, added: tuple[str, str], task: Task) -> "DataFrame":
    """The same rows with columns for vector and cause.

    Args:
        dataframe: any.
        column: which of its columns holds the photos, as bytes or as paths.
        added: names of the new columns.
        task: how to embed.

    Raises:
        SettingError: that column holds something else.
        MissingError: pandas is not installed.
    """
    from pyspark.sql.types import ArrayType, BinaryType, FloatType, StringType, StructField, StructType

    need_pandas(dataframe.sparkSession)
    fields = dataframe.schema.fields
    if not isinstance(fields[column].dataType, BinaryType | StringType):
        raise SettingError(
            "a column of photos' bytes (binary) or of their paths (string)",
            f"{fields[column].name}, which is {fields[column].dataType.simpleString()}",
            "Name another column.",
        )
    vector, error = added
    schema = StructType([*fields, StructField(vector, ArrayType(FloatType())), StructField(error, StringType())])

    def work(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return embed_batches(batches, column, added, task)

    return dataframe.mapInArrow(work, schema)


def find_column(dataframe: "DataFrame", name: str) -> int | None:
    """Where the column of that name is. Case does not matter, as it does not to Spark."""
    names = dataframe.columns
    if name in names:
        return names.index(name)
    return next((i for i, other in enumerate(names) if other.lower() == name.lower()), None)


def limited(max_bytes: int, max_pixels: int, device: str) -> Settings:
    """Limits and device, checked as those of a run are."""
    return Settings(source="", dest="", max_bytes=max_bytes, max_pixels=max_pixels, device=device)


def share(spark: "SparkSession", backbone: str | Backbone) -> Shared:
    """The network, loaded where only its name is given, and on its way to the workers."""
    loaded = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
    try:
        context = spark.sparkContext
    except AttributeError:  # Spark Connect, which has none
        return Carried(loaded)
    shared: Shared = context.broadcast(loaded)
    return shared


def need_pandas(spark: "SparkSession") -> None:
    """Spark asks for pandas before it moves a batch of Arrow's, although that needs none.

    Raises:
        MissingError: it is not installed, or too old.
    """
    from pyspark.sql.pandas.utils import require_minimum_pandas_version

    try:
        require_minimum_pandas_version()  # type: ignore[no-untyped-call, unused-ignore]
    except ImportError as error:
        received = "an older one" if find_spec("pandas") else "none"
        advice = "Install it, at least on the driver: pip install 'pandas>=2.2,<3'."
        raise MissingError(f"a pandas that Spark {spark.version} takes", received, advice) from error


def _on_arrow(task: Task) -> Any:
    def vectors(arrays: Iterator[pa.Array]) -> Iterator[pa.Array]:
        for photos in arrays:
            for group, _ in embed_array(photos, task):
                yield group

    return vectors


def _on_pandas(task: Task) -> Any:
    import pandas as pd  # type: ignore[import-untyped,unused-ignore]

    # Spark reads from these annotations what kind of function it is.
    def vectors(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for batch in batches:
            for start in range(0, len(batch), 64):  # in pieces: a copy of all photos would be large
                photos = pa.array(batch.iloc[start : start + 64], from_pandas=True)
                for group, _ in embed_array(photos, task):
                    yield pd.Series(list(group.to_numpy(zero_copy_only=False)))

    return vectors
