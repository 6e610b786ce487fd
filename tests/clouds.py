"""As much of AWS as runs on 127.0.0.1: MiniStack, moto for what it lacks, and a proxy behind which clusters last.

MiniStack knows neither EMR Serverless, nor Cost Explorer, nor what a region offers; moto does. MiniStack's clusters
are done at once; behind `keeping`, they work until somebody ends them, as real ones do.
"""

import contextlib
import http.client
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.config import Config
from servers import MINISTACK, ROOT, free_port, running, serving

from verger.cli import main

MOTO = ROOT / ".servers" / "moto" / "bin" / "moto_server"
REGION, ACCOUNT = "eu-west-1", "000000000000"
BUCKET = f"verger-{ACCOUNT}-{REGION}"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:verger-deadline"
SERVICES = "s3,iam,sts,elasticmapreduce,scheduler,cloudformation,lambda,sns,logs,events"
PATIENCE_SECONDS = 100
OUTPUTS = {
    "BucketName": BUCKET,
    "ServiceRoleArn": f"arn:aws:iam::{ACCOUNT}:role/verger-service",
    "InstanceProfileName": "verger-nodes",
    "ServerlessRoleArn": f"arn:aws:iam::{ACCOUNT}:role/verger-serverless",
    "SchedulerRoleArn": f"arn:aws:iam::{ACCOUNT}:role/verger-scheduler",
    "DeadlineFunctionArn": FUNCTION,
    "SecurityGroupPrimary": "sg-0123456789abcdef0",
    "SecurityGroupCore": "sg-0123456789abcdef1",
    "SubnetId": "subnet-0123456789abcdef0",
    "TopicArn": f"arn:aws:sns:{REGION}:{ACCOUNT}:verger",
    "UserPolicyArn": f"arn:aws:iam::{ACCOUNT}:policy/verger-user",
    "SchedulerGroupName": "verger",
}


@contextlib.contextmanager
def ministack(folder: Path) -> Iterator[str]:
    """What `verger cloud` uses of MiniStack, with signatures and policies enforced. Yields host:port."""
    port = free_port()
    environment = {"AUTH": "true", "BIND_HOST": "127.0.0.1", "SERVICES": SERVICES, "GATEWAY_PORT": str(port)}
    environment |= {"LOG_LEVEL": "WARNING", "TMPDIR": str(folder), "HOME": str(folder), "MINISTACK_REGION": REGION}
    with running([str(MINISTACK)], port, environment, folder / "ministack.log") as endpoint:
        yield endpoint


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[str]:
    """EMR Serverless, Cost Explorer and EC2's offerings. Yields host:port."""
    port = free_port()
    command = [str(MOTO), "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port, {"MOTO_ACCOUNT_ID": ACCOUNT}, folder / "moto.log") as endpoint:
        yield endpoint


class Said(NamedTuple):
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Cloud:
    """Where the emulators answer, and how a process reaches them."""

    endpoint: str  # MiniStack, or a proxy before it
    moto: str
    started: "list[subprocess.Popen[str]]" = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to take the emulators for AWS."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL": f"http://{self.endpoint}",
            "AWS_ENDPOINT_URL_EC2": f"http://{self.moto}",
            "AWS_ENDPOINT_URL_EMR_SERVERLESS": f"http://{self.moto}",
            "AWS_ENDPOINT_URL_COST_EXPLORER": f"http://{self.moto}",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "VERGER_REGION": REGION,
            "COLUMNS": "200",
        }

    def client(self, name: str, **given: Any) -> Any:
        """A client of boto3 with all rights, past any proxy and any code of ours."""
        at = self.moto if name in {"ec2", "emr-serverless", "ce"} else self.endpoint
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}
        config = Config(retries={"total_max_attempts": 2}, s3={"addressing_style": "path"})
        return boto3.client(name, endpoint_url=f"http://{at}", config=config, **(keys | given))

    def clusters(self) -> list[dict[str, Any]]:
        """All clusters in full, ended ones too."""
        emr = self.client("emr")
        return [emr.describe_cluster(ClusterId=c["Id"])["Cluster"] for c in emr.list_clusters()["Clusters"]]

    def schedules(self) -> list[str]:
        """The names of the schedules of runs."""
        found = self.client("scheduler").list_schedules(GroupName="verger")["Schedules"]
        return sorted(schedule["Name"] for schedule in found if schedule["Name"] != "verger-deadline")

    def verger(self, *arguments: str, **environment: str) -> Said:
        """`verger cloud …` as a user gives it, but in this process: starting one takes a second."""
        out, err, before = io.StringIO(), io.StringIO(), dict(os.environ)
        for name in [name for name in os.environ if name.startswith(("AWS_", "VERGER_"))]:
            del os.environ[name]
        os.environ.update(self.environment | environment)
        signal.alarm(PATIENCE_SECONDS)  # nothing here may wait for ever; unheard, it ends the tests
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
                main(["cloud", *arguments])
        finally:
            signal.alarm(0)
            os.environ.clear()
            os.environ.update(before)
        return Said(int(str(ended.value.code)), out.getvalue(), err.getvalue())

    def start(self, *arguments: str, **given: Any) -> "subprocess.Popen[str]":
        """The same in a process of its own, running."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "VERGER_"))}
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | given
        command = [sys.executable, "-m", "verger", "cloud", *arguments]
        self.started.append(subprocess.Popen(command, env=clean | self.environment, text=True, **given))
        return self.started[-1]

    def stop(self) -> None:
        """Kill what a test that failed left running."""
        for process in self.started:
            process.kill()
            process.communicate()


def lay_foundation(cloud: Cloud) -> None:
    """A stack with the foundation's outputs, of which the bucket and the schedules are really there."""
    outputs = {name: {"Value": value} for name, value in OUTPUTS.items()}
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": BUCKET}}
    template = json.dumps({"Resources": {"Bucket": bucket}, "Outputs": outputs})
    cloud.client("cloudformation").create_stack(StackName="verger-foundation", TemplateBody=template)
    scheduler = cloud.client("scheduler")
    scheduler.create_schedule_group(Name="verger")
    scheduler.create_schedule(
        Name="verger-deadline",
        GroupName="verger",
        ScheduleExpression="rate(5 minutes)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": FUNCTION, "RoleArn": OUTPUTS["SchedulerRoleArn"]},
    )


def clear(cloud: Cloud) -> None:
    """End every cluster, and remove every schedule of a run and every object."""
    if alive := [cluster["Id"] for cluster in cloud.clusters()]:
        cloud.client("emr").set_termination_protection(JobFlowIds=alive, TerminationProtected=False)
        cloud.client("emr").terminate_job_flows(JobFlowIds=alive)
    for name in cloud.schedules():
        cloud.client("scheduler").delete_schedule(Name=name, GroupName="verger")
    s3 = cloud.client("s3")
    for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3.delete_object(Bucket=BUCKET, Key=entry["Key"])


@dataclass
class Keeper:
    """A proxy behind which clusters go on working, and what it has seen."""

    endpoint: str = ""
    wait: float = 0.0  # seconds before each answer
    seen: list[str] = field(default_factory=list)  # actions, in the order in which they arrived
    refuse: dict[str, tuple[int, str, str]] = field(default_factory=dict)  # action: status, code, message
    deaf: bool = False  # hang up on everybody
    lose: str = ""  # the action whose answer gets lost
    fail: str = ""  # the reason for which clusters end

    def disguise(self, action: str, body: bytes) -> bytes:
        """The answer of a cluster that failed, if clusters are to fail."""
        if not self.fail or action not in {"DescribeCluster", "ListSteps"}:
            return body
        reason = f'"StateChangeReason": {{"Code": "{self.fail}", "Message": "the reason in words"}}'.encode()
        body = body.replace(b'"RUNNING"', b'"TERMINATED_WITH_ERRORS"').replace(b"COMPLETED", b"FAILED")
        return body.replace(b'"StateChangeReason": {"Code": "", "Message": ""}', reason)


@contextlib.contextmanager
def keeping(upstream: str) -> Iterator[Keeper]:
    """A proxy before MiniStack: clusters stay alive without steps, and say RUNNING until they are terminated."""
    keeper = Keeper()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement

        def pass_on(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            where = self.path.partition("?")[0].split("/")[1]  # a bucket, schedules, or nothing
            action = self.headers.get("X-Amz-Target", f"{self.command} /{where}").rpartition(".")[2]
            if keeper.deaf:
                self.close_connection = True
                return
            keeper.seen.append(action)
            if action in keeper.refuse:
                status, code, message = keeper.refuse[action]
                self.answer(status, {}, json.dumps({"__type": code, "message": message}).encode())
                return
            content = content.replace(b'"KeepJobFlowAliveWhenNoSteps": false', b'"KeepJobFlowAliveWhenNoSteps": true')
            headers = {
                n: v for n, v in self.headers.items() if n.lower() not in {"content-length", "expect", "connection"}
            }
            with contextlib.closing(http.client.HTTPConnection(upstream, timeout=60)) as connection:
                connection.request(self.command, self.path, content, headers | {"Content-Length": str(len(content))})
                answer = connection.getresponse()
                body = answer.read().replace(b'"WAITING"', b'"RUNNING"')
                time.sleep(keeper.wait)  # the deed is done, and the answer on its way
                if action == keeper.lose:
                    self.close_connection = True
                    return
                body = keeper.disguise(action, body)
                self.answer(answer.status, dict(answer.getheaders()), body)

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                    self.send_header(name, value)
            self.send_header(
                "Content-Length", headers.get("content-length", "0") if self.command == "HEAD" else str(len(body))
            )
            self.end_headers()
            with contextlib.suppress(OSError):  # whoever asked may be dead by now
                self.wfile.write(body if self.command != "HEAD" else b"")

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # clients that were killed

    with Server(("127.0.0.1", 0), Handler) as server, serving(server) as endpoint:
        keeper.endpoint = endpoint
        yield keeper
