"""One run on a cluster that exists for it alone: the deadline first, then the cluster, then the wait, then the end."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import urlsplit

from verger.cloud import deadline, serverless
from verger.cloud.aws import Aws, Request, UnreachableError
from verger.cloud.emr import Order
from verger.cloud.ending import POLL_SECONDS, Killed, end_application, end_run
from verger.cloud.plan import Ask, Plan
from verger.errors import RunFailedError, VergerError

Say = Callable[[str], None]
Question = Callable[[str], bool]

# What EMR gives as the reason of an end, and what to do about it.
REASONS = {
    "INSTANCE_FLEET_TIMEOUT": "No such machines were free, neither as spot nor on demand. Try later, or elsewhere.",
    "VALIDATION_ERROR": "If a quota is named, ask for fewer --nodes, or for more: AWS console, Service Quotas, EC2.",
    "BOOTSTRAP_FAILURE": "Read the node's log: {logs}/node/.",
    "STEP_FAILURE": "Read the step's log: {logs}/steps/.",
    "USER_REQUEST": "Somebody, or its deadline, ended it. What is done stays done: the same command goes on.",
}
CLOCKS_DIFFER = timedelta(minutes=15)  # AWS refuses whoever is further off
OTHERWISE = "Read its logs: {logs}. What is done stays done: the same command goes on."


def run_cluster(aws: Aws, plan: Plan, request: Request, ask: Ask, say: Say, sure: Question, every: float) -> None:
    """Order a transient cluster, wait for its step, and leave nothing behind, whatever happens.

    Args:
        aws: session.
        plan: what was settled.
        request: the cluster.
        ask: what was asked for.
        say: tells people one line.
        sure: asks whether an interrupted run shall end.
        every: seconds between two looks.

    Raises:
        RunFailedError: it failed; its cluster was ended, or the message says what still runs.
    """
    order, began = plan.order, datetime.now(UTC)
    with ending(aws, order, say, sure, lambda: end_run(aws, order.foundation.scheduler_group_name, order.name)):
        aws.send(deadline.schedule(order.foundation, order.run, order.deadline))
        answer = aws.send(request)
        if answer is None:
            return
        cluster = answer["JobFlowId"]
        say(f"Cluster {cluster} of run {order.run}: {costing(order)}.")
        watch(aws, cluster, order, say, every)
        check_manifest(aws, ask.dest, began, f"s3://{order.foundation.bucket_name}/logs/{cluster}/steps/")


def run_serverless(
    aws: Aws, plan: Plan, driver: dict[str, Any], ask: Ask, say: Say, sure: Question, every: float
) -> None:
    """The same without a cluster: an application of EMR Serverless that exists for this run. As `run_cluster`."""
    order, began = plan.order, datetime.now(UTC)
    made: list[str] = []

    def end() -> list[str]:
        for application in made:
            end_application(aws, application, every)
        return made + end_run(aws, order.foundation.scheduler_group_name, order.name)

    with ending(aws, order, say, sure, end):
        aws.send(deadline.schedule(order.foundation, order.run, order.deadline))
        answer = aws.send(serverless.application(order, plan.executors)) or {"applicationId": "APPLICATION"}
        application = answer["applicationId"]
        if not aws.dry_run:
            made.append(application)
        answer = aws.send(serverless.job(order, application, driver, began))
        if answer is None:
            return
        say(f"Job {answer['jobRunId']} of run {order.run}: {costing(order)}.")
        _watch_job(aws, order, {"applicationId": application, "jobRunId": answer["jobRunId"]}, say, every)
        check_manifest(aws, ask.dest, began, f"s3://{order.foundation.bucket_name}/logs/")


@contextmanager
def ending(aws: Aws, order: Order, say: Say, sure: Question, end: Callable[[], list[str]]) -> Iterator[None]:
    """Whatever leaves this block, what it started is ended; only a person who is asked can leave it running."""
    if aws.dry_run:
        yield
        return
    try:
        yield
    except Killed:
        _end(aws, order, end, RunFailedError("the run to finish", "a kill", "The same command goes on."))
    except KeyboardInterrupt:
        if not sure(f"End run {order.run} now? It costs up to {order.eur_per_hour:.2f} € an hour."):
            rest = f"It goes on: {costing(order)}. See it: {command(aws, 'status')}; end it: {command(aws, 'down')}."
            raise RunFailedError("to wait for the end of the run", "an interruption, and a no", rest) from None
        _end(aws, order, end, RunFailedError("the run to finish", "an interruption", "The same command goes on."))
    except VergerError as error:
        _end(aws, order, end, error)
    except Exception as error:  # noqa: BLE001  (a fault of ours must not cost either)
        advice = "--debug shows where; please report it."
        _end(aws, order, end, RunFailedError("nothing that Verger does not know", repr(error), advice))
    else:
        _tidy(aws, order, end, say)


def _tidy(aws: Aws, order: Order, end: Callable[[], list[str]], say: Say) -> None:
    """Remove what is left of a run that went well. What cannot be removed now ends by itself."""
    try:
        end()
    except VergerError as error:
        say(f"Not tidied up ({error.received}). If anything runs, {costing(order)}. End it: {command(aws, 'down')}.")


def _end(aws: Aws, order: Order, end: Callable[[], list[str]], cause: VergerError) -> NoReturn:
    """End what was started, and say in one message what went wrong, what still costs, and what ends it."""
    try:
        ended = end()
    except (VergerError, KeyboardInterrupt) as error:
        reason = getattr(error, "received", "an interruption")
        rest = f"Run {order.run} could not be ended ({reason}): {costing(order)}. End it: {command(aws, 'down')}."
    else:
        gone = f"{', '.join(ended)} was ended" if ended else "Nothing was left to end"
        rest = f"{gone}: this run costs nothing any more."
    raise RunFailedError(cause.expected, cause.received, f"{cause.advice} {rest}") from cause


def costing(order: Order) -> str:
    """What an order costs while it runs, and when it ends by itself."""
    return (
        f"it costs up to {order.eur_per_hour:.2f} € an hour, and AWS ends it at"
        f" {order.deadline:%H:%M} UTC ({order.deadline:%Y-%m-%d}) at the latest, with or without this computer"
    )


def command(aws: Aws, name: str) -> str:
    """A command for this region and project, to be pasted."""
    project = "" if aws.project == "verger" else f" --project {aws.project}"
    return f"verger cloud {name} --region {aws.region}{project}"


def watch(aws: Aws, cluster: str, order: Order, say: Say, every: float = POLL_SECONDS) -> None:
    """Wait until the step of a transient cluster is over. A network that is away for a while does no harm.

    Raises:
        RunFailedError: the cluster or its step failed.
    """
    before = ""
    while True:
        try:
            status = aws.read("emr", "describe_cluster", ClusterId=cluster)["Cluster"]["Status"]
        except UnreachableError as error:
            be_patient(order, error)
            status = {"State": "AWS does not answer; trying again"}
        if status["State"] != before:
            before = status["State"]
            say(f"{datetime.now(UTC):%H:%M:%S} {before.lower().replace('_', ' ')}")
        if before.startswith("TERMINAT") or before == "WAITING":  # a transient cluster waits for nothing but its end
            break
        time.sleep(every)
    steps = [step for page in aws.pages("emr", "list_steps", ClusterId=cluster) for step in page["Steps"]]
    if steps and all(step["Status"]["State"] == "COMPLETED" for step in steps):
        return
    reason = status.get("StateChangeReason", {})
    code, words = reason.get("Code") or "no reason", reason.get("Message") or ""
    logs = f"s3://{order.foundation.bucket_name}/logs/{cluster}"
    received = f"cluster {cluster} {before.lower()}: {code} {words}".rstrip()
    raise RunFailedError("the cluster to finish its step", received, REASONS.get(code, OTHERWISE).format(logs=logs))


def _watch_job(aws: Aws, order: Order, job: dict[str, str], say: Say, every: float) -> None:
    before = ""
    while before not in serverless.ENDED:
        try:
            run = aws.read(serverless.SERVICE, "get_job_run", **job)["jobRun"]
        except UnreachableError as error:
            be_patient(order, error)
        else:
            if run["state"] != before:
                before = run["state"]
                say(f"{datetime.now(UTC):%H:%M:%S} {before.lower()}")
        if before not in serverless.ENDED:
            time.sleep(every)
    if before != "SUCCESS":
        logs = f"s3://{order.foundation.bucket_name}/logs"
        received = f"{before}: {run.get('stateDetails', '')}".rstrip(": ")
        raise RunFailedError("the job to succeed", received, OTHERWISE.format(logs=logs))


def be_patient(order: Order, error: UnreachableError) -> None:
    """Give up on a silent AWS only when the run must be over anyway."""
    if datetime.now(UTC) > order.deadline:
        raise error


def check_manifest(aws: Aws, dest: str, began: datetime, logs: str) -> None:
    """Believe in a run when its manifest is there, written since it began; otherwise send people to its logs.

    Raises:
        RunFailedError: there is none, or an older one.
    """
    place = urlsplit(dest)
    key = f"{place.path.strip('/')}/manifest.json"
    try:
        content = aws.read("s3", "get_object", Bucket=place.netloc, Key=key)["Body"].read()
        finished = datetime.fromisoformat(json.loads(content)["finished"])
    except (VergerError, ValueError, KeyError) as error:
        wanted = f"{dest}/manifest.json, which a run writes last"
        raise RunFailedError(wanted, "none that can be read", OTHERWISE.format(logs=logs)) from error
    if finished < began - CLOCKS_DIFFER:
        wanted = f"a manifest written since {began:%H:%M:%S} UTC"
        raise RunFailedError(wanted, f"one of {finished}", OTHERWISE.format(logs=logs))
