"""A standing cluster with JupyterHub for a demonstration. It ends when idle, and at its deadline whatever happens."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from verger.cloud import deadline, emr
from verger.cloud.aws import Aws, Request, UnreachableError
from verger.cloud.emr import Order
from verger.cloud.ending import POLL_SECONDS, end_run
from verger.cloud.run import OTHERWISE, REASONS, Question, Say, be_patient, costing, ending
from verger.errors import RunFailedError, SettingError, VergerError

if TYPE_CHECKING:
    from verger.cloud.foundation import Foundation

PORT = 9443
HOME = f"{emr.JUPYTER}/jovyan"  # where JupyterHub keeps the notebooks of its first user, in the bucket


def upload_notebook(aws: Aws, foundation: "Foundation", notebook: Path) -> str:
    """Put a notebook where JupyterHub will show it. Returns its address.

    Raises:
        SettingError: it cannot be read, or is no notebook.
    """
    try:
        content = notebook.read_bytes()
    except OSError as error:
        raise SettingError("a notebook that can be read", str(error), "Check --notebook.") from error
    if notebook.suffix != ".ipynb" or b'"cells"' not in content:
        raise SettingError("a notebook (.ipynb)", str(notebook), "Check --notebook.")
    key = f"{HOME}/{notebook.name}"
    place = {"Bucket": foundation.bucket_name, "Key": key, "ExpectedBucketOwner": foundation.account}
    aws.send(Request("s3", "put_object", {**place, "Body": content, "ContentType": "application/x-ipynb+json"}))
    return f"s3://{foundation.bucket_name}/{key}"


def open_cluster(aws: Aws, order: Order, request: Request, say: Say, sure: Question, every: float) -> str:
    """Order a standing cluster and wait until its password is changed.

    Once it is there it stays, until it is idle, ended or at its deadline; before that, what stops this ends it.

    Returns:
        The id of the cluster; "CLUSTER" in a dry run.

    Raises:
        RunFailedError: it did not start; nothing is left.
    """
    group = order.foundation.scheduler_group_name
    started = False

    def end() -> list[str]:
        return [] if started else end_run(aws, group, order.name)

    with ending(aws, order, say, sure, end):
        aws.send(deadline.schedule(order.foundation, order.run, order.deadline))
        answer = aws.send(request)
        if answer is None:
            return "CLUSTER"
        cluster = str(answer["JobFlowId"])
        say(f"Cluster {cluster}: {costing(order)}. It needs about ten minutes.")
        wait_until_ready(aws, cluster, order, say, every)
        started = True
    return cluster


def wait_until_ready(aws: Aws, cluster: str, order: Order, say: Say, every: float = POLL_SECONDS) -> None:
    """Wait until the cluster is up and the step that changes the password is done.

    Raises:
        RunFailedError: it ended instead.
    """
    before = ""
    while before != "WAITING":
        try:
            status = aws.read("emr", "describe_cluster", ClusterId=cluster)["Cluster"]["Status"]
        except UnreachableError as error:
            be_patient(order, error)
            time.sleep(every)
            continue
        if status["State"] != before:
            before = status["State"]
            say(before.lower().replace("_", " "))
        if before.startswith("TERMINAT"):
            reason = status.get("StateChangeReason", {})
            received = f"cluster {cluster} {before.lower()}: {reason.get('Code', '')} {reason.get('Message', '')}"
            logs = f"s3://{order.foundation.bucket_name}/logs/{cluster}"
            advice = REASONS.get(reason.get("Code", ""), OTHERWISE).format(logs=logs)
            raise RunFailedError("a cluster that starts", received.rstrip(": "), advice)
        if before != "WAITING":
            time.sleep(every)


def directions(aws: Aws, cluster: str) -> str:
    """How to reach JupyterHub: a tunnel through Session Manager, the password, the address, and the end."""
    try:
        pages = aws.pages("emr", "list_instances", ClusterId=cluster, InstanceFleetType="MASTER")
        instance = next(instance["Ec2InstanceId"] for page in pages for instance in page["Instances"])
    except (VergerError, StopIteration):  # the cluster is there all the same, and its directions matter more
        instance = f"PRIMARY-NODE-OF-{cluster}"
    target = f"--region {aws.region} --target {instance}"
    return "\n".join(
        (
            "1. In a terminal that stays open (needs the AWS CLI and its Session Manager plugin):",
            f"   aws ssm start-session {target} --document-name AWS-StartPortForwardingSession"
            f" --parameters portNumber={PORT},localPortNumber={PORT}",
            "2. The password, which only the primary node knows:",
            f"   aws ssm start-session {target} --document-name AWS-StartInteractiveCommand"
            f" --parameters 'command=[\"sudo cat {emr.PASSWORD_FILE}\"]'",
            f"3. https://localhost:{PORT}, user jovyan. The browser warns of the cluster's own certificate.",
            f"4. When done: verger cloud down --region {aws.region}",
        )
    )
