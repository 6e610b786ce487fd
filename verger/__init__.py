"""Verger: fruit photos to vectors, vectors to components, on one laptop or on a Spark cluster with the same command.

    import verger
    manifest = verger.run(verger.Settings(source="photos", dest="out"))

Importing this needs neither Spark nor Java, and is cheap: every Spark worker does it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from verger.errors import MissingError, RunFailedError, SettingError, VergerError
from verger.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from verger.dataframe import embed, embed_udf
    from verger.embedder import PhotoEmbedder
    from verger.stages import Display

__version__ = "0.1.0"
__all__ = [
    "MissingError", "PhotoEmbedder", "RunFailedError", "SettingError", "Settings", "VergerError", "__version__",
    "embed", "embed_udf", "run",
]  # fmt: skip

_LATER = {"embed": "verger.dataframe", "embed_udf": "verger.dataframe", "PhotoEmbedder": "verger.embedder"}


def __getattr__(name: str) -> Any:
    """What is for people with their own Spark job is imported when they ask for it."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_LATER[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyspark":
            raise
        raise MissingError("pyspark", "none", "Install it: pip install 'verger[spark]'.") from error


def run(settings: Settings, spark: "SparkSession | None" = None, display: "Display | None" = None) -> dict[str, Any]:
    """Turn photos into vectors, components, a model and a report; see `verger.pipeline.run`, which this calls."""
    from verger.pipeline import run as run_pipeline  # the whole path; workers need only pieces of it

    return run_pipeline(settings, spark, display)
