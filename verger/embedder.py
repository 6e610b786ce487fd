# ruff: noqa: N802, N803, N812, N815  (the names of Spark ML's stages are in camel case)
"""The embedding as a stage of a Spark ML `Pipeline`: photos in, a vector column that any of its estimators takes out.

Saved pipelines name this module and its class, so both keep their names.
"""

import hashlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pyspark.ml import Transformer
from pyspark.ml.functions import array_to_vector
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasHandleInvalid, HasInputCol, HasOutputCol
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReadable, MLReader, MLWritable, MLWriter
from pyspark.sql import functions as F

from verger.backbone import load_backbone
from verger.batches import Task
from verger.dataframe import NETWORK, add_vectors, find_column, limited, share
from verger.errors import SettingError
from verger.network import Backbone
from verger.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

INVALID = ("error", "skip", "keep")
_FACTS = ("name", "engine", "image_size", "vector_length", "fingerprint", "normalisation", "precision")


class PhotoEmbedder(Transformer, HasInputCol, HasOutputCol, HasHandleInvalid, MLReadable["PhotoEmbedder"], MLWritable):
    """Photos → vectors of Spark ML (`VectorUDT`, dense, doubles). Its place is before any estimator.

    Saved, alone or in a pipeline, it holds the network itself: it loads where no weights are at hand.

    Params:
        inputCol: photos, as bytes (binary) or as paths (string), see `verger.embed`. Default "content".
        outputCol: vectors. Default "vector".
        handleInvalid: what a photo that cannot be embedded does: "error" ends the job (default), "skip" leaves its row
            out, "keep" gives it a vector of NaN, as `VectorAssembler` does.
        errorCol: with "keep", a column for the causes. Default none.
        maxBytes, maxPixels, device: as for `verger.embed`.
    """

    errorCol: "Param[str]" = Param(
        Params._dummy(), "errorCol", "column for the causes of failures; empty for none", TypeConverters.toString
    )
    maxBytes: "Param[int]" = Param(
        Params._dummy(), "maxBytes", "a larger photo fails as too_large", TypeConverters.toInt
    )
    maxPixels: "Param[int]" = Param(
        Params._dummy(), "maxPixels", "a photo of more pixels fails as too_many_pixels", TypeConverters.toInt
    )
    device: "Param[str]" = Param(
        Params._dummy(), "device", "where the network runs: cpu or cuda", TypeConverters.toString
    )

    def __init__(
        self, inputCol: str = "content", outputCol: str = "vector", backbone: str | Backbone = NETWORK, **params: Any
    ) -> None:
        super().__init__()
        self.backbone = backbone if isinstance(backbone, Backbone) else load_backbone(backbone)
        self._setDefault(inputCol="content", outputCol="vector", handleInvalid="error", errorCol="")
        self._setDefault(maxBytes=Settings.max_bytes, maxPixels=Settings.max_pixels, device=Settings.device)
        self.setParams(inputCol=inputCol, outputCol=outputCol, **params)

    def setParams(self, **params: Any) -> "PhotoEmbedder":
        """Set params by name.

        Raises:
            SettingError: there is no param of that name.
        """
        for name in params:
            if not self.hasParam(name):
                known = ", ".join(param.name for param in self.params)
                raise SettingError(f"params among {known}", name, "Rename or remove it.")
        return self._set(**params)

    def setInputCol(self, value: str) -> "PhotoEmbedder":
        """Set the column of photos."""
        return self._set(inputCol=value)

    def setOutputCol(self, value: str) -> "PhotoEmbedder":
        """Set the column of vectors."""
        return self._set(outputCol=value)

    def setHandleInvalid(self, value: str) -> "PhotoEmbedder":
        """Set what a photo does that cannot be embedded: "error", "skip" or "keep"."""
        return self._set(handleInvalid=value)

    def setErrorCol(self, value: str) -> "PhotoEmbedder":
        """Set the column for the causes of failures; empty for none."""
        return self._set(errorCol=value)

    def _transform(self, dataset: "DataFrame") -> "DataFrame":
        output, error, invalid = self.getOutputCol(), self.getOrDefault(self.errorCol), self.getHandleInvalid()
        column = self._check(dataset, invalid, output, error)
        settings = limited(*(self.getOrDefault(name) for name in ("maxBytes", "maxPixels", "device")))
        shared = share(dataset.sparkSession, self.backbone)
        cause = error or f"{self.uid}_error"
        task = Task(shared, settings.limits, settings.device, strict=invalid == "error")
        rows = add_vectors(dataset, column, (output, cause), task)
        if invalid == "skip":
            rows = rows.where(F.col(f"`{cause}`").isNull())
        length = self.backbone.vector_length
        none = F.array_repeat(F.lit(float("nan")).cast("float"), length)
        rows = rows.withColumn(output, array_to_vector(F.coalesce(F.col(f"`{output}`"), none)))
        # With its length known beforehand, no estimator embeds photos only to learn it.
        rows = rows.withMetadata(output, {"ml_attr": {"num_attrs": length}})
        return rows if error else rows.drop(cause)

    def _check(self, dataset: "DataFrame", invalid: str, output: str, error: str) -> int:
        """Where the column of photos is."""
        if invalid not in INVALID:
            raise SettingError(f"handleInvalid among {', '.join(INVALID)}", repr(invalid), "Choose one.")
        for name in (output, error):
            if name and find_column(dataset, name) is not None:
                raise SettingError(f"a DataFrame without a column {name!r}", "one that has it", "Choose another name.")
        column = find_column(dataset, self.getInputCol())
        if column is None:
            received = f"the columns {', '.join(dataset.columns) or '(none)'}"
            raise SettingError(f"a column {self.getInputCol()!r} of photos", received, "Set inputCol to one of them.")
        return column

    def write(self) -> MLWriter:
        """What saves this stage."""
        return _Writer(self)

    @classmethod
    def read(cls) -> "MLReader[PhotoEmbedder]":
        """What loads such a stage."""
        return _Reader()


class _Writer(MLWriter):
    """Spark ML's own metadata, and beside it `network`, a Parquet table of one row: graph, and Keras' weights."""

    def __init__(self, stage: PhotoEmbedder) -> None:
        super().__init__()
        self.stage = stage

    def saveImpl(self, path: str) -> None:
        backbone, spark = self.stage.backbone, self.sparkSession
        facts = {name: getattr(backbone, name) for name in _FACTS}
        facts["sha256"] = hashlib.sha256(backbone.graph).hexdigest()
        DefaultParamsWriter.saveMetadata(self.stage, path, spark.sparkContext, {"backbone": facts})
        row = (bytearray(backbone.graph), [bytearray(_to_bytes(array)) for array in backbone.weights])
        table = spark.createDataFrame([row], "graph binary, weights array<binary>")
        table.coalesce(1).write.parquet(f"{path}/network")


class _Reader(MLReader[PhotoEmbedder]):
    def load(self, path: str) -> PhotoEmbedder:
        metadata = DefaultParamsReader.loadMetadata(path, self.sparkSession.sparkContext)
        facts = metadata["backbone"]
        row = self.sparkSession.read.parquet(f"{path}/network").head()
        if row is None or hashlib.sha256(row["graph"]).hexdigest() != facts["sha256"]:
            raise SettingError("the network that was saved", f"another one in {path}/network", "Save the stage again.")
        weights = tuple(_from_bytes(content) for content in row["weights"])
        network = Backbone(**{name: facts[name] for name in _FACTS}, graph=bytes(row["graph"]), weights=weights)
        stage = PhotoEmbedder(backbone=network)
        stage._resetUid(metadata["uid"])
        DefaultParamsReader.getAndSetParams(stage, metadata)
        return stage


def _to_bytes(array: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def _from_bytes(content: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array
