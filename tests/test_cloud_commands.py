"""`verger cloud …` as a user gives it, against emulators on 127.0.0.1: what it starts, refuses and leaves."""

import json
import os
import pty
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from clouds import (
    ACCOUNT,
    BUCKET,
    MINISTACK,
    MOTO,
    REGION,
    Cloud,
    Keeper,
    clear,
    keeping,
    lay_foundation,
    ministack,
    moto,
)
from servers import ROOT

from verger.cloud.code import version

pytestmark = pytest.mark.server
SOURCE, DEST = f"s3://{BUCKET}/photos/orchard", f"s3://{BUCKET}/runs/orchard"
RUN = ["run", SOURCE, "--to", DEST, "--every", "0.1"]
SECONDS = 60  # until a test gives up waiting


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """MiniStack and moto with a foundation."""
    if not MINISTACK.exists() or not MOTO.exists():
        pytest.skip("needs MiniStack and moto: scripts/servers installs them")
    folder = tmp_path_factory.mktemp("servers")
    with ministack(folder) as endpoint, moto(folder) as other:
        cloud = Cloud(endpoint, other)
        lay_foundation(cloud)
        yield cloud


@pytest.fixture
def cloud(servers: Cloud) -> Iterator[Cloud]:
    """The same with two photos and this version's wheels in the bucket, and nothing running."""
    s3 = servers.client("s3")
    for key in ("photos/orchard/apple/1.jpg", "photos/orchard/pear/2.jpg"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"jpeg")
    for architecture in ("x86_64", "aarch64"):
        s3.put_object(Bucket=BUCKET, Key=f"code/{version()}-{architecture}/complete", Body=b"")
    yield servers
    servers.stop()
    clear(servers)


@pytest.fixture
def kept(cloud: Cloud) -> Iterator[tuple[Cloud, Keeper]]:
    """The same behind a proxy: clusters work until they are ended."""
    with keeping(cloud.endpoint) as keeper:
        kept = Cloud(keeper.endpoint, cloud.moto)
        yield kept, keeper
        kept.stop()


def finish(cloud: Cloud, finished: datetime | None = None) -> None:
    """Write what a run writes last."""
    content = json.dumps({"finished": (finished or datetime.now(UTC)).isoformat()}).encode()
    cloud.client("s3").put_object(Bucket=BUCKET, Key="runs/orchard/manifest.json", Body=content)


def wait_for(keeper: Keeper, action: str, running: "subprocess.Popen[str]") -> None:
    """Wait until the proxy has seen an action of a command."""
    until = time.monotonic() + SECONDS
    while action not in keeper.seen:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < until, keeper.seen
        time.sleep(0.01)


def alive(cloud: Cloud) -> list[str]:
    return [each["Id"] for each in cloud.clusters() if not each["Status"]["State"].startswith("TERMINATED")]


def test_a_run_that_goes_well_leaves_its_manifest_and_nothing_that_costs(cloud: Cloud) -> None:
    finish(cloud)
    before = len(cloud.clusters())
    ran = cloud.verger(*RUN, "--", "--components", "7")
    assert ran.returncode == 0, ran.stderr
    cluster = cloud.clusters()[-1]
    assert len(cloud.clusters()) == before + 1
    step = cloud.client("emr").list_steps(ClusterId=cluster["Id"])["Steps"][0]
    assert step["Config"]["Args"][-2:] == ["--components", "7"]
    assert alive(cloud) == cloud.schedules() == []
    assert f"Done. {DEST}/manifest.json is there" in ran.stderr


@pytest.mark.parametrize("finished", [None, datetime(2026, 1, 1, tzinfo=UTC)])
def test_a_run_without_a_new_manifest_has_failed_whatever_emr_says(cloud: Cloud, finished: datetime | None) -> None:
    if finished:
        finish(cloud, finished)
    ran = cloud.verger(*RUN)
    assert ran.returncode == 1
    assert "manifest" in ran.stderr
    assert "this run costs nothing any more" in ran.stderr
    assert alive(cloud) == cloud.schedules() == []


@pytest.mark.parametrize("attempt", range(5))
def test_killed_at_a_random_moment_the_deadline_is_there_before_the_cluster(
    kept: tuple[Cloud, Keeper], attempt: int
) -> None:
    cloud, keeper = kept
    keeper.wait = 0.05
    running = cloud.start(*RUN, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(keeper, "POST /", running)  # it has begun to talk
    time.sleep(random.uniform(0, 1.5))
    running.send_signal(signal.SIGKILL)
    running.wait(10)
    check_what_a_kill_leaves(cloud, keeper)


def check_what_a_kill_leaves(cloud: Cloud, keeper: Keeper) -> None:
    """Two deadlines for whatever is there; `status` shows all of it, `down` ends all of it."""
    time.sleep(3 * keeper.wait)  # what was on its way arrives
    asked = [action for action in keeper.seen if action in {"RunJobFlow", "POST /schedules"}]
    clusters = [each for each in cloud.clusters() if not each["Status"]["State"].startswith("TERMINATED")]
    if clusters:
        assert asked == ["POST /schedules", "RunJobFlow"]
    for cluster in clusters:
        tags = {tag["Key"]: tag["Value"] for tag in cluster["Tags"]}
        left = datetime.fromisoformat(tags["verger:deadline"]) - datetime.now(UTC)
        assert timedelta(0) < left < timedelta(hours=12)
        assert f"verger-{tags['verger:run']}" in cloud.schedules()
    shown = json.loads(cloud.verger("status", "--json").stdout)
    assert {each["id"] for each in shown} == {*(each["Id"] for each in clusters), *cloud.schedules()}
    ended = cloud.verger("down", "--yes", "--every", "0.1")
    assert ended.returncode == 0, ended.stderr
    assert alive(cloud) == cloud.schedules() == []
    assert json.loads(cloud.verger("status", "--json").stdout) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_without_anybody_to_ask_ends_the_cluster(
    kept: tuple[Cloud, Keeper], number: signal.Signals
) -> None:
    cloud, keeper = kept
    running = cloud.start(*RUN)
    wait_for(keeper, "DescribeCluster", running)
    assert len(alive(cloud)) == 1
    running.send_signal(number)
    _, said = running.communicate(timeout=SECONDS)
    assert running.returncode == 1
    assert "was ended: this run costs nothing any more" in said
    assert alive(cloud) == cloud.schedules() == []


@pytest.mark.parametrize(("answer", "left"), [("n\n", 1), ("\n", 0)])
def test_whoever_interrupts_a_run_at_a_terminal_is_asked(kept: tuple[Cloud, Keeper], answer: str, left: int) -> None:
    cloud, keeper = kept
    ours, theirs = pty.openpty()
    running = cloud.start(*RUN, stdin=theirs)
    wait_for(keeper, "DescribeCluster", running)
    running.send_signal(signal.SIGINT)
    time.sleep(0.3)
    os.write(ours, answer.encode())
    _, said = running.communicate(timeout=SECONDS)
    os.close(ours)
    os.close(theirs)
    assert running.returncode == 1
    assert "End run" in said
    assert len(alive(cloud)) == len(cloud.schedules()) == left
    assert ("It goes on" in said) == bool(left)
    assert ("verger cloud down --region eu-west-1" in said) == bool(left)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_kill_asks_nobody_even_at_a_terminal(kept: tuple[Cloud, Keeper], number: signal.Signals) -> None:
    cloud, keeper = kept
    ours, theirs = pty.openpty()
    running = cloud.start(*RUN, stdin=theirs)
    wait_for(keeper, "DescribeCluster", running)
    running.send_signal(number)
    _, said = running.communicate(timeout=SECONDS)
    os.close(ours)
    os.close(theirs)
    assert running.returncode == 1
    assert "End run" not in said
    assert "was ended: this run costs nothing any more" in said
    assert alive(cloud) == cloud.schedules() == []


def test_an_expired_session_in_mid_run_says_what_runs_and_what_ends_it(kept: tuple[Cloud, Keeper]) -> None:
    cloud, keeper = kept
    running = cloud.start(*RUN)
    wait_for(keeper, "DescribeCluster", running)
    expired = (400, "ExpiredTokenException", "The security token included in the request is expired")
    keeper.refuse |= dict.fromkeys(("DescribeCluster", "ListClusters", "TerminateJobFlows", "GET /schedules"), expired)
    _, said = running.communicate(timeout=SECONDS)
    assert running.returncode == 1
    assert "an AWS session that is still valid" in said
    assert "€ an hour, and AWS ends it at" in said
    assert "verger cloud down --region eu-west-1" in said
    keeper.refuse.clear()
    assert len(alive(cloud)) == len(cloud.schedules()) == 1


def test_a_network_that_is_away_for_a_while_ends_nothing(kept: tuple[Cloud, Keeper]) -> None:
    cloud, keeper = kept
    running = cloud.start(*RUN)
    wait_for(keeper, "DescribeCluster", running)
    keeper.deaf = True
    time.sleep(3)
    assert running.poll() is None, running.communicate()
    keeper.deaf = False
    seen = keeper.seen.count("DescribeCluster")
    until = time.monotonic() + SECONDS
    while keeper.seen.count("DescribeCluster") <= seen:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert len(alive(cloud)) == 1
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=SECONDS)


REFUSED = {
    "no spot capacity": (
        "RunJobFlow",
        400,
        "InsufficientInstanceCapacity",
        "no capacity",
        "free machines of the asked",
    ),
    "a quota": ("RunJobFlow", 400, "VcpuLimitExceeded", "more vCPU than allowed", "Service Quotas"),
    "no permission": (
        "RunJobFlow",
        400,
        "AccessDeniedException",
        "User: anna is not authorized",
        "permission for emr:",
    ),
    "anything else": ("RunJobFlow", 400, "ValidationException", "Subnet is wrong", "Subnet is wrong"),
    "no schedule": ("POST /schedules", 400, "ServiceQuotaExceededException", "too many schedules", "quotas"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_aws_refuses_is_one_message_and_leaves_nothing(kept: tuple[Cloud, Keeper], name: str) -> None:
    cloud, keeper = kept
    action, status, code, words, said = REFUSED[name]
    keeper.refuse[action] = (status, code, words)
    ran = cloud.verger(*RUN)
    assert ran.returncode == 1
    message = ran.stderr.partition("verger: ")[2]
    assert said in message
    assert code in message
    assert "anna" not in message
    assert "Nothing was left to end: this run costs nothing any more" in message
    assert alive(cloud) == cloud.schedules() == []
    if action != "RunJobFlow":
        assert "RunJobFlow" not in keeper.seen  # no deadline, no cluster


def test_a_lost_answer_to_the_order_is_not_a_second_cluster_but_the_end_of_the_first(
    kept: tuple[Cloud, Keeper],
) -> None:
    cloud, keeper = kept
    keeper.lose = "RunJobFlow"
    ran = cloud.verger(*RUN)
    assert ran.returncode == 1
    assert keeper.seen.count("RunJobFlow") == 1
    assert "was ended: this run costs nothing any more" in ran.stderr
    assert alive(cloud) == cloud.schedules() == []


@pytest.mark.parametrize("reason", ["BOOTSTRAP_FAILURE", "INSTANCE_FLEET_TIMEOUT", "STEP_FAILURE", "VALIDATION_ERROR"])
def test_a_cluster_that_fails_says_why_and_what_to_do(kept: tuple[Cloud, Keeper], reason: str) -> None:
    cloud, keeper = kept
    keeper.fail = reason
    ran = cloud.verger(*RUN)
    assert ran.returncode == 1
    assert f"terminated_with_errors: {reason} the reason in words" in ran.stderr
    assert "this run costs nothing any more" in ran.stderr
    assert alive(cloud) == cloud.schedules() == []


def nothing_started(cloud: Cloud, before: int) -> bool:
    return len(cloud.clusters()) == before and cloud.schedules() == []


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--region", "eu-west-2"], {}, "'eu-west-2' (London, outside the EU)"),
        (["--region", "us-east-1"], {}, "'us-east-1'"),
        ([], {"VERGER_REGION": "", "AWS_REGION": "eu-central-2"}, "Zurich"),
        ([], {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "credentials for AWS"),
        ([], {"AWS_PROFILE": "nobody"}, "The config profile (nobody) could not be found"),
        (["--account", "123456789012"], {}, f"those of account {ACCOUNT}"),
        (["--region", "eu-north-1"], {}, "verger cloud setup"),
        (["--project", "Verger!"], {}, "a project's name"),
        (["--max-eur", "0.01"], {}, "at most 0.01 €"),
        (["--max-eur", "0.12"], {}, "--max-eur"),
        (["--nodes", "50", "--max-eur", "1"], {}, "--max-eur"),
        (["--instance", "m5.huge"], {}, "m5.huge"),
        (["--", "--components", "0"], {}, "components=0"),
        (["--", "--master", "local[2]"], {}, "--master"),
        (["--", "--weights", "mine.h5"], {}, "--weights"),
        (["--", "--backbone", "mine.onnx"], {}, "--backbone"),
        (["--", "--componets", "3"], {}, "No such option"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    cloud: Cloud, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    before = len(cloud.clusters())
    ran = cloud.verger(*RUN, *arguments, **environment)
    assert ran.returncode == 2, ran.stderr
    assert said in ran.stderr
    assert ran.stderr.count("verger: ") <= 1
    assert "Traceback" not in ran.stderr
    assert nothing_started(cloud, before)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("photos", "an address in a bucket"),
        (f"s3://{BUCKET}/photos/none", "photos below SOURCE"),
        ("s3://nowhere-at-all/photos", "no bucket of this name"),
        ("s3://verger-elsewhere/photos", "it lies in us-east-1"),
        ("s3://verger-neighbour/photos", "the roles of clusters reach no other bucket"),
    ],
)
def test_photos_elsewhere_are_refused(cloud: Cloud, source: str, said: str) -> None:
    before = len(cloud.clusters())
    if "elsewhere" in source:
        cloud.client("s3", region_name="us-east-1").create_bucket(Bucket="verger-elsewhere")
    elif "neighbour" in source:
        place = {"LocationConstraint": REGION}
        cloud.client("s3").create_bucket(Bucket="verger-neighbour", CreateBucketConfiguration=place)
    ran = cloud.verger("run", source, "--to", DEST)
    assert ran.returncode == 2, ran.stderr
    assert said in ran.stderr
    assert nothing_started(cloud, before)


def test_without_the_foundations_watch_nothing_starts(cloud: Cloud) -> None:
    scheduler = cloud.client("scheduler")
    watch = scheduler.get_schedule(Name="verger-deadline", GroupName="verger")
    wanted = {key: watch[key] for key in ("Name", "GroupName", "ScheduleExpression", "FlexibleTimeWindow", "Target")}
    before = len(cloud.clusters())
    scheduler.update_schedule(**wanted, State="DISABLED")
    try:
        ran = cloud.verger(*RUN)
    finally:
        scheduler.update_schedule(**wanted, State="ENABLED")
    assert ran.returncode == 2
    assert "verger cloud setup" in ran.stderr
    assert nothing_started(cloud, before)


def test_a_dry_run_prints_the_requests_in_their_order_and_sends_none(cloud: Cloud) -> None:
    before = len(cloud.clusters())
    ran = cloud.verger(*RUN, "--dry-run")
    assert ran.returncode == 0, ran.stderr
    shown = ran.stdout
    assert shown.index('"scheduler:CreateSchedule"') < shown.index('"emr:RunJobFlow"')
    assert "Nothing was sent" in ran.stderr
    assert nothing_started(cloud, before)


def test_status_reports_what_is_ours_and_looks_wrong_and_leaves_strangers_alone(cloud: Cloud) -> None:
    def made(name: str, **tags: str) -> str:
        listed = [{"Key": f"verger:{key}", "Value": value} for key, value in tags.items()]
        instances = {"KeepJobFlowAliveWhenNoSteps": True, "TerminationProtected": name == "protected"}
        return str(cloud.client("emr").run_job_flow(Name=name, Instances=instances, Tags=listed)["JobFlowId"])

    stranger = made("somebody else's", project="other")
    bare = made("renamed", project="verger")
    past = made("verger-1", project="verger", run="1", deadline="2020-01-01T00:00Z")
    guarded = made("protected", project="verger", run="2", deadline="2099-01-01T00:00Z")
    lookalike = made("verger-3")
    things = {each["id"]: each for each in json.loads(cloud.verger("status", "--json").stdout)}
    assert set(things) == {bare, past, guarded, lookalike}
    assert things[bare]["note"] == (
        "no deadline that can be read: the foundation ends it within five minutes; unknown: no run in its tags"
    )
    assert things[past]["note"] == "past its deadline; no schedule of its own"
    assert things[guarded]["note"] == "no schedule of its own; protected from termination"
    assert "left alone" in things[lookalike]["note"]
    shown = cloud.verger("status").stdout
    assert "what does not say its price" in shown
    assert cloud.verger("down", "--yes", "--every", "0.1").returncode == 0
    assert set(alive(cloud)) == {stranger, lookalike}


def test_down_asks_and_a_no_ends_nothing(cloud: Cloud) -> None:
    tags = [{"Key": "verger:project", "Value": "verger"}]
    cloud.client("emr").run_job_flow(Name="x", Instances={"KeepJobFlowAliveWhenNoSteps": True}, Tags=tags)
    process = cloud.start("down", stdin=subprocess.PIPE)
    _, said = process.communicate("n\n", timeout=SECONDS)
    assert process.returncode == 2
    assert "nothing was ended" in said
    assert len(alive(cloud)) == 1


def test_open_starts_a_cluster_that_stays_with_both_deadlines_and_says_the_way(cloud: Cloud, tmp_path: Path) -> None:
    notebook = tmp_path / "demo.ipynb"
    notebook.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    opened = cloud.verger("open", "--hours", "2", "--notebook", str(notebook), "--every", "0.1")
    assert opened.returncode == 0, opened.stderr
    assert "portNumber=9443" in opened.stdout
    assert "user jovyan" in opened.stdout
    [cluster] = [each for each in cloud.clusters() if each["Status"]["State"] == "WAITING"]
    assert cluster["Name"] in cloud.schedules()
    tags = {tag["Key"]: tag["Value"] for tag in cluster["Tags"]}
    left = datetime.fromisoformat(tags["verger:deadline"]) - datetime.now(UTC)
    assert timedelta(minutes=115) < left <= timedelta(hours=2)
    s3 = cloud.client("s3")
    assert s3.get_object(Bucket=BUCKET, Key="jupyter/jovyan/demo.ipynb")["Body"].read() == notebook.read_bytes()


@pytest.mark.parametrize("arguments", [["--hours", "13"], ["--hours", "0.1"], ["--hours", "12", "--max-eur", "3"]])
def test_open_refuses_what_lasts_or_costs_too_long(cloud: Cloud, arguments: list[str]) -> None:
    before = len(cloud.clusters())
    opened = cloud.verger("open", *arguments)
    assert opened.returncode == 2
    assert "--hours" in opened.stderr
    assert nothing_started(cloud, before)


def test_a_serverless_run_leaves_neither_application_nor_schedule(cloud: Cloud) -> None:
    finish(cloud)
    ran = cloud.verger(*RUN, "--serverless")
    assert ran.returncode == 0, ran.stderr
    assert "success" in ran.stderr
    assert applications(cloud) == cloud.schedules() == []


def test_a_serverless_application_that_was_left_behind_is_found_and_ended(cloud: Cloud) -> None:
    tags = {"verger:project": "verger", "verger:run": "1", "verger:deadline": "2099-01-01T00:00Z"}
    serverless = cloud.client("emr-serverless")
    asked = {"releaseLabel": "emr-7.14.0", "type": "SPARK"}
    ours = serverless.create_application(name="verger-1", clientToken="1", tags=tags, **asked)["applicationId"]
    stranger = serverless.create_application(name="other", clientToken="2", **asked)["applicationId"]
    role = f"arn:aws:iam::{ACCOUNT}:role/verger-serverless"
    serverless.start_job_run(applicationId=ours, clientToken="3", executionRoleArn=role)
    [shown] = json.loads(cloud.verger("status", "--json").stdout)
    assert (shown["id"], shown["kind"], shown["note"]) == (ours, "serverless application", "no schedule of its own")
    assert cloud.verger("down", "--yes", "--every", "0.1").returncode == 0
    assert applications(cloud) == [stranger]


def applications(cloud: Cloud) -> list[str]:
    found = cloud.client("emr-serverless").list_applications()["applications"]
    return [each["id"] for each in found if each["state"] != "TERMINATED"]


def test_costs_stand_next_to_the_estimate(cloud: Cloud) -> None:
    finish(cloud)
    assert cloud.verger(*RUN).returncode == 0
    tags = {tag["Key"]: tag["Value"] for tag in cloud.clusters()[-1]["Tags"]}
    run, estimate = tags["verger:run"], float(tags["verger:estimate-eur"])
    group = {
        "Keys": [f"verger:run${run}", "Amazon Elastic MapReduce"],
        "Metrics": {"UnblendedCost": {"Amount": "0.51945", "Unit": "USD"}},
    }
    period = {"TimePeriod": {"Start": "2026-11-01", "End": "2026-11-22"}, "Total": {}, "Groups": [group]}
    body = json.dumps({"account_id": ACCOUNT, "results": [{"ResultsByTime": [period]}]}).encode()
    address = f"http://{cloud.moto}/moto-api/static/ce/cost-and-usage-results"
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201
    bills = json.loads(cloud.verger("costs", "--json").stdout)
    [bill] = [each for each in bills if each["run"] == run]
    assert bill["usd"] == pytest.approx(0.51945)
    assert bill["estimate_eur"] == estimate
    assert "0.50" in cloud.verger("costs").stdout  # 0.51945 USD / 1.0389


def test_help_needs_no_boto3_and_other_commands_say_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "boto3.py").write_text("raise ImportError('no boto3 here')")
    for arguments, code in ((["--help"], 0), (["cloud", "run", "--help"], 0), (["cloud", "status"], 2)):
        environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
        command = [sys.executable, "-m", "verger", *arguments]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert ran.returncode == code, ran.stderr
    assert "pip install 'verger[aws]'" in ran.stderr
