"""Spark's Python daemon with what our tasks need already loaded: its workers are forked, and start at once.

Spark starts one daemon an executor, which forks a worker for every core. Left alone, each worker loads NumPy, Arrow,
ONNX Runtime and the rest by itself, and PySpark from a zip file, which is compiled anew each time. Loading is safe
before a fork as long as no thread is started; ONNX sessions, which start some, are made by the workers.
"""

import sys
from pathlib import Path


def without_zips(paths: list[str]) -> list[str]:
    """Import paths without Spark's zip where the same modules are found unpacked, and compiled, on another of them."""
    return [path for path in paths if not (path.endswith("pyspark.zip") and _unpacked(Path(path), paths))]


def _unpacked(zipped: Path, paths: list[str]) -> bool:
    """In the pip package, pyspark/python/lib/pyspark.zip holds what pyspark/ holds; this Python may be another one."""
    package = zipped.absolute().parent.parent.parent  # a cluster may put the zip anywhere, or name it without a folder
    return package.name == "pyspark" and (package / "worker.py").is_file() and str(package.parent) in paths


if __name__ == "__main__":
    sys.path[:] = without_zips(sys.path)

    from pyspark import daemon

    import verger.batches
    import verger.components
    import verger.network
    import verger.previews
    import verger.vectors  # noqa: F401  (loaded for the workers)

    daemon.manager()
