"""The model folder of a run: what projects new photos, in NumPy, in Spark ML and in any ONNX runtime."""

from verger.backbone import fuse
from verger.checks import PROJECTION
from verger.network import Backbone
from verger.projection import Projection
from verger.spark_pca import write_spark_pca
from verger.storage import Place

EMBEDDER = "model/embedder.onnx"


def write_model(dest: Place, backbone: Backbone, projection: Projection) -> None:
    """Write `projection.npz`, `spark-pca/` and `embedder.onnx` (network and projection in one: pixels → components)."""
    dest.write(PROJECTION, projection.to_bytes())
    write_spark_pca(projection, dest, "model/spark-pca")
    if backbone.engine == "onnx":
        dest.write(EMBEDDER, fuse(backbone, projection.mean, projection.scale, projection.components))
    else:
        dest.delete(EMBEDDER)  # a network that TensorFlow runs has no ONNX form; an earlier run's must not stay
