"""One CloudFormation stack, brought to a template through a change set, followed to its end, or deleted."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from verger.errors import RunFailedError, SettingError

POLL_SECONDS = 3.0
PATIENCE_SECONDS = 1800.0
UNCHANGED = ("didn't contain changes", "No updates are to be performed")
DONE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE")
NEVER_MADE = ("REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE")  # a name without resources
SHOWN = 5  # resources that a message names
Progress = Callable[[str], None]


def find_stack(cloudformation: Any, name: str) -> dict[str, Any] | None:
    """What CloudFormation says of a stack; None if there is none."""
    from botocore.exceptions import ClientError

    try:
        return dict(cloudformation.describe_stacks(StackName=name)["Stacks"][0])
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def deploy(cloudformation: Any, request: Mapping[str, Any], progress: Progress) -> bool:
    """Create or update a stack, and wait for the end.

    Args:
        cloudformation: client of boto3.
        request: for CreateChangeSet, without ChangeSetType.
        progress: told of each step, in a line.

    Returns:
        False if there was nothing to change.

    Raises:
        SettingError: the stack is stuck half-way; nothing was changed.
        RunFailedError: it could not be brought to the template; the message says what is left.
    """
    name = request["StackName"]
    status = settled(cloudformation, name, progress)
    if status == "ROLLBACK_COMPLETE":
        progress(f"{name}: removing what an earlier attempt left, which is only its name")
        delete(cloudformation, name, progress)
    elif status not in (None, "REVIEW_IN_PROGRESS", *DONE):
        raise SettingError(f"a stack {name} that can be changed", f"it is {status}", way_out(cloudformation, name))
    kind = "CREATE" if status in (None, *NEVER_MADE) else "UPDATE"
    seen = {event["EventId"] for event in events(cloudformation, name)} if kind == "UPDATE" else set()
    if not change_set(cloudformation, {**request, "ChangeSetType": kind}, progress):
        return False
    cloudformation.execute_change_set(StackName=name, ChangeSetName=request["ChangeSetName"])
    ended, reasons = follow(cloudformation, name, seen, progress)
    if ended != f"{kind}_COMPLETE":
        reason = "; ".join(reasons) or f"the stack is {ended}"
        raise RunFailedError(f"{name} as in the template", reason, way_out(cloudformation, name))
    return True


def settled(cloudformation: Any, name: str, progress: Progress) -> str | None:
    """The stack's status, after the end of what an earlier command began; None if there is no stack."""
    found = find_stack(cloudformation, name)
    if found and found["StackStatus"] != "REVIEW_IN_PROGRESS" and found["StackStatus"].endswith("_IN_PROGRESS"):
        progress(f"{name}: waiting for what an earlier command began")
        follow(cloudformation, name, set(), progress)
        found = find_stack(cloudformation, name)
    return found["StackStatus"] if found else None


def change_set(cloudformation: Any, request: Mapping[str, Any], progress: Progress) -> bool:
    """Make a change set and wait until it can be executed. False, and it is deleted, if it would change nothing."""
    names = {"StackName": request["StackName"], "ChangeSetName": request["ChangeSetName"]}
    cloudformation.create_change_set(**request)
    for _ in patiently():
        made = cloudformation.describe_change_set(**names)
        if made["Status"] == "CREATE_COMPLETE" and made.get("Changes"):
            progress(f"{request['StackName']}: resources to {request['ChangeSetType'].lower()}: {len(made['Changes'])}")
            return True
        if made["Status"] in ("CREATE_COMPLETE", "FAILED"):
            break
    reason = made.get("StatusReason", "")
    cloudformation.delete_change_set(**names)
    if made["Status"] == "CREATE_COMPLETE" or any(words in reason for words in UNCHANGED):
        return False
    raise RunFailedError("a change set", reason, way_out(cloudformation, request["StackName"]))


def delete(cloudformation: Any, name: str, progress: Progress) -> None:
    """Delete a stack and wait until it is gone. Raises RunFailedError with what is left."""
    found = find_stack(cloudformation, name)
    if found is None:
        return
    seen = {event["EventId"] for event in events(cloudformation, found["StackId"])}
    cloudformation.delete_stack(StackName=name)
    ended, reasons = follow(cloudformation, found["StackId"], seen, progress)  # a deleted stack answers by id only
    if ended != "DELETE_COMPLETE":
        raise RunFailedError(f"{name} deleted", "; ".join(reasons) or ended, way_out(cloudformation, name))


def follow(cloudformation: Any, name: str, seen: set[str], progress: Progress) -> tuple[str, list[str]]:
    """Wait for the end, with a line for each resource. Returns the stack's status, and why resources failed."""
    reasons: list[str] = []
    for _ in patiently():
        found = find_stack(cloudformation, name)
        for event in reversed([event for event in events(cloudformation, name) if event["EventId"] not in seen]):
            seen.add(event["EventId"])
            if not event["ResourceStatus"].endswith("_IN_PROGRESS"):
                progress(f"{event['LogicalResourceId']}: {event['ResourceStatus'].replace('_', ' ').lower()}")
            if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in event.get("ResourceStatusReason", ""):
                reasons.append(f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}")
        status = found["StackStatus"] if found else "DELETE_COMPLETE"
        if not status.endswith("_IN_PROGRESS"):
            break
    return status, reasons


def events(cloudformation: Any, name: str) -> list[dict[str, Any]]:
    """The newest events of a stack, newest first; none if there is no stack."""
    from botocore.exceptions import ClientError

    try:
        return list(cloudformation.describe_stack_events(StackName=name)["StackEvents"])
    except ClientError as error:
        if "does not exist" in str(error):
            return []
        raise


def leftovers(cloudformation: Any, name: str) -> list[str]:
    """What exists of a stack: logical name and type of each resource."""
    if find_stack(cloudformation, name) is None:
        return []
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
    return [
        f"{resource['LogicalResourceId']} ({resource['ResourceType']})"
        for page in pages
        for resource in page["StackResourceSummaries"]
        if resource["ResourceStatus"] not in ("DELETE_COMPLETE", "CREATE_FAILED")
    ]


def way_out(cloudformation: Any, name: str) -> str:
    """What is left of a stack, what that costs, and the commands that go on or end it."""
    left = leftovers(cloudformation, name)
    if not left:
        return "Nothing is left that costs. Mend what it names, and give `verger cloud setup` again."
    some = ", ".join(left[:SHOWN]) + (", …" if len(left) > SHOWN else "")
    return (
        f"Left: {len(left)} resources of {name} ({some}). None costs by the hour; the bucket costs its storage. "
        "Mend what it names, and give `verger cloud setup` again; or end all of it: `verger cloud down --foundation`."
    )


def patiently() -> Iterator[None]:
    """Once now and then every `POLL_SECONDS`. Raises RunFailedError after `PATIENCE_SECONDS`."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        yield
        time.sleep(POLL_SECONDS)
    raise RunFailedError(
        f"CloudFormation to be done within {PATIENCE_SECONDS / 60:.0f} minutes",
        "it goes on without us",
        "Nothing that it makes costs by the hour. Give the same command again to look.",
    )
