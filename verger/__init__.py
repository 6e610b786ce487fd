"""Verger: fruit photos to vectors, vectors to components, on one laptop or on a Spark cluster with the same command.

    import verger
    manifest = verger.run(verger.Settings(source="photos", dest="out"))

Importing this needs neither Spark nor Java, and is cheap: every Spark worker does it.
"""

from typing import TYPE_CHECKING, Any

from verger.errors import MissingError, RunFailedError, SettingError, VergerError
from verger.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from verger.stages import Display

__version__ = "0.1.0"
__all__ = ["MissingError", "RunFailedError", "SettingError", "Settings", "VergerError", "__version__", "run"]


def run(settings: Settings, spark: "SparkSession | None" = None, display: "Display | None" = None) -> dict[str, Any]:
    """Turn photos into vectors, components, a model and a report; see `verger.pipeline.run`, which this calls."""
    from verger.pipeline import run as run_pipeline  # the whole path; workers need only pieces of it

    return run_pipeline(settings, spark, display)
