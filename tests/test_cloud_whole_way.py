"""From nothing to results and back by the commands alone: the foundation's own template, policy and bucket."""

import io
import json
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cloudformation import without
from clouds import ACCOUNT, BUCKET, MOTO, REGION, SERVICES, Cloud, moto
from conftest import write_photo
from servers import MINISTACK, ministack_tls
from test_cloud_least_privilege import as_the_emulator_reads_it
from test_foundation_deployed import UNKNOWN, client_of

from verger.cloud import foundation, stack
from verger.cloud.code import version
from verger.cloud.foundation import read_foundation

pytestmark = pytest.mark.server


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """AWS behind TLS, because the bucket refuses everything else, and empty."""
    if not MINISTACK.exists() or not MOTO.exists() or not shutil.which("openssl"):
        pytest.skip("needs MiniStack and moto, which scripts/servers installs, and openssl")
    deployable = without(UNKNOWN)
    monkeypatch.setattr(foundation, "template", lambda: deployable)
    monkeypatch.setattr(stack, "POLL_SECONDS", 0.05)
    with ministack_tls(tmp_path, f"{SERVICES},ec2") as endpoint, moto(tmp_path) as other:
        yield Cloud(endpoint, other)


def test_setup_upload_run_costs_and_down_leave_nothing(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = {"AWS_ENDPOINT_URL": f"https://{cloud.endpoint}", "AWS_CA_BUNDLE": str(tmp_path / "certificate.pem")}
    owner = client_of(tmp_path, cloud.endpoint)
    assert cloud.verger("setup", "--mail", "you@example.org", **tls).returncode == 0
    made = read_foundation(owner("cloudformation"), REGION, ACCOUNT)

    iam = owner("iam")
    document = iam.get_policy_version(PolicyArn=made.user_policy_arn, VersionId="v1")["PolicyVersion"]["Document"]
    policy = as_the_emulator_reads_it(json.loads(document) if isinstance(document, str) else document)
    iam.create_user(UserName="daily")
    iam.put_user_policy(UserName="daily", PolicyName="only", PolicyDocument=policy)
    key = iam.create_access_key(UserName="daily")["AccessKey"]
    daily = tls | {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    write_photo(tmp_path / "orchard" / "apple" / "1.jpg", 1)
    # The emulator runs no step: the wheels, and what a step would write, are put there.
    s3 = owner("s3")
    s3.put_object(Bucket=BUCKET, Key=f"code/{version()}-x86_64/complete", Body=b"")
    finished = json.dumps({"finished": datetime.now(UTC).isoformat()}).encode()
    s3.put_object(Bucket=BUCKET, Key="runs/orchard/manifest.json", Body=finished)
    places = [f"s3://{BUCKET}/photos/orchard", "--to", f"s3://{BUCKET}/runs/orchard"]
    for command in (
        ["upload", str(tmp_path / "orchard")],
        ["run", *places, "--every", "0.1"],
        ["status"],
        ["costs"],
        ["down", "--yes", "--every", "0.1"],
    ):
        said = cloud.verger(*command, **daily)
        assert said.returncode == 0, (command, said.stderr)

    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{BUCKET}\n"))
    said = cloud.verger("down", "--foundation", "--yes", **daily)
    assert said.returncode == 1
    assert "permission for" in said.stderr, "the daily user may not"
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{BUCKET}\n"))
    said = cloud.verger("down", "--foundation", "--yes", "--every", "0.1", **tls)
    assert said.returncode == 0, said.stderr
    assert s3.list_buckets()["Buckets"] == []
    stacks = owner("cloudformation").list_stacks(StackStatusFilter=["CREATE_COMPLETE", "UPDATE_COMPLETE"])
    assert stacks["StackSummaries"] == []
    assert owner("scheduler").list_schedules()["Schedules"] == []
    assert [role["RoleName"] for role in iam.list_roles()["Roles"] if "verger" in role["RoleName"]] == []
