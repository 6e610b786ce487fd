"""The only place that starts Spark, and the one way in which stages run their tasks on it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from verger.cache import cache_folder
from verger.errors import MissingError, RunFailedError, SettingError
from verger.network import count_gpus
from verger.stages import Progress

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

Item = TypeVar("Item")
Result = TypeVar("Result")

JOB_TASKS = 2_000
JAVA_ADVICE = "Install it: sudo apt-get install openjdk-17-jre-headless (or set JAVA_HOME to one that is installed)."
JAVA_OPTIONS = "spark.driver.extraJavaOptions"
LOCAL = {
    # Nothing of a local run listens on the network.
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    # Photos and vectors never enter the JVM, so it needs little memory and no optimising compiler.
    "spark.driver.memory": "1g",
    # Sums over all photos come back as they are, instead of by way of a block store: 0.2 s for 13 MB, which took 0.4.
    "spark.task.maxDirectResultSize": "64m",
    JAVA_OPTIONS: "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
}
ALWAYS = {
    "spark.app.name": "verger",
    "spark.ui.showConsoleProgress": "false",  # the command line shows its own
    "spark.python.worker.reuse": "true",  # a worker keeps its network for the tasks that follow
    "spark.python.daemon.module": "verger.daemon",  # workers start with all they need already loaded
    # Between the JVM and its workers, TCP waits 40 ms a task for acknowledgements. Spark before 4.1 knows no other way.
    "spark.python.unix.domain.socket.enabled": "true",
    # Freed memory stays with a worker for the next photo; fetching it anew, page by page, takes 2 % of its time.
    "spark.executorEnv.GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=67108864",
}


@contextmanager
def spark_context(
    master: str | None, spark: "SparkSession | None" = None, device: str = "cpu"
) -> "Iterator[SparkContext]":
    """The context of the caller's session, or of one that this process runs, or a new one, stopped at the end.

    A context is all that our tasks need; starting a whole SparkSession, with its SQL, takes half as long again.

    Raises:
        MissingError: pyspark or Java is not installed.
        SettingError: Spark does not start on `master`.
    """
    if spark is not None:
        yield spark.sparkContext
        return
    try:
        from pyspark import SparkContext
    except ImportError as error:
        raise MissingError("pyspark", "none", "Install it: pip install 'verger[spark]'.") from error
    if SparkContext._active_spark_context is not None:  # started by somebody else, in whatever thread
        yield SparkContext._active_spark_context
        return
    context = _start(master, device)
    try:
        yield context
    finally:
        context.stop()


def _start(master: str | None, device: str) -> "SparkContext":
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway

    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # spark-submit decides master and memory itself
    java = "" if submitted else check_java()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # Nobody says where: here, with a worker for every core, or for every GPU.
    here = "local[*]" if device == "cpu" else f"local[{max(1, count_gpus())}]"
    settings = ALWAYS | ({} if submitted and not master else {"spark.master": master or here})
    if re.match(r"local($|\[)", settings.get("spark.master", "")):
        # In local mode workers inherit the environment: one thread a task, on as many tasks as there are cores.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        settings |= LOCAL | {JAVA_OPTIONS: f"{LOCAL[JAVA_OPTIONS]} {class_archive(java)}"}
    if not Path(__file__).exists():  # --py-files brought us, in a zip: workers have that for their tasks, no sooner
        settings.pop("spark.python.daemon.module")
    conf = SparkConf().setAll(list(settings.items()))
    # The JVM's chatter and the stack of every failed task go to a nameless file: what people read is ours to write.
    with tempfile.TemporaryFile() as log:
        try:
            gateway = SparkContext._gateway  # a JVM that an earlier session of this process left
            if gateway is None and not submitted:
                gateway = launch_gateway(conf, {"stdout": log, "stderr": log})  # type: ignore[no-untyped-call]
            context = SparkContext(conf=conf, gateway=gateway)
        except Exception as error:
            log.seek(0)
            text = f"{log.read().decode(errors='replace')}\n{error}"
            raise _not_started(master or here, text) from error
    context.setLogLevel("ERROR")
    return context


def _not_started(master: str, text: str) -> SettingError:
    said = [line.strip() for line in text.splitlines() if re.search(r"\w(Exception|Error): ", line)]
    return SettingError(
        f"a Spark that starts on {master}",
        said[0] if said else text.strip(),
        "Check --master; try --master 'local[1]' to see whether Spark itself works.",
    )


def check_java() -> str:
    """The version of Java, such as "17.0.15". Says in one line what Spark would say in fifty.

    Raises:
        MissingError: there is no Java, or it is older than 17.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin" if home else None)
    if java is None:
        raise MissingError("Java 17 or newer", "none" + (f" in JAVA_HOME={home}" if home else ""), JAVA_ADVICE)
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    found = re.search(r'version "((\d+)[^"]*)', said)
    if found and int(found[2]) < 17:
        raise MissingError("Java 17 or newer", f"Java {found[1]} at {java}", JAVA_ADVICE)
    return found[1] if found else "unknown"


def class_archive(java: str) -> str:
    """The option with which the JVM loads Spark's classes from an archive, or writes that archive when it ends.

    Half of a local start is loading ten thousand classes. The JVM checks that an archive fits its version and its class
    path, and goes on without where it does not. See "Application class-data sharing" in the manual of Java 17.
    """
    import pyspark

    archive = cache_folder() / f"spark-{pyspark.__version__}-java-{java}.jsa"
    if archive.exists():
        return f'"-XX:SharedArchiveFile={archive}"'
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""  # without a cache every start is a first one
    return f'"-XX:ArchiveClassesAtExit={archive}"'


def run_tasks(
    context: "SparkContext",
    items: Sequence[Item],
    task: Callable[[Item], tuple[int, Result]],
    progress: Progress = lambda _: None,
) -> list[tuple[int, Result]]:
    """Run `task` on each item, one Spark task an item, some thousands a job; results in the order of the items.

    Args:
        context: Spark's.
        items: at least one.
        task: runs on a worker; returns how much it did, and its result.
        progress: called with the sum of what finished tasks did, while the job runs.
    """
    done = context.accumulator(0)

    def counted(item: Item) -> tuple[int, Result]:
        count, result = task(item)
        done.add(count)
        return count, result

    results: list[tuple[int, Result]] = []
    at_once = max(JOB_TASKS, 16 * context.defaultParallelism)  # the driver's JVM holds what the tasks of a job ask for
    with _polling(lambda: progress(done.value)), explained_failures():
        for start in range(0, len(items), at_once):
            some = items[start : start + at_once]
            results += context.parallelize(some, len(some)).map(counted).collect()
    return results


@contextmanager
def explained_failures() -> Iterator[None]:
    """Turn the failure of a Spark job into one sentence: what the task said, without the JVM's stack.

    Raises:
        RunFailedError: the job failed.
    """
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JError, PySparkException) as error:
        text = str(error)
        # The first line at the margin after a Python traceback is the exception; without one, the first line of all.
        said = re.search(r"Traceback \(most recent call last\):\n(?:\s.*\n)+(\S.*)", text)
        said = said or re.search(r"Error from python worker:\n\s*(\S.*)", text)  # one that did not even start
        raise RunFailedError(
            "every Spark task to finish",
            said[1] if said else text.strip().partition("\n")[0],
            "What is done stays done: mend the cause, and run the same command again. --debug shows all.",
        ) from error


@contextmanager
def _polling(report: Callable[[], Any], every_seconds: float = 0.2) -> Iterator[None]:
    """Call `report` regularly in the background, and once more at the end."""
    finished = threading.Event()

    def poll() -> None:
        while not finished.wait(every_seconds):
            report()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
        report()
