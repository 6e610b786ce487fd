"""The only place that builds a SparkSession, and the one way in which stages run their tasks on it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from verger.errors import MissingError, RunFailedError, SettingError
from verger.stages import Progress

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Item = TypeVar("Item")
Result = TypeVar("Result")

JAVA_ADVICE = "Install it: sudo apt-get install openjdk-17-jre-headless (or set JAVA_HOME to one that is installed)."
LOCAL = {
    # Nothing of a local run listens on the network.
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    # Photos and vectors never enter the JVM, so it needs little memory and no optimising compiler.
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
}
ALWAYS = {
    "spark.app.name": "verger",
    "spark.ui.showConsoleProgress": "false",  # the command line shows its own
    "spark.python.worker.reuse": "true",  # a worker keeps its network for the tasks that follow
}


@contextmanager
def spark_session(master: str | None, spark: "SparkSession | None" = None) -> "Iterator[SparkSession]":
    """The caller's session if there is one, otherwise a new one, stopped at the end.

    Raises:
        MissingError: pyspark or Java is not installed.
        SettingError: Spark does not start on `master`.
    """
    if spark is not None:
        yield spark
        return
    try:
        from pyspark import SparkContext
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise MissingError("pyspark", "none", "Install it: pip install 'verger[spark]'.") from error
    if SparkContext._active_spark_context is not None:  # one that this process runs already, in whatever thread
        yield SparkSession.builder.getOrCreate()
        return
    session = _start(master)
    try:
        yield session
    finally:
        session.stop()


def _start(master: str | None) -> "SparkSession":
    from pyspark import SparkConf, SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # spark-submit decides master and memory itself
    if not submitted:
        check_java()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    settings = ALWAYS | ({} if submitted and not master else {"spark.master": master or "local[*]"})
    if re.match(r"local($|\[)", settings.get("spark.master", "")):
        # In local mode workers inherit the environment: one thread a task, on as many tasks as there are cores.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        settings |= LOCAL
    conf = SparkConf().setAll(list(settings.items()))
    # The JVM's chatter and the stack of every failed task go to a nameless file: what people read is ours to write.
    with tempfile.TemporaryFile() as log:
        try:
            gateway = SparkContext._gateway  # a JVM that an earlier session of this process left
            if gateway is None and not submitted:
                gateway = launch_gateway(conf, {"stderr": log})  # type: ignore[no-untyped-call]
            SparkContext(conf=conf, gateway=gateway).setLogLevel("ERROR")
            return SparkSession.builder.getOrCreate()
        except Exception as error:
            log.seek(0)
            text = f"{log.read().decode(errors='replace')}\n{error}"
            raise _not_started(master or "local[*]", text) from error


def _not_started(master: str, text: str) -> SettingError:
    said = [line.strip() for line in text.splitlines() if re.search(r"\w(Exception|Error): ", line)]
    return SettingError(
        f"a Spark that starts on {master}",
        said[0] if said else text.strip(),
        "Check --master; try --master 'local[1]' to see whether Spark itself works.",
    )


def check_java() -> None:
    """Say in one line that Java is missing or too old, before Spark says it in fifty.

    Raises:
        MissingError: there is no Java, or it is older than 17.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin" if home else None)
    if java is None:
        raise MissingError("Java 17 or newer", "none" + (f" in JAVA_HOME={home}" if home else ""), JAVA_ADVICE)
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    found = re.search(r'version "(\d+)', said)
    if found and int(found[1]) < 17:
        raise MissingError("Java 17 or newer", f"Java {found[1]} at {java}", JAVA_ADVICE)


def run_tasks(
    spark: "SparkSession",
    items: Sequence[Item],
    task: Callable[[Item], tuple[int, Result]],
    progress: Progress = lambda _: None,
) -> list[tuple[int, Result]]:
    """Run `task` on each item, one Spark task an item; results in the order of the items.

    Args:
        spark: the session.
        items: at least one.
        task: runs on a worker; returns how much it did, and its result.
        progress: called with the sum of what finished tasks did, while the job runs.
    """
    context = spark.sparkContext
    done = context.accumulator(0)

    def counted(item: Item) -> tuple[int, Result]:
        count, result = task(item)
        done.add(count)
        return count, result

    with _polling(lambda: progress(done.value)), explained_failures():
        return list(context.parallelize(items, len(items)).map(counted).collect())


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
