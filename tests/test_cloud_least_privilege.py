"""The whole way with the foundation's own user policy and nothing else: every call that commands make is allowed."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cloudformation import policy_document
from clouds import BUCKET, MINISTACK, MOTO, Cloud, lay_foundation, ministack, moto
from conftest import write_photo
from servers import make_user
from test_cloud_requests import REQUESTS

from verger.cloud.code import version


def as_the_emulator_reads_it(policy: dict[str, Any]) -> str:
    """The policy without what MiniStack cannot judge: tags in requests and on clusters, and the groups of schedules."""
    for statement in policy["Statement"]:
        for tests in statement.get("Condition", {}).values():
            for key in [key for key in tests if key.startswith(("aws:ResourceTag/", "aws:RequestTag/"))]:
                del tests[key]
        statement["Condition"] = {how: tests for how, tests in statement.get("Condition", {}).items() if tests}
        if "elasticmapreduce:TerminateJobFlows" in statement["Action"]:
            statement["Resource"] = "*"  # MiniStack looks for one cluster, and this call names a list
    return json.dumps(policy).replace(":schedule/verger/", ":schedule/default/")


def test_orders_carry_every_tag_without_which_the_policy_refuses_them() -> None:
    made = {request.action: request.parameters for request in (REQUESTS["cluster"], REQUESTS["job"])}
    tags = {
        "NoClusterWithoutDeadline": {tag["Key"]: tag["Value"] for tag in made["emr:RunJobFlow"]["Tags"]},
        "NoJobWithoutDeadline": made["emr-serverless:StartJobRun"]["tags"],
    }
    for statement in policy_document("UserPolicy")["Statement"]:
        if statement["Sid"] not in tags:
            continue
        ours, asked = tags.pop(statement["Sid"]), statement["Condition"]
        for key, value in asked["StringEquals"].items():
            if key.startswith("aws:RequestTag/"):
                assert ours[key.partition("/")[2]] == value
        for key, absent in asked["Null"].items():
            assert absent == "false"
            assert ours[key.partition("/")[2]]
    assert tags == {}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    if not MINISTACK.exists() or not MOTO.exists():
        pytest.skip("needs MiniStack and moto: scripts/servers installs them")
    with ministack(tmp_path) as endpoint, moto(tmp_path) as other:
        cloud = Cloud(endpoint, other)
        lay_foundation(cloud)
        yield cloud


@pytest.mark.server
def test_upload_run_open_status_costs_and_down_need_no_more_than_the_user_policy(cloud: Cloud, tmp_path: Path) -> None:
    key, secret = make_user(cloud.endpoint, "least", as_the_emulator_reads_it(policy_document("UserPolicy")))
    least = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    write_photo(tmp_path / "orchard" / "apple" / "1.jpg", 1)
    s3 = cloud.client("s3")
    s3.put_object(Bucket=BUCKET, Key=f"code/{version()}-x86_64/complete", Body=b"")
    s3.put_object(
        Bucket=BUCKET, Key="runs/o/manifest.json", Body=json.dumps({"finished": datetime.now(UTC).isoformat()}).encode()
    )
    places = [f"s3://{BUCKET}/photos/orchard", "--to", f"s3://{BUCKET}/runs/o"]
    for command in (
        ["upload", str(tmp_path / "orchard")],
        ["run", *places, "--every", "0.1"],
        ["open", "--every", "0.1"],
        ["status"],
        ["costs"],
        ["down", "--yes", "--every", "0.1"],
    ):
        ran = cloud.verger(*command, **least)
        assert ran.returncode == 0, (command, ran.stderr)
    assert json.loads(cloud.verger("status", "--json", **least).stdout) == []
    assert cloud.schedules() == []


@pytest.mark.server
def test_a_user_without_the_policy_starts_nothing_and_is_told_what_is_missing(cloud: Cloud, tmp_path: Path) -> None:
    policy = policy_document("UserPolicy")
    policy["Statement"] = [each for each in policy["Statement"] if each["Sid"] != "Deadlines"]
    key, secret = make_user(cloud.endpoint, "less", as_the_emulator_reads_it(policy))
    cloud.client("s3").put_object(Bucket=BUCKET, Key=f"code/{version()}-x86_64/complete", Body=b"")
    ran = cloud.verger("open", AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)
    assert ran.returncode == 1
    assert "permission for scheduler:CreateSchedule" in ran.stderr
    assert cloud.clusters() == []
