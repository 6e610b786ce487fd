"""The method of the brief's notebook, as a yardstick: photos go through the JVM to a Keras model in a pandas UDF.

binaryFile → repartition → a scalar-iterator UDF that rebuilds MobileNetV2 without weights, sets those that were
broadcast, and predicts one Arrow batch after the other → Parquet. Its PCA is Spark ML's, which spark_ml.py measures.
"""

import io
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SIDE = 224
PARTITIONS = 24


def network() -> Any:
    """Keras' MobileNetV2 without its last layer, with no weights worth keeping."""
    import keras

    return keras.applications.MobileNetV2((SIDE, SIDE, 3), include_top=False, weights=None, pooling="avg")


def pixels(photo: bytes) -> Any:
    """Photo → float32 `(224, 224, 3)` in −1..1."""
    import numpy as np
    from keras.applications.mobilenet_v2 import preprocess_input
    from PIL import Image

    with Image.open(io.BytesIO(photo)) as image:
        return preprocess_input(np.asarray(image.convert("RGB").resize((SIDE, SIDE)), np.float32))


def measure(source: str, dest: str, weights: str) -> dict[str, float]:
    """Seconds from listing to Parquet."""
    import numpy as np
    import pandas as pd
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as f

    settings = {"spark.driver.memory": "4g", "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
    spark = SparkSession.builder.master("local[*]").config(map=settings).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    whole = network()
    whole.load_weights(weights)
    broadcast = spark.sparkContext.broadcast(whole.get_weights())

    def embed(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        model = network()
        model.set_weights(broadcast.value)
        for batch in batches:
            yield pd.Series(list(model.predict(np.stack([pixels(photo) for photo in batch]), verbose=0)))

    start = time.perf_counter()
    photos = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(source)
    vector = f.pandas_udf(embed, "array<float>")("content").alias("vector")
    label = f.element_at(f.split("path", "/"), -2).alias("label")
    photos.repartition(PARTITIONS).select("path", label, vector).write.parquet(dest)
    seconds = time.perf_counter() - start
    count = spark.read.parquet(dest).where("vector is not null").count()
    spark.stop()
    return {"photos": count, "embed": round(seconds, 3)}


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
