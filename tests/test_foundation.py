"""The foundation on AWS, looked at without AWS: what the template says, and what its two functions do."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import servers
from cloudformation import keys, load, policy_document, render, statements

from verger import SettingError
from verger.cloud.foundation import Foundation, Wishes, change_set_request, template
from verger.cloud.regions import EU_REGIONS, check_region

ROOT = Path(__file__).parents[1]
LINT = ROOT / ".servers" / "cloud-lint" / "bin"
RESOURCES = load()["Resources"]
SOVEREIGN = {"AWS::Region": "eusc-de-east-1", "AWS::AccountId": "000000000000", "AWS::Partition": "aws-eusc"}


@pytest.fixture(scope="session")
def lint() -> Path:
    if not (LINT / "cfn-lint").exists():
        pytest.skip(f"needs cfn-lint, checkov and more in {LINT.parent}; `scripts/servers` installs them")
    return LINT


def look(lint: Path, what: str, *arguments: str, about: Any = None) -> Any:
    """The answer of tests/cloud_lint.py."""
    command = [str(lint / "python"), str(ROOT / "tests" / "cloud_lint.py"), what, *arguments]
    done = subprocess.run(command, input=json.dumps(about), check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.server
def test_cfn_lint_finds_nothing_in_any_region(lint: Path) -> None:
    file = str(ROOT / "verger" / "cloud" / "foundation.yaml")
    done = subprocess.run(
        [lint / "cfn-lint", "-r", *EU_REGIONS, "--", file], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.server
def test_checkov_finds_nothing_and_each_waiver_has_a_reason(lint: Path, tmp_path: Path) -> None:
    # checkov reads a template's own path as one of its values, and takes 40 characters without `_` for a secret key
    file = shutil.copy(ROOT / "verger" / "cloud" / "foundation.yaml", tmp_path / "the_template.yaml")
    options = ["--framework", "cloudformation", "--skip-download", "--compact", "-o", "json"]
    done = subprocess.run([lint / "checkov", "-f", file, *options], check=False, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["results"]["failed_checks"] == []
    assert found["summary"]["passed"] > 100
    waivers = found["results"]["skipped_checks"]
    assert waivers
    assert all(len(waiver["check_result"]["suppress_comment"]) > 20 for waiver in waivers)


@pytest.mark.server
def test_policies_name_actions_resources_and_conditions_that_exist(lint: Path) -> None:
    about = [statement | {"Keys": keys(statement)} for _, statement in statements() if statement["Effect"] == "Allow"]
    assert look(lint, "policies", about=about) == []


@pytest.mark.server
def test_that_check_can_fail(lint: Path) -> None:
    wrong = [("s3:GetObjects", "*", []), ("s3:GetObject", "*", []), ("s3:GetObject", "arn:x", ["aws:RequestTag/a"])]
    about = [{"Action": [action], "Resource": [on], "Keys": keys} for action, on, keys in wrong]
    found = look(lint, "policies", about=about)
    assert [line.split(" ", 1)[1][:12] for line in found] == ["does not exi", "on * althoug", "does not kno"]


@pytest.mark.server
def test_everything_that_takes_tags_has_ours(lint: Path) -> None:
    places = look(lint, "taggable", about=sorted({resource["Type"] for resource in RESOURCES.values()}))
    assert len(places) > 10
    for name, resource in RESOURCES.items():
        if place := places.get(resource["Type"]):
            assert {"Key": "verger:project", "Value": "verger"} in render(resource["Properties"].get(place, [])), name


@pytest.mark.server
def test_terraform_deploys_the_same_template_with_the_same_parameters(lint: Path) -> None:
    found = look(lint, "terraform", str(ROOT / "terraform"))
    assert found["formatted"]
    assert found["refuses"]
    assert found["stack"]["template_body"] == '${file("${path.module}/../verger/cloud/foundation.yaml")}'
    assert set(found["stack"]["parameters"]) == set(load()["Parameters"])
    assert tuple(found["regions"]) == EU_REGIONS


def test_regions_are_the_list_everywhere() -> None:
    assert tuple(load()["Mappings"]["Bill"]) == EU_REGIONS
    assert set(re.findall(r"\b(?:us|eu|ap|ca|sa|me|af|il|mx|eusc)-[a-z]+(?:-[a-z]+)?-\d\b", template())) == set(
        EU_REGIONS
    )


@pytest.mark.parametrize("region", ["eu-west-2", "us-east-1", "eu-central-2", "eu-west-1a", "EU-WEST-1", "", "eu-*"])
def test_a_region_outside_the_list_is_refused(region: str) -> None:
    with pytest.raises(SettingError, match="inside the EU: eu-west-1") as error:
        check_region(region)
    assert error.value.exit_code == 2
    with pytest.raises(SettingError, match="inside the EU"):
        Wishes(region, "000000000000")


@pytest.mark.parametrize("region", EU_REGIONS)
def test_a_region_of_the_list_is_taken(region: str) -> None:
    assert check_region(region) == region


def test_what_is_allowed_is_allowed_in_one_region_only() -> None:
    # These exist once for the whole of AWS, or read a price list; none holds data.
    everywhere = {"ce", "pricing", "budgets", "iam", "s3"}
    for name, statement in statements():
        services = {action.split(":")[0] for action in statement["Action"]}
        if statement["Effect"] == "Deny" or services <= everywhere:
            continue
        region = statement.get("Condition", {}).get("StringEquals", {}).get("aws:RequestedRegion")
        here = [":eu-west-1:" in resource or resource == "<Topic>" for resource in statement["Resource"]]
        assert region == "eu-west-1" or all(here), (name, statement)


def test_no_policy_allows_a_wildcard_action() -> None:
    allowed = [action for _, one in statements() if one["Effect"] == "Allow" for action in one["Action"]]
    assert len(allowed) > 80
    assert not [action for action in allowed if "*" in action]


def test_no_inbound_rule_admits_the_world() -> None:
    inbound = [it for it in RESOURCES.values() if it["Type"] == "AWS::EC2::SecurityGroupIngress"]
    assert len(inbound) == 12
    for rule in inbound:
        assert rule["Properties"].keys() & {"CidrIp", "CidrIpv6", "SourcePrefixListId"} == set()
        assert rule["Properties"]["SourceSecurityGroupId"]["Ref"] in {"PrimaryGroup", "CoreGroup"}
    for group in (it for it in RESOURCES.values() if it["Type"] == "AWS::EC2::SecurityGroup"):
        assert "SecurityGroupIngress" not in group["Properties"]


def test_only_services_that_need_a_role_may_take_it() -> None:
    takers = {
        name: render(resource["Properties"]["AssumeRolePolicyDocument"])["Statement"][0]["Principal"]
        for name, resource in RESOURCES.items()
        if resource["Type"] == "AWS::IAM::Role"
    }
    expected = {
        "NodeRole": "ec2",
        "ServerlessRole": "emr-serverless",
        "ServiceRole": "elasticmapreduce",
        "DeadlineRole": "lambda",
        "SchedulerRole": "scheduler",
        "CostRole": "lambda",
    }
    assert takers == {name: {"Service": f"{service}.amazonaws.com"} for name, service in expected.items()}


def test_the_scheduler_may_call_the_deadline_function_and_nothing_else() -> None:
    (statement,) = (statement for name, statement in statements() if name == "SchedulerRole")
    assert (statement["Action"], len(statement["Resource"])) == (["lambda:InvokeFunction"], 1)
    assert "DeadlineFunction" in statement["Resource"][0]


def test_the_budget_warns_at_50_80_and_100_percent() -> None:
    budget = render(RESOURCES["Budget"]["Properties"])
    warnings = [it["Notification"]["Threshold"] for it in budget["NotificationsWithSubscribers"]]
    assert warnings == [50, 80, 100]
    assert budget["Budget"]["BudgetLimit"] == {"Amount": "10", "Unit": "USD"}
    assert render(RESOURCES["Budget"]["Properties"]["Budget"]["BudgetLimit"]["Unit"], SOVEREIGN) == "EUR"


def test_mails_are_sentences_with_every_place_filled() -> None:
    for rule in ("ReadyRule", "GoneRule"):
        transformer = RESOURCES[rule]["Properties"]["Targets"][0]["InputTransformer"]
        lines = transformer["InputTemplate"].splitlines()
        assert all(re.fullmatch(r'"[^"]+\."|"[^"]+>"', line) for line in lines)
        assert set(re.findall(r"<(\w+)>", transformer["InputTemplate"])) == set(transformer["InputPathsMap"])


def test_the_bucket_takes_no_request_without_tls_and_nothing_public() -> None:
    (statement,) = render(RESOURCES["BucketPolicy"]["Properties"]["PolicyDocument"])["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [BUCKET, f"{BUCKET}/*"]
    assert set(RESOURCES["Bucket"]["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}


def test_what_is_replaced_deleted_or_logged_goes_by_itself() -> None:
    bucket = RESOURCES["Bucket"]["Properties"]
    rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    assert (rules["logs"]["Prefix"], rules["logs"]["ExpirationInDays"]) == ("logs/", 30)
    older = rules["what-was-replaced-or-deleted"]
    assert (older["NoncurrentVersionExpiration"]["NoncurrentDays"], "Prefix" in older) == (7, False)
    assert rules["unfinished-uploads"]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] == 1


def test_outputs_are_what_others_read() -> None:
    names = {"".join(word.capitalize() for word in name.split("_")) for name in Foundation.__dataclass_fields__}
    assert set(load()["Outputs"]) == names - {"Region", "Account", "Project", "SecurityGroupService"}


def test_the_template_and_the_policy_keep_below_the_limits_of_aws() -> None:
    assert len(template().encode()) < 51_200  # CloudFormation takes no longer one without a bucket
    longest = json.dumps(policy_document("UserPolicy", SOVEREIGN | {"Project": "a" * 20}), separators=(",", ":"))
    assert len(longest) < 6_144  # of a managed policy
    for function in ("DeadlineFunction", "CostFunction"):
        assert len(RESOURCES[function]["Properties"]["Code"]["ZipFile"]) < 4_096


def test_a_new_foundation_wants_a_mail_and_an_old_one_keeps_what_it_has() -> None:
    wishes = Wishes("eu-west-1", "000000000000")
    with pytest.raises(SettingError, match="--mail"):
        change_set_request(wishes, exists=False)
    kept = change_set_request(wishes, exists=True)["Parameters"]
    assert [it["ParameterKey"] for it in kept if it.get("UsePreviousValue")] == [
        "Mail",
        "CeilingEur",
        "VpcId",
        "SubnetId",
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mail": "nobody"}, "a mail address"),
        ({"ceiling_eur": 0.5}, "1 to 10,000 euros"),
        ({"ceiling_eur": float("nan")}, "1 to 10,000 euros"),
        ({"vpc_id": "vpc-1"}, "only --vpc vpc-1"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        Wishes("eu-west-1", "000000000000", **given)


# --- Who may do what: the user's policy, judged by MiniStack's evaluator of policies ---

CLUSTER = "arn:aws:elasticmapreduce:eu-west-1:000000000000:cluster/j-1"
APPLICATION = "arn:aws:emr-serverless:eu-west-1:000000000000:/applications/a1"
BUCKET = "arn:aws:s3:::verger-000000000000-eu-west-1"
OURS = {"verger:project": "verger"}
LABELLED = OURS | {"verger:run": "20260101-000000-abcd", "verger:deadline": "2026-01-01T01:00Z"}
ROLE = "arn:aws:iam::000000000000:role/verger-foundation-{}-0123456789AB"
EMR_TAG = {"for-use-with-amazon-emr-managed-policies": "true"}  # EMR's own policy asks for it
RUN = {"action": "elasticmapreduce:RunJobFlow", "resource": "*", "request_tags": LABELLED | EMR_TAG}
PASS = {"action": "iam:PassRole", "resource": ROLE.format("ServiceRole"), "service": "elasticmapreduce.amazonaws.com"}
SCHEDULES = "arn:aws:scheduler:eu-west-1:000000000000:schedule/"

ALLOWED: list[dict[str, Any]] = [
    RUN,
    PASS,
    *(
        {"action": f"s3:{verb}", "resource": f"{BUCKET}/photos/a.jpg"}
        for verb in ("GetObject", "PutObject", "DeleteObject")
    ),
    {"action": "s3:ListBucket", "resource": BUCKET},
    {"action": "s3:GetObject", "resource": f"{BUCKET}/logs/j-1/x.gz"},
    *(
        {"action": f"elasticmapreduce:{verb}", "resource": CLUSTER, "tags": OURS}
        for verb in ("DescribeCluster", "ListSteps", "TerminateJobFlows", "SetTerminationProtection")
    ),
    {"action": "elasticmapreduce:ListClusters", "resource": "*"},
    {"action": "elasticmapreduce:PutAutoTerminationPolicy", "resource": CLUSTER},
    {"action": "emr-serverless:CreateApplication", "resource": "*", "request_tags": OURS},
    {"action": "emr-serverless:StartJobRun", "resource": APPLICATION, "tags": OURS, "request_tags": LABELLED},
    {"action": "emr-serverless:CancelJobRun", "resource": f"{APPLICATION}/jobruns/1", "tags": OURS},
    {"action": "scheduler:CreateSchedule", "resource": f"{SCHEDULES}verger/verger-20260101-000000-abcd"},
    {"action": "scheduler:ListSchedules", "resource": "*"},
    {"action": "iam:PassRole", "resource": ROLE.format("NodeRole"), "service": "ec2.amazonaws.com"},
    {"action": "iam:PassRole", "resource": ROLE.format("SchedulerRole"), "service": "scheduler.amazonaws.com"},
    {"action": "ce:GetCostAndUsage", "resource": "*", "region": "us-east-1"},
    {"action": "pricing:GetProducts", "resource": "*", "region": "eu-central-1"},
    {"action": "ssm:StartSession", "resource": "arn:aws:ec2:eu-west-1:000000000000:instance/i-1", "tags": OURS},
    {"action": "ssm:StartSession", "resource": "arn:aws:ssm:eu-west-1::document/AWS-StartPortForwardingSession"},
    {"action": "ssm:TerminateSession", "resource": "arn:aws:ssm:eu-west-1:000000000000:session/least-1"},
    {"action": "ssmmessages:OpenDataChannel", "resource": "arn:aws:ssm:eu-west-1:000000000000:session/least-1"},
]
DENIED: list[dict[str, Any]] = [
    *(
        RUN | {"request_tags": {k: v for k, v in RUN["request_tags"].items() if k != tag}}
        for tag in RUN["request_tags"]
    ),
    RUN | {"request_tags": LABELLED | EMR_TAG | {"verger:project": "theirs"}},
    *(RUN | {"region": region} for region in ("us-east-1", "eu-west-2", "eu-west-3")),
    PASS | {"service": "lambda.amazonaws.com"},
    PASS | {"resource": "arn:aws:iam::000000000000:role/Admin"},
    PASS | {"resource": ROLE.format("DeadlineRole"), "service": "ec2.amazonaws.com"},
    *(
        {"action": f"s3:{verb}", "resource": "arn:aws:s3:::theirs/a"}
        for verb in ("GetObject", "PutObject", "DeleteObject")
    ),
    {"action": "s3:DeleteObjectVersion", "resource": f"{BUCKET}/photos/a.jpg"},
    {"action": "s3:PutObject", "resource": f"{BUCKET}/logs/x"},
    {"action": "s3:PutObject", "resource": f"{BUCKET}/elsewhere/x"},
    *(
        {"action": f"s3:{verb}", "resource": BUCKET}
        for verb in (
            "DeleteBucket",
            "PutBucketPolicy",
            "PutBucketAcl",
            "PutBucketPublicAccessBlock",
            "PutLifecycleConfiguration",
        )
    ),
    {"action": "s3:ListAllMyBuckets", "resource": "*"},
    *(
        {"action": f"elasticmapreduce:{verb}", "resource": CLUSTER, "tags": {"verger:project": "theirs"}}
        for verb in ("DescribeCluster", "TerminateJobFlows", "ListSteps", "PutAutoTerminationPolicy")
    ),
    {"action": "elasticmapreduce:TerminateJobFlows", "resource": CLUSTER},
    *(
        {"action": f"elasticmapreduce:{verb}", "resource": CLUSTER, "tags": OURS, "request_tags": LABELLED}
        for verb in ("AddTags", "RemoveTags", "AddJobFlowSteps", "RemoveAutoTerminationPolicy", "ModifyInstanceFleet")
    ),
    {"action": "emr-serverless:CreateApplication", "resource": "*"},
    {"action": "emr-serverless:StartJobRun", "resource": APPLICATION, "tags": OURS, "request_tags": OURS},
    {"action": "emr-serverless:StartJobRun", "resource": APPLICATION, "request_tags": LABELLED},
    {"action": "scheduler:DeleteSchedule", "resource": f"{SCHEDULES}verger/verger-deadline"},
    {"action": "scheduler:CreateSchedule", "resource": f"{SCHEDULES}default/verger-20260101-000000-abcd"},
    {
        "action": "scheduler:DeleteScheduleGroup",
        "resource": "arn:aws:scheduler:eu-west-1:000000000000:schedule-group/verger",
    },
    *(
        {"action": f"iam:{verb}", "resource": "*"}
        for verb in ("CreateUser", "AttachUserPolicy", "CreateRole", "CreateAccessKey")
    ),
    *(
        {"action": f"lambda:{verb}", "resource": "*"}
        for verb in ("UpdateFunctionCode", "InvokeFunction", "DeleteFunction")
    ),
    *(
        {"action": f"ec2:{verb}", "resource": "*"}
        for verb in ("RunInstances", "AuthorizeSecurityGroupIngress", "CreateVpc")
    ),
    *(
        {"action": f"cloudformation:{verb}", "resource": "*"}
        for verb in ("DeleteStack", "UpdateStack", "ExecuteChangeSet")
    ),
    *({"action": f"events:{verb}", "resource": "*"} for verb in ("PutRule", "DeleteRule", "DisableRule")),
    {"action": "sns:Unsubscribe", "resource": "*"},
    {"action": "budgets:ModifyBudget", "resource": "arn:aws:budgets::000000000000:budget/verger-eu-west-1"},
    {"action": "ssm:StartSession", "resource": "arn:aws:ec2:eu-west-1:000000000000:instance/i-1"},
    {"action": "ssm:StartSession", "resource": "arn:aws:ssm:eu-west-1::document/AWS-RunShellScript"},
    {"action": "ssm:SendCommand", "resource": "*"},
    {"action": "ssm:TerminateSession", "resource": "arn:aws:ssm:eu-west-1:000000000000:session/other-1"},
    {"action": "sts:AssumeRole", "resource": ROLE.format("NodeRole")},
    {"action": "kms:Decrypt", "resource": "*"},
]


def judge(policies: list[dict[str, Any]], cases: list[dict[str, Any]]) -> list[str]:
    """What MiniStack's evaluator says of each case."""
    python = servers.MINISTACK.parent / "python"
    if not python.exists():
        pytest.skip(f"needs MiniStack in {servers.MINISTACK}; `scripts/servers` installs it")
    program = [str(python), str(ROOT / "tests" / "policy_judge.py")]
    asked = json.dumps({"policies": policies, "cases": cases})
    done = subprocess.run(program, input=asked, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_the_user_may_do_what_the_commands_do() -> None:
    decisions = judge([policy_document("UserPolicy")], ALLOWED)
    assert [case for case, decision in zip(ALLOWED, decisions, strict=True) if decision != "Allow"] == []


def test_the_user_may_do_nothing_else() -> None:
    decisions = judge([policy_document("UserPolicy")], DENIED)
    assert [case for case, decision in zip(DENIED, decisions, strict=True) if decision == "Allow"] == []


def role_policies(name: str) -> list[dict[str, Any]]:
    return [
        {"Version": "2012-10-17", "Statement": [one for holder, one in statements() if holder in (name, "DataPolicy")]}
    ]


def test_nodes_read_photos_and_write_runs_only() -> None:
    allowed = [("GetObject", "photos/a"), ("GetObject", "code/1/x"), ("PutObject", "runs/a/x"), ("PutObject", "logs/x")]
    denied = [
        ("PutObject", "photos/a"),
        ("PutObject", "code/1/x"),
        ("DeleteObject", "photos/a"),
        ("DeleteObjectVersion", "runs/a"),
    ]
    cases = [{"action": f"s3:{verb}", "resource": f"{BUCKET}/{key}"} for verb, key in allowed + denied]
    decisions = judge(role_policies("NodeRole"), cases)
    assert [decision == "Allow" for decision in decisions] == [True] * 4 + [False] * 4


def test_the_deadline_function_ends_ours_and_only_ours() -> None:
    end = {"action": "elasticmapreduce:TerminateJobFlows", "resource": CLUSTER}
    cases = [end | {"tags": OURS}, end, end | {"tags": {"verger:project": "theirs"}}]
    cases += [{"action": "elasticmapreduce:RunJobFlow", "resource": "*", "request_tags": LABELLED | EMR_TAG}]
    policies = [{"Version": "2012-10-17", "Statement": [one for name, one in statements() if name == "DeadlineRole"]}]
    assert [decision == "Allow" for decision in judge(policies, cases)] == [True, False, False, False]


# --- The two functions, run as they are, on moto ---


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An AWS account in this process."""
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("PROJECT", "verger")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield


def function(name: str) -> dict[str, Any]:
    """What the code of a function in the template defines."""
    made: dict[str, Any] = {}
    exec(compile(RESOURCES[name]["Properties"]["Code"]["ZipFile"], name, "exec"), made)
    return made


def start_cluster(tags: dict[str, str], **instances: Any) -> str:
    import boto3

    started = boto3.client("emr").run_job_flow(
        Name="verger-1",
        ReleaseLabel="emr-7.14.0",
        Instances={"MasterInstanceType": "m5.xlarge", "InstanceCount": 1, "KeepJobFlowAliveWhenNoSteps": True}
        | instances,
        JobFlowRole="profile",
        ServiceRole="role",
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )
    return str(started["JobFlowId"])


def alive(cluster: str) -> bool:
    import boto3

    state = boto3.client("emr").describe_cluster(ClusterId=cluster)["Cluster"]["Status"]["State"]
    return not state.startswith("TERMINAT")


def at(minutes: int) -> str:
    return f"{datetime.now(UTC) + timedelta(minutes=minutes):%Y-%m-%dT%H:%MZ}"


@pytest.mark.server
@pytest.mark.usefixtures("account")
def test_a_cluster_past_its_deadline_ends_and_so_does_one_without_a_deadline_that_can_be_read() -> None:
    deadlines = {"past": at(-2), "naive": "2020-01-01T00:00", "odd": "soon", "empty": ""}
    over = [start_cluster(OURS | {"verger:deadline": deadline}) for deadline in deadlines.values()] + [
        start_cluster(OURS)
    ]
    going = [
        start_cluster(OURS | {"verger:deadline": at(10)}),
        start_cluster({"verger:deadline": at(-9)}),
        start_cluster({}),
    ]
    theirs = start_cluster({"verger:project": "theirs", "verger:deadline": at(-2)})
    ended = function("DeadlineFunction")["handler"]({}, None)["ended"]
    assert sorted(ended) == sorted(over)
    assert not any(map(alive, over))
    assert all(map(alive, [*going, theirs]))


@pytest.mark.server
@pytest.mark.usefixtures("account")
def test_at_its_own_deadline_a_run_ends_and_no_other_does() -> None:
    one, other = (start_cluster(OURS | {"verger:run": run, "verger:deadline": at(60)}) for run in ("a", "b"))
    theirs = start_cluster({"verger:run": "a"})
    assert function("DeadlineFunction")["handler"]({"run": "a"}, None) == {"ended": [one]}
    assert (alive(one), alive(other), alive(theirs)) == (False, True, True)


@pytest.mark.server
@pytest.mark.usefixtures("account")
def test_a_protected_cluster_ends_too() -> None:
    cluster = start_cluster(OURS, TerminationProtected=True)
    function("DeadlineFunction")["handler"]({}, None)
    assert not alive(cluster)


@pytest.mark.server
@pytest.mark.usefixtures("account")
def test_one_that_cannot_be_ended_is_told_and_spares_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, cluster = start_cluster(OURS), start_cluster(OURS)
    made = function("DeadlineFunction")
    terminate = made["terminate"]

    def refuse(emr: Any, ids: list[str]) -> None:
        if ids == [stuck]:
            raise RuntimeError("no")
        terminate(emr, ids)

    monkeypatch.setitem(made, "terminate", refuse)
    with pytest.raises(RuntimeError, match=rf"{stuck}: no.*verger cloud down"):
        made["handler"]({}, None)
    assert (alive(stuck), alive(cluster)) == (True, False)


@pytest.mark.server
@pytest.mark.usefixtures("account")
def test_jobs_without_servers_end_too_and_then_their_application_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    monkeypatch.setattr("moto.emrserverless.models.JOB_STATUS", "RUNNING")  # moto's jobs are over before they begin
    serverless = boto3.client("emr-serverless")
    role = "arn:aws:iam::123456789012:role/x"
    tags = OURS | {"verger:run": "a", "verger:deadline": at(-1)}
    made = [
        serverless.create_application(releaseLabel="emr-7.14.0", type="SPARK", tags=it)["applicationId"]
        for it in (tags, {})
    ]
    for application in made:
        serverless.start_application(applicationId=application)
    driver = {"sparkSubmit": {"entryPoint": "s3://b/x.py"}}
    started = serverless.start_job_run(
        applicationId=made[0],
        clientToken="1",
        executionRoleArn=role,
        jobDriver=driver,
        executionTimeoutMinutes=60,
        tags=tags,
    )
    handler = function("DeadlineFunction")["handler"]
    assert handler({}, None) == {"ended": [started["jobRunId"]]}
    assert handler({}, None) == {"ended": [made[0]]}
    states = [serverless.get_application(applicationId=it)["application"]["state"] for it in made]
    assert states == ["STOPPED", "STARTED"]


@pytest.mark.server
@pytest.mark.usefixtures("account")
def test_the_weekly_report_adds_up_by_run(monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    topic = boto3.client("sns").create_topic(Name="verger")["TopicArn"]
    queue = boto3.client("sqs").create_queue(QueueName="mail")["QueueUrl"]
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:eu-west-1:123456789012:mail")
    monkeypatch.setenv("TOPIC", topic)
    monkeypatch.setenv("CURRENCY", "USD")
    made = function("CostFunction")

    def cost(amount: str) -> dict[str, Any]:
        return {"UnblendedCost": {"Amount": amount, "Unit": "USD"}}

    def days(*runs: tuple[str, str]) -> dict[str, Any]:
        return {"Groups": [{"Keys": [f"verger:run${run}"], "Metrics": cost(amount)} for run, amount in runs]}

    answers = [
        [days(("a", "1.25"), ("", "0.02")), days(("a", "0.75"))],
        [{"Total": cost("2.02")}, {"Total": cost("3.00")}],
    ]
    billing = Billing(answers)
    client = boto3.client
    monkeypatch.setattr(made["boto3"], "client", lambda name: billing if name == "ce" else client(name))
    assert made["handler"]({}, None) == {"subject": "verger: 2.02 USD in seven days"}
    (mail,) = boto3.client("sqs").receive_message(QueueUrl=queue)["Messages"]
    text = json.loads(mail["Body"])["Message"]
    assert re.findall(r"([\d.]+)  (.+)", text) == [
        ("2.00", "a"),
        ("0.02", "no run"),
        ("2.02", "together, tagged verger:project"),
        ("5.02", "the whole account"),
    ]


class Billing:
    """Cost Explorer with answers of ours, as moto's do not add up; botocore's model checks what it is asked."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers

    def get_cost_and_usage(self, **asked: Any) -> dict[str, Any]:
        import botocore.session
        from botocore.validate import ParamValidator

        model = botocore.session.get_session().get_service_model("ce").operation_model("GetCostAndUsage")
        assert not ParamValidator().validate(asked, model.input_shape).has_errors()
        return {"ResultsByTime": self.answers.pop(0)}


def test_the_functions_pass_the_same_style_check_as_our_own_code() -> None:
    ruff = Path(sys.executable).parent / "ruff"
    for name in ("DeadlineFunction", "CostFunction"):
        code = RESOURCES[name]["Properties"]["Code"]["ZipFile"]
        # Comments and types cost room that the function's limit has not; printing is a function's log.
        ignored = ["--extend-ignore", "ANN,D,T20,ARG001,BLE001,PERF203,TRY"]
        done = subprocess.run(
            [ruff, "check", *ignored, "-"], input=code, check=False, capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 0, done.stdout
