"""Everything that costs by the hour, ended; and made sure that it is gone."""

from collections.abc import Sequence

from verger.cloud import deadline, emr
from verger.cloud.aws import Aws
from verger.cloud.ending import PATIENCE_SECONDS, end_application, wait_for
from verger.cloud.run import Say
from verger.cloud.status import APPLICATION, CLUSTER, SCHEDULE, Thing, is_ours, take_stock


def end_everything(aws: Aws, things: Sequence[Thing], group: str, say: Say, every: float) -> None:
    """End what is ours: clusters first, for they cost most, then serverless applications, then schedules.

    A schedule goes last: until then it ends what this could not.

    Args:
        aws: session.
        things: as `take_stock` found them.
        group: of schedules.
        say: tells people one line.
        every: seconds between two looks.

    Raises:
        RunFailedError: AWS refused, or something was still there after a quarter of an hour.
    """
    ours = [thing for thing in things if is_ours(thing)]
    clusters = [thing for thing in ours if thing.kind == CLUSTER]
    if protected := [thing.id for thing in clusters if thing.protected]:
        aws.send(emr.unprotect(protected))
    if clusters:
        aws.send(emr.terminate([thing.id for thing in clusters]))
    for thing in ours:
        if thing.kind == APPLICATION:
            end_application(aws, thing.id, every)
    if not aws.dry_run and _costing(aws, group):
        say("Waiting until it is gone; that takes a minute or two.")
        wait_for(lambda: not _costing(aws, group), "everything of ours that costs to be gone", every, PATIENCE_SECONDS)
    for thing in ours:
        if thing.kind == SCHEDULE:
            aws.send(deadline.remove_schedule(thing.id, group))


def _costing(aws: Aws, group: str) -> list[Thing]:
    """What of ours is still there and no mere schedule."""
    return [thing for thing in take_stock(aws, group) if is_ours(thing) and thing.kind != SCHEDULE]
