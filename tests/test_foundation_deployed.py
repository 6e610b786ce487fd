"""The foundation, made for real on MiniStack, whose CloudFormation, S3 and IAM refuse what AWS would refuse."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
import servers
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from cloudformation import load, render, without
from servers import Fault

from verger import SettingError
from verger.cloud import foundation, stack, versions
from verger.cloud.foundation import Clients, Foundation, Wishes, read_foundation, remove_foundation, setup_foundation
from verger.cloud.regions import bucket_region, check_bucket_region
from verger.errors import RunFailedError

pytestmark = pytest.mark.server
SERVICES = "s3,iam,sts,cloudformation,ec2,lambda,events,scheduler,sns,logs,elasticmapreduce"
# Types that MiniStack's CloudFormation does not know; the last test of this file checks them in another way.
UNKNOWN = {"AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress", "AWS::Budgets::Budget"}
ACCOUNT = "000000000000"
WISHES = Wishes("eu-west-1", ACCOUNT, mail="you@example.org")
Client = Callable[[str], Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not servers.MINISTACK.exists():
        pytest.skip(f"needs MiniStack in {servers.MINISTACK}; `scripts/servers` installs it")
    return tmp_path_factory.mktemp("ministack")


@pytest.fixture(scope="module")
def ministack(folder: Path) -> Iterator[str]:
    """Behind TLS, because the bucket refuses everything else."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl, for a certificate; sudo apt-get install openssl")
    with servers.ministack_tls(folder, SERVICES) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[str]:
    """Without TLS, for a proxy to look into."""
    with servers.ministack(folder, "s3,iam,sts,cloudformation") as endpoint:
        yield endpoint


def client_of(
    folder: Path, endpoint: str, key: str = "test", secret: str = "test", region: str = "eu-west-1"
) -> Client:
    def client(service: str) -> Any:
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=f"https://{endpoint}",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            verify=str(folder / "certificate.pem"),
        )

    return client


@pytest.fixture
def client(folder: Path, ministack: str, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Clients of the account's owner; nothing is waited for longer than this emulator needs."""
    monkeypatch.setattr(stack, "POLL_SECONDS", 0.05)
    deployable = without(UNKNOWN)
    monkeypatch.setattr(foundation, "template", lambda: deployable)
    return client_of(folder, ministack)


def clients(client: Client) -> Clients:
    return Clients(client("cloudformation"), client("s3"), client("emr"))


@pytest.fixture
def made(client: Client) -> Iterator[Foundation]:
    """A foundation, gone afterwards."""
    yield setup_foundation(client("cloudformation"), client("s3"), WISHES, lambda _: None)
    remove_foundation(clients(client), WISHES, lambda _: None, confirmed_bucket=WISHES.bucket_name)


@pytest.fixture
def user(made: Foundation, client: Client, folder: Path, ministack: str) -> Iterator[Client]:
    """Somebody who has the user policy and nothing else."""
    iam = client("iam")
    iam.create_user(UserName="least")
    iam.attach_user_policy(UserName="least", PolicyArn=made.user_policy_arn)
    key = iam.create_access_key(UserName="least")["AccessKey"]
    yield client_of(folder, ministack, key["AccessKeyId"], key["SecretAccessKey"])
    iam.delete_access_key(UserName="least", AccessKeyId=key["AccessKeyId"])
    iam.detach_user_policy(UserName="least", PolicyArn=made.user_policy_arn)
    iam.delete_user(UserName="least")


def test_setup_makes_it_and_a_second_setup_changes_nothing(client: Client, made: Foundation) -> None:
    assert made == read_foundation(client("cloudformation"), "eu-west-1", ACCOUNT)
    assert made.bucket_name == f"verger-{ACCOUNT}-eu-west-1"
    assert all(made.__dict__[name] for name in made.__dict__ if name not in ("security_group_service", "budget_name"))
    said: list[str] = []
    assert setup_foundation(client("cloudformation"), client("s3"), replace(WISHES, mail=None), said.append) == made
    assert said == ["verger-foundation: nothing to change"]


def test_the_bucket_is_encrypted_versioned_and_closed_to_the_public(client: Client, made: Foundation) -> None:
    s3, bucket = client("s3"), made.bucket_name
    rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket_region(s3, bucket, ACCOUNT) == "eu-west-1"


def test_a_changed_wish_changes_the_stack_and_keeps_the_rest(client: Client, made: Foundation) -> None:
    wishes = Wishes("eu-west-1", ACCOUNT, mail="other@example.org")
    setup_foundation(client("cloudformation"), client("s3"), wishes, lambda _: None)
    found = stack.find_stack(client("cloudformation"), wishes.stack_name)
    assert found
    given = {it["ParameterKey"]: it["ParameterValue"] for it in found["Parameters"]}
    assert (given["CeilingEur"], given["Mail"]) == ("10", "other@example.org")
    told = client("sns").list_subscriptions_by_topic(TopicArn=made.topic_arn)["Subscriptions"]
    assert [it["Endpoint"] for it in told] == ["other@example.org"]


def test_removal_wants_the_name_of_a_bucket_that_is_not_empty_and_leaves_nothing(client: Client) -> None:
    setup_foundation(client("cloudformation"), client("s3"), WISHES, lambda _: None)
    s3 = client("s3")
    for body in (b"one", b"two"):
        s3.put_object(Bucket=WISHES.bucket_name, Key="photos/a.jpg", Body=body)
    s3.put_object(Bucket=WISHES.bucket_name, Key="photos/b.jpg", Body=b"three")
    s3.delete_object(Bucket=WISHES.bucket_name, Key="photos/b.jpg")
    s3.create_multipart_upload(Bucket=WISHES.bucket_name, Key="photos/c.jpg")
    for name in (None, "yes", "verger"):
        with pytest.raises(SettingError, match=r"1 objects, 3 older versions, 1 uploads, 0.0 MB"):
            remove_foundation(clients(client), WISHES, lambda _: None, confirmed_bucket=name)
    assert read_foundation(client("cloudformation"), "eu-west-1", ACCOUNT)
    versions.empty(s3, WISHES.bucket_name, ACCOUNT)
    assert not versions.look_into(s3, WISHES.bucket_name, ACCOUNT)
    s3.put_object(Bucket=WISHES.bucket_name, Key="photos/a.jpg", Body=b"one")
    remove_foundation(clients(client), WISHES, lambda _: None, confirmed_bucket=WISHES.bucket_name)
    assert left(client) == []
    remove_foundation(clients(client), WISHES, lambda _: None)
    with pytest.raises(SettingError, match="verger cloud setup"):
        read_foundation(client("cloudformation"), "eu-west-1", ACCOUNT)


def left(client: Client) -> list[str]:
    """Everything in the account that a foundation could have left."""
    found = [bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]]
    found += [role["RoleName"] for role in client("iam").list_roles()["Roles"] if role["RoleName"].startswith("verger")]
    found += [policy["Arn"] for policy in client("iam").list_policies(Scope="Local")["Policies"]]
    found += [it["FunctionName"] for it in client("lambda").list_functions()["Functions"]]
    found += [it["TopicArn"] for it in client("sns").list_topics()["Topics"]]
    found += [it["Name"] for it in client("events").list_rules()["Rules"]]
    found += [it["Name"] for it in client("scheduler").list_schedules()["Schedules"]]
    found += [it["logGroupName"] for it in client("logs").describe_log_groups()["logGroups"]]
    ours = [{"Name": "tag:verger:project", "Values": ["verger"]}]
    found += [it["VpcId"] for it in client("ec2").describe_vpcs(Filters=ours)["Vpcs"]]
    return found + [it["GroupId"] for it in client("ec2").describe_security_groups(Filters=ours)["SecurityGroups"]]


def test_the_foundation_stays_while_a_cluster_needs_its_deadline(client: Client, made: Foundation) -> None:
    instances = {"InstanceCount": 1, "MasterInstanceType": "m5.xlarge", "KeepJobFlowAliveWhenNoSteps": True}
    cluster = client("emr").run_job_flow(Name="verger-1", Instances=instances)["JobFlowId"]
    with pytest.raises(SettingError, match=rf"no cluster alive.*{cluster}.*verger cloud down"):
        remove_foundation(clients(client), WISHES, lambda _: None)
    client("emr").terminate_job_flows(JobFlowIds=[cluster])
    assert read_foundation(client("cloudformation"), "eu-west-1", ACCOUNT) == made


def test_a_template_that_fails_half_way_says_what_is_left_and_can_be_tried_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = foundation.template()
    broken = json.loads(whole)
    broken["Resources"]["Broken"] = {
        "Type": "AWS::CloudFormation::CustomResource",
        "Properties": {"ServiceToken": f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:none"},
        "DependsOn": "UserPolicy",
    }
    monkeypatch.setattr(foundation, "template", lambda: json.dumps(broken))
    with pytest.raises(RunFailedError, match=r"Broken: .*verger cloud setup"):
        setup_foundation(client("cloudformation"), client("s3"), WISHES, lambda _: None)
    assert left(client) == []
    monkeypatch.setattr(foundation, "template", lambda: whole)
    setup_foundation(client("cloudformation"), client("s3"), WISHES, lambda _: None)
    remove_foundation(clients(client), WISHES, lambda _: None)


def test_setup_waits_for_what_an_interrupted_setup_began(client: Client, made: Foundation) -> None:
    said: list[str] = []
    assert setup_foundation(Slow(client("cloudformation")), client("s3"), WISHES, said.append) == made
    assert said[0] == "verger-foundation: waiting for what an earlier command began"
    assert said[-1] == "verger-foundation: nothing to change"


class Slow:
    """CloudFormation in the middle of something, as it is for minutes on AWS; MiniStack is done at once."""

    def __init__(self, client: Any) -> None:
        self.client, self.left = client, 4

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def describe_stacks(self, **asked: Any) -> Any:
        answer = self.client.describe_stacks(**asked)
        self.left -= 1
        if self.left > 0:
            answer["Stacks"][0]["StackStatus"] = "UPDATE_IN_PROGRESS"
        return answer


def test_a_bucket_in_another_region_is_refused(folder: Path, ministack: str, client: Client, made: Foundation) -> None:
    for region in ("us-east-1", "eu-west-3"):
        elsewhere = client_of(folder, ministack, region=region)("s3")
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        elsewhere.create_bucket(Bucket="verger-elsewhere", **where)
        with pytest.raises(SettingError, match=rf"verger-elsewhere in eu-west-1. Received: it lies in {region}"):
            check_bucket_region(client("s3"), "verger-elsewhere", "eu-west-1", ACCOUNT)
        elsewhere.delete_bucket(Bucket="verger-elsewhere")
    with pytest.raises(SettingError, match="no bucket of this name"):
        check_bucket_region(client("s3"), "verger-nowhere", "eu-west-1", ACCOUNT)


def test_a_bucket_of_another_account_is_refused(plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with servers.proxy(plain) as proxy:
        proxy.rule = lambda _method, _path: Fault(403, "AccessDenied")  # as S3 answers a wrong ExpectedBucketOwner
        s3 = boto3.client(
            "s3", endpoint_url=f"http://{proxy.endpoint}", aws_access_key_id="a", aws_secret_access_key="b"
        )
        with pytest.raises(SettingError, match=r"of account 111111111111.*another account's"):
            check_bucket_region(s3, "theirs", "eu-west-1", "111111111111")


def test_a_bucket_that_no_foundation_holds_is_not_taken_over(client: Client) -> None:
    where = {"LocationConstraint": "eu-west-1"}
    client("s3").create_bucket(Bucket=WISHES.bucket_name, CreateBucketConfiguration=where)
    with pytest.raises(SettingError, match=r"one in eu-west-1, which no foundation holds.*--project"):
        setup_foundation(client("cloudformation"), client("s3"), WISHES, lambda _: None)
    client("s3").delete_bucket(Bucket=WISHES.bucket_name)


def test_the_user_may_upload_read_and_delete_and_look_at_the_foundation(user: Client, made: Foundation) -> None:
    s3, bucket = user("s3"), made.bucket_name
    for key in ("photos/a.jpg", "runs/1/x", "code/1/x.whl", "jupyter/x.ipynb"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x", ChecksumAlgorithm="SHA256")
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"x"
        s3.delete_object(Bucket=bucket, Key=key)
    check_bucket_region(s3, bucket, "eu-west-1", ACCOUNT)
    assert s3.list_objects_v2(Bucket=bucket, Prefix="photos/")["KeyCount"] == 0
    assert read_foundation(user("cloudformation"), "eu-west-1", ACCOUNT) == made
    assert user("emr").list_clusters()["Clusters"] is not None
    assert [it["Name"] for it in user("scheduler").list_schedules()["Schedules"]] == ["verger-deadline"]


DENIED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a bucket": (
        "s3",
        "create_bucket",
        {"Bucket": "x-123", "CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}},
    ),
    "the bucket's end": ("s3", "delete_bucket", {"Bucket": WISHES.bucket_name}),
    "its policy": ("s3", "delete_bucket_policy", {"Bucket": WISHES.bucket_name}),
    "its lifecycle": ("s3", "delete_bucket_lifecycle", {"Bucket": WISHES.bucket_name}),
    "a key elsewhere in it": ("s3", "put_object", {"Bucket": WISHES.bucket_name, "Key": "x"}),
    "its older versions": ("s3", "list_object_versions", {"Bucket": WISHES.bucket_name}),
    "a log": ("s3", "put_object", {"Bucket": WISHES.bucket_name, "Key": "logs/x"}),
    "all buckets": ("s3", "list_buckets", {}),
    "a user": ("iam", "create_user", {"UserName": "more"}),
    "more rights": (
        "iam",
        "attach_user_policy",
        {"UserName": "least", "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
    ),
    "all roles": ("iam", "list_roles", {}),
    "another role": ("sts", "assume_role", {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/x", "RoleSessionName": "me"}),
    "the foundation's end": ("cloudformation", "delete_stack", {"StackName": "verger-foundation"}),
    "another stack": ("cloudformation", "describe_stacks", {"StackName": "theirs"}),
    "the watch's end": ("scheduler", "delete_schedule", {"Name": "verger-deadline", "GroupName": "verger"}),
    "the watch's group": ("scheduler", "delete_schedule_group", {"Name": "verger"}),
    "other code": ("lambda", "update_function_code", {"FunctionName": "verger-deadline", "ZipFile": b""}),
    "a call of it": ("lambda", "invoke", {"FunctionName": "verger-deadline"}),
    "machines": ("ec2", "run_instances", {"MinCount": 1, "MaxCount": 1, "ImageId": "ami-1"}),
    "an open port": (
        "ec2",
        "authorize_security_group_ingress",
        {"GroupId": "sg-1", "CidrIp": "0.0.0.0/0", "IpProtocol": "-1"},
    ),
    "silence": ("events", "disable_rule", {"Name": "verger-foundation-ReadyRule"}),
    "another mail": (
        "sns",
        "subscribe",
        {"TopicArn": f"arn:aws:sns:eu-west-1:{ACCOUNT}:x", "Protocol": "email", "Endpoint": "a@b.c"},
    ),
    "a log's end": ("logs", "delete_log_group", {"logGroupName": "/aws/lambda/verger-deadline"}),
    "a cluster without tags": (
        "emr",
        "run_job_flow",
        {"Name": "x", "Instances": {"InstanceCount": 1, "MasterInstanceType": "m5.xlarge"}},
    ),
}


def test_every_action_outside_the_policy_is_denied(user: Client) -> None:
    for what, (service, method, arguments) in DENIED.items():
        with pytest.raises(ClientError) as refused:
            getattr(user(service), method)(**arguments)
        error = refused.value.response["Error"]
        assert re.search(r"AccessDenied|UnauthorizedOperation|AuthorizationError|403", error["Code"]), (what, error)


def verger(endpoint: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    program = "import sys; from verger import cli; from verger.cloud.cli_setup import setup;"
    program += "cli.cli.add_command(setup); cli.main(sys.argv[1:])"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT_URL": f"http://{endpoint}"}
    places = {
        "AWS_CONFIG_FILE": "/nowhere",
        "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return subprocess.run(
        [sys.executable, "-c", program, "setup", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | keys | places | {"VERGER_REGION": "eu-west-1"} | environment,
        cwd=Path(__file__).parents[1],
    )


def test_a_dry_run_prints_the_request_and_sends_nothing_that_changes(plain: str) -> None:
    with servers.proxy(plain) as proxy:
        done = verger(proxy.endpoint, "--mail", "you@example.org", "--dry-run")
        request = json.loads(done.stdout)["parameters"]
        assert (done.returncode, request["StackName"]) == (0, "verger-foundation")
        assert len(proxy.seen) == 1  # GetCallerIdentity


@pytest.mark.parametrize("region", ["eu-west-2", "us-east-1"])
def test_the_command_refuses_a_region_outside_the_eu_before_it_asks_anybody(plain: str, region: str) -> None:
    with servers.proxy(plain) as proxy:
        done = verger(proxy.endpoint, "--mail", "you@example.org", "--region", region)
        assert done.returncode == 2
        assert "inside the EU" in done.stderr
        assert proxy.seen == []


def test_a_session_that_ends_while_setting_up_gives_one_message(plain: str) -> None:
    with servers.proxy(plain) as proxy:
        asked = []

        def rule(_method: str, path: str) -> Fault | None:
            asked.append(path)
            return Fault(403, "ExpiredToken") if len(asked) > 4 else None

        proxy.rule = rule
        done = verger(proxy.endpoint, "--mail", "you@example.org")
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1
        assert "ExpiredToken" in done.stderr


def test_what_the_emulator_does_not_know_is_what_the_services_take() -> None:
    session = botocore.session.get_session()
    names = {
        "AWS::EC2::SecurityGroupIngress": ("ec2", "AuthorizeSecurityGroupIngress"),
        "AWS::EC2::SecurityGroupEgress": ("ec2", "AuthorizeSecurityGroupEgress"),
        "AWS::Budgets::Budget": ("budgets", "CreateBudget"),
    }
    assert set(names) == UNKNOWN
    checked = 0
    for resource in load()["Resources"].values():
        if resource["Type"] not in names:
            continue
        service, operation = names[resource["Type"]]
        asked = render(resource["Properties"])
        if service == "ec2":
            pair = {"GroupId": asked.get("SourceSecurityGroupId") or asked.get("DestinationSecurityGroupId")}
            ports = {key: asked[key] for key in ("IpProtocol", "FromPort", "ToPort") if key in asked}
            asked = {"GroupId": asked["GroupId"], "IpPermissions": [{"UserIdGroupPairs": [pair], **ports}]}
        else:
            asked |= {"AccountId": ACCOUNT}
        shape = session.get_service_model(service).operation_model(operation).input_shape
        report = ParamValidator().validate(asked, shape)
        assert not report.has_errors(), report.generate_report()
        checked += 1
    assert checked == 17
