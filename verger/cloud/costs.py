"""What was really billed, by run, next to what was estimated.

AWS knows it a day later, and only for tags that the account counts with: `verger:project` and `verger:run` must be
activated once as cost allocation tags. Asking costs a cent.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from rich import box
from rich.table import Table

from verger.cloud import deadline, serverless
from verger.cloud.aws import Aws, DeniedError
from verger.cloud.ending import tags_of

METRIC = "UnblendedCost"
ACTIVATE = (
    "No cost carries the tag verger:project yet. AWS needs a day to bill; and once per account the tags must be"
    " activated: Billing console, Cost allocation tags, verger:project and verger:run."
)


@dataclass
class Bill:
    """What one run came to. USD, as AWS bills."""

    run: str  # "" for what belongs to no run: storage, requests, the foundation
    usd: float = 0.0
    services: dict[str, float] = field(default_factory=dict)
    estimate_eur: float | None = None


def ask(project: str, days: int, today: date, page: str | None = None) -> dict[str, Any]:
    """The parameters for Cost Explorer: the project's costs by run and service, of the last `days` days and today."""
    first, until = today - timedelta(days=days), today + timedelta(days=1)
    parameters = {
        "TimePeriod": {"Start": first.isoformat(), "End": until.isoformat()},
        "Granularity": "MONTHLY",
        "Metrics": [METRIC],
        "GroupBy": [{"Type": "TAG", "Key": deadline.RUN_TAG}, {"Type": "DIMENSION", "Key": "SERVICE"}],
        "Filter": {"Tags": {"Key": deadline.PROJECT_TAG, "Values": [project], "MatchOptions": ["EQUALS"]}},
    }
    return parameters | ({"NextPageToken": page} if page else {})


def read_bills(aws: Aws, days: int, today: date) -> list[Bill]:
    """What the last `days` days were billed for, the dearest run first, with the estimate where it is still known."""
    groups: list[dict[str, Any]] = []
    page: str | None = None
    while True:
        answer = aws.read("ce", "get_cost_and_usage", **ask(aws.project, days, today, page))
        groups += [group for period in answer["ResultsByTime"] for group in period["Groups"]]
        page = answer.get("NextPageToken")
        if not page:
            break
    since = datetime.combine(today, time(), UTC) - timedelta(days=days)
    return add_up(groups, read_estimates(aws, since))


def add_up(groups: Iterable[Mapping[str, Any]], estimates: Mapping[str, float]) -> list[Bill]:
    """One bill for each run, from the groups of Cost Explorer's answer."""
    bills: dict[str, Bill] = {run: Bill(run, estimate_eur=eur) for run, eur in estimates.items()}
    for group in groups:
        tag, service = group["Keys"]
        run = tag.partition("$")[2]
        bill = bills.setdefault(run, Bill(run))
        amount = float(group["Metrics"][METRIC]["Amount"])
        bill.usd += amount
        bill.services[service] = bill.services.get(service, 0.0) + amount
    return sorted(bills.values(), key=lambda bill: (-bill.usd, bill.run))


def read_estimates(aws: Aws, since: datetime) -> dict[str, float]:
    """What runs were estimated at, in euros, as the tags of their clusters and applications still say."""
    ours = f"{aws.project}-"
    tags = [
        _tags(aws, "emr", "describe_cluster", "Cluster", "Tags", ClusterId=cluster["Id"])
        for page in aws.pages("emr", "list_clusters", CreatedAfter=since)
        for cluster in page["Clusters"]
        if cluster["Name"].startswith(ours)
    ]
    tags += [
        _tags(aws, serverless.SERVICE, "get_application", "application", "tags", applicationId=found["id"])
        for page in aws.pages(serverless.SERVICE, "list_applications")
        for found in page["applications"]
        if found["name"].startswith(ours)
    ]
    known = {}
    for each in tags:
        if each.get(deadline.PROJECT_TAG) == aws.project and deadline.ESTIMATE_TAG in each:
            known[each.get(deadline.RUN_TAG, "")] = float(each[deadline.ESTIMATE_TAG])
    return known


def _tags(aws: Aws, service: str, operation: str, thing: str, key: str, **which: str) -> dict[str, str]:
    """Tags; none of what is not ours to look at."""
    try:
        found = aws.read(service, operation, **which)[thing].get(key, {})
    except DeniedError:
        return {}
    return dict(found) if isinstance(found, dict) else tags_of(found)


def table(bills: Iterable[Bill], usd_per_eur: float) -> Table:
    """Bills next to estimates, in euros."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("Run", "Billed €", "Estimated €", "For"):
        shown.add_column(heading, overflow="fold", justify="right" if "€" in heading else "left")
    for bill in bills:
        services = sorted(bill.services.items(), key=lambda item: -item[1])
        parts = ", ".join(f"{name} {usd / usd_per_eur:.2f}" for name, usd in services if usd >= 0.005)
        estimate = "" if bill.estimate_eur is None else f"{bill.estimate_eur:.2f}"
        shown.add_row(bill.run or "no run: storage and the rest", f"{bill.usd / usd_per_eur:.2f}", estimate, parts)
    return shown
