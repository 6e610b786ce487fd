"""The deadline of everything that costs by the hour: it lies in AWS, not on the laptop, and is there first.

Two ways lead to it, and neither needs the other (docs/decisions/0014-deadline.md):

1. The deadline is a tag in the very request that makes the cluster. A function of the foundation looks every five
   minutes, and ends whatever is ours and past its tag, or has none.
2. A schedule of its own, made before the cluster, calls the same function at the deadline with the name of the run.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from verger.cloud.aws import Aws, Request
from verger.errors import SettingError

if TYPE_CHECKING:
    from verger.cloud.foundation import Foundation

PROJECT_TAG, RUN_TAG, DEADLINE_TAG = "verger:project", "verger:run", "verger:deadline"
# Price and estimate stand beside the deadline: `status` and `costs` need no other record.
RATE_TAG, ESTIMATE_TAG = "verger:eur-per-hour", "verger:estimate-eur"
SHORTEST = timedelta(minutes=20)  # a cluster needs ten of them to start
LONGEST = timedelta(hours=12)


def written(deadline: datetime) -> str:
    """A deadline as its tag says it, in UTC and to the minute.

    >>> written(datetime(2026, 11, 21, 23, 45, tzinfo=UTC))
    '2026-11-21T23:45Z'
    """
    return f"{deadline.astimezone(UTC):%Y-%m-%dT%H:%MZ}"


def read(tags: Mapping[str, str]) -> datetime | None:
    """The deadline that the tags of a cluster hold; None where they hold none that can be read."""
    try:
        deadline = datetime.fromisoformat(tags.get(DEADLINE_TAG, ""))
    except ValueError:
        return None
    return deadline if deadline.tzinfo else deadline.replace(tzinfo=UTC)


def choose(now: datetime, expected: timedelta, eur_per_hour: float, max_eur: float) -> datetime:
    """When a run must be over: after twice its estimated time, but before it can have cost `max_eur`.

    Args:
        now: UTC.
        expected: estimated time of the run.
        eur_per_hour: with every node on demand, which is the most that the fleets can come to.
        max_eur: ceiling of the run.

    Raises:
        SettingError: the money would not last for the estimated time.
    """
    affordable = timedelta(hours=max_eur / eur_per_hour)
    if affordable < max(expected, SHORTEST):
        raise SettingError(
            f"--max-eur {max_eur:.2f} to pay for {_minutes(max(expected, SHORTEST))} of the cluster, all on demand",
            f"{eur_per_hour:.2f} € an hour, so {_minutes(affordable)}",
            "Take fewer --nodes, or raise --max-eur.",
        )
    return now + min(max(2 * expected, timedelta(hours=1)), affordable, LONGEST)


def _minutes(time: timedelta) -> str:
    return f"{time.total_seconds() / 60:.0f} minutes"


def schedule_name(project: str, run: str) -> str:
    """The name of the schedule of one run."""
    return f"{project}-{run}"


def schedule(foundation: "Foundation", run: str, deadline: datetime) -> Request:
    """The request for a schedule that ends the clusters of `run` at the deadline, and then deletes itself."""
    return Request(
        "scheduler",
        "create_schedule",
        {
            "Name": schedule_name(foundation.project, run),
            "GroupName": foundation.scheduler_group_name,
            "Description": "Ends what this run left behind",
            "ScheduleExpression": f"at({deadline.astimezone(UTC):%Y-%m-%dT%H:%M:%S})",
            "ScheduleExpressionTimezone": "UTC",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "ActionAfterCompletion": "DELETE",
            "State": "ENABLED",
            "Target": {
                "Arn": foundation.deadline_function_arn,
                "RoleArn": foundation.scheduler_role_arn,
                "Input": f'{{"run": "{run}"}}',
                "RetryPolicy": {"MaximumRetryAttempts": 185, "MaximumEventAgeInSeconds": 86_400},
            },
        },
    )


def remove_schedule(name: str, group: str) -> Request:
    """The request that removes the schedule of a run that is over."""
    return Request("scheduler", "delete_schedule", {"Name": name, "GroupName": group})


def list_schedules(aws: Aws, group: str) -> list[dict[str, Any]]:
    """The schedules of the foundation: the one that looks every five minutes, and one for each run that is not over."""
    return [
        schedule for page in aws.pages("scheduler", "list_schedules", GroupName=group) for schedule in page["Schedules"]
    ]


def check_watch(aws: Aws, foundation: "Foundation") -> None:
    """Make sure that the foundation looks after deadlines, before anything is started that has one.

    Raises:
        SettingError: its schedule is missing or switched off.
    """
    watching = [
        schedule
        for schedule in list_schedules(aws, foundation.scheduler_group_name)
        if schedule["State"] == "ENABLED"
        and schedule["Target"]["Arn"] == foundation.deadline_function_arn
        and not is_of_a_run(schedule["Name"], foundation.project)
    ]
    if not watching:
        raise SettingError(
            "a foundation that looks every five minutes for clusters past their deadline",
            f"no such schedule switched on in the group {foundation.scheduler_group_name}",
            "Restore it: verger cloud setup.",
        )


def is_of_a_run(name: str, project: str) -> bool:
    """True for the one-shot schedule of a run, whose name ends with the run's id."""
    run = name.removeprefix(f"{project}-")
    return run != name and run[:8].isdigit()
