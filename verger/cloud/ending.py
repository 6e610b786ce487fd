"""How what costs is ended, and how one makes sure of it."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from verger.cloud import deadline, emr, serverless
from verger.cloud.aws import Aws
from verger.errors import RunFailedError

POLL_SECONDS = 15.0
PATIENCE_SECONDS = 900.0
ALIVE_APPLICATIONS = ("CREATING", "CREATED", "STARTING", "STARTED", "STOPPING", "STOPPED")


class Killed(KeyboardInterrupt):
    """A closed terminal or a polite kill: nobody is there to be asked."""


def live_clusters(aws: Aws) -> list[dict[str, Any]]:
    """All clusters of the region that are not gone, ours or not."""
    pages = aws.pages("emr", "list_clusters", ClusterStates=list(emr.ALIVE))
    return [cluster for page in pages for cluster in page["Clusters"]]


def live_applications(aws: Aws) -> list[dict[str, Any]]:
    """All applications of EMR Serverless in the region that are not gone, ours or not."""
    pages = aws.pages(serverless.SERVICE, "list_applications", states=list(ALIVE_APPLICATIONS))
    return [application for page in pages for application in page["applications"]]


def end_run(aws: Aws, group: str, name: str) -> list[str]:
    """End whatever goes by a run's name, and when that is accepted, remove its schedule.

    Looking by name finds a cluster whose id was never received too.

    Returns:
        The ids of what was ended.
    """
    clusters = [cluster["Id"] for cluster in live_clusters(aws) if cluster["Name"] == name]
    if clusters:
        aws.send(emr.terminate(clusters))
    remove_schedule(aws, name, group)
    return clusters


def end_application(aws: Aws, application_id: str, every: float = POLL_SECONDS) -> None:
    """Cancel the jobs of a serverless application, stop it, and delete it; each wants the one before to be over."""
    for job in live_jobs(aws, application_id):
        if job["state"] != "CANCELLING":
            aws.send(serverless.cancel(application_id, job["id"]))
    if not aws.dry_run:
        wait_for(lambda: not live_jobs(aws, application_id), f"the jobs of {application_id} to end", every)
    if not _stopped(aws, application_id):
        aws.send(serverless.stop(application_id))
    if not aws.dry_run:
        wait_for(lambda: _stopped(aws, application_id), f"serverless application {application_id} to stop", every)
    aws.send(serverless.delete(application_id))


def live_jobs(aws: Aws, application_id: str) -> list[dict[str, Any]]:
    """The jobs of a serverless application that are not over."""
    pages = aws.pages(serverless.SERVICE, "list_job_runs", applicationId=application_id)
    return [job for page in pages for job in page["jobRuns"] if job["state"] not in serverless.ENDED]


def _stopped(aws: Aws, application_id: str) -> bool:
    answer = aws.read(serverless.SERVICE, "get_application", applicationId=application_id)
    return answer["application"]["state"] in {"CREATED", "STOPPED", serverless.GONE}


def remove_schedule(aws: Aws, name: str, group: str) -> None:
    """Remove the schedule of a run, if it is still there: at the deadline it removes itself."""
    if any(schedule["Name"] == name for schedule in deadline.list_schedules(aws, group)):
        aws.send(deadline.remove_schedule(name, group))


def wait_for(true: Callable[[], bool], what: str, every: float, patience: float = PATIENCE_SECONDS) -> None:
    """Wait until something is so.

    Raises:
        RunFailedError: it was not, after `patience` seconds.
    """
    until = time.monotonic() + patience
    while not true():
        if time.monotonic() > until:
            advice = "See what is there: verger cloud status; end it: verger cloud down."
            raise RunFailedError(what, f"none of it after {patience / 60:.0f} minutes", advice)
        time.sleep(every)


def tags_of(described: Iterable[dict[str, str]]) -> dict[str, str]:
    """The tags of a cluster as a dictionary."""
    return {tag["Key"]: tag["Value"] for tag in described}
