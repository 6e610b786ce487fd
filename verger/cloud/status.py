"""Everything of ours that is there, what it costs, and what looks wrong about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.table import Table

from verger.cloud import deadline, serverless
from verger.cloud.aws import Aws, DeniedError
from verger.cloud.ending import live_applications, live_clusters, tags_of

CLUSTER, APPLICATION, SCHEDULE = "cluster", "serverless application", "schedule"
UNKNOWN_RATE = "unknown"


@dataclass(frozen=True)
class Thing:
    """Something of ours in AWS."""

    kind: str
    id: str
    state: str
    run: str = ""
    deadline: datetime | None = None
    eur_per_hour: float | None = 0.0  # while it is there; None: costs, but it does not say how much
    note: str = ""  # what looks wrong
    protected: bool = False  # from termination

    @property
    def costs(self) -> bool:
        """True if it costs by the hour, now."""
        return self.eur_per_hour is None or self.eur_per_hour > 0


def take_stock(aws: Aws, group: str | None = None) -> list[Thing]:
    """All clusters, serverless applications and schedules of the project in this region, however they came to be.

    Args:
        aws: session.
        group: of schedules; otherwise the project's.
    """
    schedules = [
        schedule
        for schedule in deadline.list_schedules(aws, group or aws.project)
        if deadline.is_of_a_run(schedule["Name"], aws.project)
    ]
    scheduled = {schedule["Name"] for schedule in schedules}
    things = [thing for cluster in live_clusters(aws) if (thing := _cluster(aws, cluster, scheduled))]
    things += [thing for found in live_applications(aws) if (thing := _application(aws, found, scheduled))]
    for schedule in schedules:
        run = schedule["Name"].removeprefix(f"{aws.project}-")
        things.append(Thing(SCHEDULE, schedule["Name"], schedule["State"], run))
    return things


def _cluster(aws: Aws, listed: dict[str, Any], scheduled: set[str]) -> Thing | None:
    """A cluster, if it is ours: by its tag, or at least by its name."""
    try:
        described = aws.read("emr", "describe_cluster", ClusterId=listed["Id"])["Cluster"]
    except DeniedError:  # the user policy shows clusters with our tag and no others
        described = {}
    tags = tags_of(described.get("Tags", []))
    state = listed["Status"]["State"]
    if tags.get(deadline.PROJECT_TAG) != aws.project:
        if not listed["Name"].startswith(f"{aws.project}-"):
            return None
        return Thing(
            CLUSTER, listed["Id"], state, eur_per_hour=None, note="named like ours, without our tag: left alone"
        )
    return _tagged(
        CLUSTER, listed["Id"], state, tags, scheduled, aws.project, described.get("TerminationProtected", False)
    )


def _application(aws: Aws, listed: dict[str, Any], scheduled: set[str]) -> Thing | None:
    try:
        found = aws.read(serverless.SERVICE, "get_application", applicationId=listed["id"])["application"]
    except DeniedError:
        return None
    tags = found.get("tags", {})
    if tags.get(deadline.PROJECT_TAG) != aws.project:
        return None
    return _tagged(APPLICATION, listed["id"], found["state"], tags, scheduled, aws.project, protected=False)


def _tagged(
    kind: str, id_: str, state: str, tags: dict[str, str], scheduled: set[str], project: str, protected: bool
) -> Thing:
    """What the tags of a cluster or an application say of it, and what is wrong with them."""
    run, until = tags.get(deadline.RUN_TAG, ""), deadline.read(tags)
    notes = []
    if until is None:
        notes.append("no deadline that can be read: the foundation ends it within five minutes")
    elif until < datetime.now(UTC):
        notes.append("past its deadline")
    if deadline.schedule_name(project, run) not in scheduled:
        notes.append("no schedule of its own" if run else "unknown: no run in its tags")
    if protected:
        notes.append("protected from termination")
    idle = kind == APPLICATION and state in {"CREATED", "STOPPED"}
    return Thing(kind, id_, state, run, until, 0.0 if idle else _rate(tags), "; ".join(notes), protected)


def _rate(tags: dict[str, str]) -> float | None:
    try:
        return float(tags[deadline.RATE_TAG])
    except (KeyError, ValueError):
        return None


def is_ours(thing: Thing) -> bool:
    """True for what `down` may end: what is only named like ours is left alone."""
    return "left alone" not in thing.note


def table(things: Sequence[Thing]) -> Table:
    """What is there, for people."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("What", "Id", "State", "Run", "Until (UTC)", "€/hour"):
        shown.add_column(heading, overflow="fold")
    for thing in things:
        until = f"{thing.deadline:%m-%d %H:%M}" if thing.deadline else ""
        rate = UNKNOWN_RATE if thing.eur_per_hour is None else f"{thing.eur_per_hour:.2f}" if thing.costs else ""
        # The name of a schedule holds its run; without it, 80 columns hold the table.
        name = "" if thing.kind == SCHEDULE else thing.id
        shown.add_row(thing.kind.split()[0], name, thing.state.lower(), thing.run, until, rate)
    return shown


def notes(things: Sequence[Thing]) -> str:
    """What looks wrong, a line for each thing; and an empty line, unless all is well."""
    return "".join(f"{thing.id}: {thing.note}\n" for thing in things if thing.note)


def summary(things: Sequence[Thing]) -> str:
    """One sentence: what runs and costs right now."""
    costing = [thing for thing in things if thing.costs]
    if not costing:
        return "Nothing costs by the hour."
    rates = [thing.eur_per_hour for thing in costing if thing.eur_per_hour is not None]
    unknown = "" if len(rates) == len(costing) else " and what does not say its price"
    return f"{', '.join(thing.id for thing in costing)}: up to {sum(rates):.2f} € an hour{unknown}."
