"""The job as a cluster gets it: wheels in a bucket, a bootstrap that installs them, and the `spark-submit` line.

Nothing here talks to AWS. A folder is filled, which others upload as it is to `code_uri`; what EMR is told to do with
it comes as plain lists and dictionaries.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from verger.errors import MissingError, RunFailedError, SettingError

ROOT = Path(__file__).parents[2]
PYTHON = "3.11"  # the only one that EMR 7, EMR 8, Spark 3.5 and Spark 4 have in common
SYSTEM_PYTHON = f"/usr/bin/python{PYTHON}"  # of Amazon Linux
PIP = "pip==26.3"
ARCHITECTURES = ("x86_64", "aarch64")  # m5 and its kin; Graviton (m6g)
OLDEST_GLIBC, GLIBC = 17, 34  # manylinux_2_17 to that of Amazon Linux 2023, on which EMR 7 is built
HOME = "/opt/verger"  # on every node; bootstrap.sh says the same
NODE_PYTHON = f"{HOME}/venv/bin/python"
SUMS, MAIN, BOOTSTRAP, ENVIRONMENT = "SHA256SUMS", "main.py", "bootstrap.sh", "environment.tar.gz"
PACKED_PYTHON = "./environment/bin/python"  # beside a worker of EMR Serverless

# Four tasks an executor, each a Python worker of half a gigabyte beside a JVM that sees no photo. An xlarge offers YARN
# 12 GiB: one such executor and the application master fit, two do not, so no core has two tasks.
EXECUTOR = {
    "spark.executor.cores": "4",
    "spark.executor.memory": "2g",
    "spark.executor.memoryOverhead": "8g",
    "spark.task.cpus": "1",
    "spark.executorEnv.OMP_NUM_THREADS": "1",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "64",  # photos are large rows: Spark 3.5 counts rows, not bytes
    "spark.dynamicAllocation.enabled": "true",
}


def build_wheels(folder: Path, architecture: str = "x86_64", packed_python: str = SYSTEM_PYTHON) -> list[Path]:
    """Fill an empty folder with all that a cluster needs.

    That is wheels, `main.py` and their sums, `bootstrap.sh`, and `environment.tar.gz` for EMR Serverless.

    Verger's own wheel is built from its sources, the same bytes from the same sources; its dependencies are downloaded
    in the versions of constraints.txt, for Python 3.11 on the cluster's architecture, whatever this machine is.

    Args:
        folder: empty, or not there yet.
        architecture: x86_64, or aarch64 for Graviton.
        packed_python: see `pack_environment`.

    Returns:
        The files, to be uploaded under their names.

    Raises:
        MissingError: Verger runs from an installed package, without its sources.
        SettingError: an unknown architecture, or a folder that is not empty.
        RunFailedError: pip failed; its last line says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SettingError("an empty folder for the wheels", str(folder), "Choose another one.")
    target = _target(architecture)  # before anything is built
    own = _build_own_wheel(folder)
    download = ["download", "--dest", str(folder), "--constraint", str(ROOT / "constraints.txt")]
    _pip(*download, *target, str(own), PIP)
    shutil.copyfile(ROOT / "verger" / "__main__.py", folder / MAIN)
    listed = sorted(folder.iterdir())
    sums = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in listed)
    (folder / SUMS).write_text(sums)
    (folder / BOOTSTRAP).write_bytes(files("verger.cloud").joinpath(BOOTSTRAP).read_bytes())
    pack_environment(folder, architecture, packed_python)
    return sorted(folder.iterdir())


def pack_environment(folder: Path, architecture: str = "x86_64", python: str = SYSTEM_PYTHON) -> Path:
    """Pack the wheels of a folder as one environment, for EMR Serverless, whose workers have no bootstrap.

    It is what `python -m venv` makes: a `pyvenv.cfg`, a link to the system's Python, and packages. So no machine of the
    cluster's kind is needed to make it. Made twice from the same wheels, it has the same bytes.

    Args:
        folder: as `build_wheels` filled it; receives `environment.tar.gz`.
        architecture: of the workers, the same as of the wheels.
        python: the workers' Python.

    Raises:
        RunFailedError: pip failed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        environment = Path(temporary)
        packages = environment / "lib" / f"python{PYTHON}" / "site-packages"
        _pip("install", "--no-index", "--find-links", str(folder), "--target", str(packages), "--no-compile",
             *_target(architecture), "verger")  # fmt: skip
        (environment / "bin").mkdir()
        (environment / "bin" / "python").symlink_to(python)
        config = f"home = {Path(python).parent}\ninclude-system-site-packages = false\nversion = {PYTHON}\n"
        (environment / "pyvenv.cfg").write_text(config)
        return _archive(environment, folder / ENVIRONMENT)


def bootstrap_action(code_uri: str) -> dict[str, Any]:
    """What EMR runs on every node before Spark starts."""
    script = {"Path": f"{code_uri}/{BOOTSTRAP}", "Args": [code_uri]}
    return {"Name": "verger", "ScriptBootstrapAction": script}


def spark_configuration() -> list[dict[str, Any]]:
    """EMR's configurations: the Python of driver and workers, also for notebooks, and the executors."""
    pythons = {"PYSPARK_PYTHON": NODE_PYTHON, "PYSPARK_DRIVER_PYTHON": NODE_PYTHON}
    exported = [{"Classification": "export", "Properties": pythons}]
    defaults = EXECUTOR | {
        "spark.pyspark.python": NODE_PYTHON,
        "spark.executorEnv.PYSPARK_PYTHON": NODE_PYTHON,
        "spark.yarn.appMasterEnv.PYSPARK_PYTHON": NODE_PYTHON,  # Livy's drivers run there
    }
    return [
        {"Classification": "spark-env", "Properties": {}, "Configurations": exported},
        {"Classification": "livy-env", "Properties": {}, "Configurations": exported},
        {"Classification": "spark-defaults", "Properties": defaults},
    ]


def step_arguments(
    source: str, dest: str, run_arguments: Sequence[str], code_uri: str, executors: int = 2
) -> list[str]:
    """Arguments for EMR's `command-runner.jar`: the `spark-submit` line of `verger run`.

    The driver runs on the primary node, which is not on spot. What it prints is in the step's logs.

    Args:
        source: address of the photos.
        dest: address of the results.
        run_arguments: more options of `verger run`.
        code_uri: where the wheels lie; Spark's history shows it with the run.
        executors: that Spark waits for at the start, so that photos are cut into parts for all of them.
    """
    settings = {"spark.dynamicAllocation.initialExecutors": str(executors), "spark.verger.code": code_uri}
    submit = ["spark-submit", "--deploy-mode", "client", "--name", "verger", "--driver-memory", "4g"]
    return [*submit, *_options(settings), f"{HOME}/{MAIN}", "run", source, "--to", dest, *run_arguments]


def serverless_driver(
    source: str, dest: str, run_arguments: Sequence[str], code_uri: str, executors: int = 2
) -> dict[str, Any]:
    """The `jobDriver` of EMR Serverless: the same line, with the environment as an archive beside every worker.

    A worker has 4 vCPUs and 16 GB, the driver too; there are never more than `executors` of the former.
    """
    driver = {
        f"spark.emr-serverless.driverEnv.{name}": PACKED_PYTHON for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON")
    }
    memory = {"spark.executor.memory": "4g", "spark.executor.memoryOverhead": "12g"}
    memory |= {"spark.driver.cores": "4", "spark.driver.memory": "12g", "spark.driver.memoryOverhead": "4g"}
    settings = (
        EXECUTOR
        | memory
        | driver
        | {
            "spark.archives": f"{code_uri}/{ENVIRONMENT}#environment",
            "spark.executorEnv.PYSPARK_PYTHON": PACKED_PYTHON,
            "spark.dynamicAllocation.initialExecutors": str(executors),
            "spark.dynamicAllocation.maxExecutors": str(executors),
        }
    )
    submitted = {
        "entryPoint": f"{code_uri}/{MAIN}",
        "entryPointArguments": ["run", source, "--to", dest, *run_arguments],
        "sparkSubmitParameters": " ".join(_options(settings)),
    }
    return {"sparkSubmit": submitted}


def _options(settings: dict[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]


def _target(architecture: str) -> list[str]:
    """Options with which pip chooses wheels for the cluster instead of for this machine."""
    if architecture not in ARCHITECTURES:
        raise SettingError(f"an architecture among {', '.join(ARCHITECTURES)}", architecture, "Choose one of them.")
    platforms = [f"manylinux_2_{minor}_{architecture}" for minor in range(OLDEST_GLIBC, GLIBC + 1)]
    chosen = ["--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    for abi in ("cp311", "abi3", "none"):
        chosen += ["--abi", abi]
    for platform in (*platforms, f"manylinux2014_{architecture}", "any"):
        chosen += ["--platform", platform]
    return chosen


def _build_own_wheel(folder: Path) -> Path:
    """Verger's wheel, from a copy of the sources: what an earlier build left behind stays out of it."""
    if not (ROOT / "pyproject.toml").is_file():
        advice = "Clone the project, and install it with: pip install --editable '.[spark,aws]'"
        raise MissingError("Verger's sources, to make its wheel", f"an installed package in {ROOT}", advice)
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "verger"
        shutil.copytree(ROOT / "verger", copy / "verger", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(ROOT / name, copy / name)
        _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(copy))
    return next(folder.glob("verger-*.whl"))


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, "--quiet"]
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1577836800"}  # a date for every file of a wheel
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
        advice = "Check the network and constraints.txt; the dependencies come from where pip finds packages."
        raise RunFailedError(f"pip {arguments[0]} to succeed", said[-1].rstrip("."), advice)


def _archive(folder: Path, target: Path) -> Path:
    """A .tar.gz of a folder's content, without times and owners."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime = entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path in sorted(folder.rglob("*")):
            archive.add(path, path.relative_to(folder), recursive=False, filter=plain)
    return target
