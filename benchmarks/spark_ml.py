"""Spark ML's own PCA on the vectors that Verger wrote: fit, transform, write. In a session of its own."""

import json
import os
import sys
import time

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)


def measure(vectors: str, dest: str, components: int) -> dict[str, float]:
    """Seconds from Parquet to Parquet, of a session that has already seen the file."""
    from pyspark.ml.feature import PCA
    from pyspark.ml.functions import array_to_vector
    from pyspark.sql import SparkSession

    # Four gigabytes, because Spark ML keeps vectors and the covariance matrix in the JVM; the rest is Spark's choice.
    settings = {"spark.driver.memory": "4g", "spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
    spark = SparkSession.builder.master("local[*]").config(map=settings).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    table = spark.read.parquet(vectors).where("error is null")
    photos = table.count()
    begin = time.perf_counter()
    ready = table.select("path", "label", array_to_vector("vector").alias("vector"))
    model = PCA(k=components, inputCol="vector", outputCol="components").fit(ready)
    fitted = time.perf_counter()
    model.transform(ready).select("path", "label", "components").write.parquet(dest)
    end = time.perf_counter()
    variance = float(model.explainedVariance.toArray().sum())
    spark.stop()
    seconds = {"seconds": end - begin, "fit_seconds": fitted - begin, "write_seconds": end - fitted}
    return {name: round(value, 3) for name, value in seconds.items()} | {
        "photos": photos,
        "explained_variance": round(variance, 4),
    }


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
