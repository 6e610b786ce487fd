"""What would be sent to AWS, against botocore's own models: names, types, limits and the values of enumerations."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator
from clouds import ACCOUNT, BUCKET, FUNCTION, OUTPUTS, REGION

from verger.cloud import costs, deadline, emr, job, serverless
from verger.cloud.aws import Request
from verger.cloud.emr import Nodes, Order
from verger.cloud.foundation import Foundation
from verger.errors import SettingError

NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
FOUNDATION = Foundation(
    region=REGION,
    account=ACCOUNT,
    project="verger",
    bucket_name=BUCKET,
    service_role_arn=OUTPUTS["ServiceRoleArn"],
    instance_profile_name=OUTPUTS["InstanceProfileName"],
    serverless_role_arn=OUTPUTS["ServerlessRoleArn"],
    scheduler_role_arn=OUTPUTS["SchedulerRoleArn"],
    deadline_function_arn=FUNCTION,
    security_group_primary=OUTPUTS["SecurityGroupPrimary"],
    security_group_core=OUTPUTS["SecurityGroupCore"],
    security_group_service="sg-0123456789abcdef2",
    subnet_id=OUTPUTS["SubnetId"],
    topic_arn=OUTPUTS["TopicArn"],
    user_policy_arn=OUTPUTS["UserPolicyArn"],
    budget_name="verger",
    scheduler_group_name="verger",
)
ORDER = Order(FOUNDATION, "20261121-220000-abcd", NOW + timedelta(hours=1), 0.9, 0.4, f"s3://{BUCKET}/code/1")
NODES = Nodes("m5.xlarge", ("m5.xlarge", "m5a.xlarge", "m5d.xlarge"), core=2, task=3)
PLACES = (f"s3://{BUCKET}/photos/x", f"s3://{BUCKET}/runs/x")


def cluster(order: Order = ORDER, nodes: Nodes = NODES) -> Request:
    step = job.step_arguments(*PLACES, ["--components", "50"], order.code)
    return emr.transient_cluster(order, nodes, step, job.bootstrap_action(order.code), job.spark_configuration())


def notebook() -> Request:
    return emr.notebook_cluster(ORDER, NODES, job.bootstrap_action(ORDER.code), job.spark_configuration(), 1800)


REQUESTS = {
    "cluster": cluster(),
    "notebook": notebook(),
    "terminate": emr.terminate(["j-1"]),
    "unprotect": emr.unprotect(["j-1"]),
    "schedule": deadline.schedule(FOUNDATION, ORDER.run, ORDER.deadline),
    "remove schedule": deadline.remove_schedule("verger-1", "verger"),
    "application": serverless.application(ORDER, 2),
    "job": serverless.job(ORDER, "app", job.serverless_driver(*PLACES, [], ORDER.code), NOW),
    "cancel": serverless.cancel("app", "job"),
    "stop": serverless.stop("app"),
    "delete": serverless.delete("app"),
    "bill": Request("ce", "get_cost_and_usage", costs.ask("verger", 30, NOW.date(), "next")),
}


def unknown_values(value: Any, shape: Shape, path: str = "") -> list[str]:
    """Strings that are no member of their enumeration; botocore's own validator lets them pass."""
    if shape.type_name == "structure" and isinstance(value, dict):
        return [bad for k, v in value.items() for bad in unknown_values(v, shape.members[k], f"{path}.{k}")]
    if shape.type_name == "list":
        return [bad for v in value for bad in unknown_values(v, shape.member, f"{path}[]")]
    if shape.type_name == "map":
        return [bad for v in value.values() for bad in unknown_values(v, shape.value, f"{path}{{}}")]
    return [f"{path}={value}"] if getattr(shape, "enum", None) and value not in shape.enum else []


def faults(request: Request) -> str:
    """What botocore's model has against a request; empty if nothing."""
    model = ServiceModel(Loader().load_service_model(request.service, "service-2"), request.service)
    name = request.action.partition(":")[2]
    shape = model.operation_model(name).input_shape
    assert shape is not None
    report = ParamValidator().validate(dict(request.parameters), shape)
    return "; ".join([*filter(None, [report.generate_report()]), *unknown_values(request.parameters, shape)])


@pytest.mark.parametrize("name", REQUESTS)
def test_botocores_model_accepts_it(name: str) -> None:
    assert faults(REQUESTS[name]) == ""


def test_a_wrong_value_of_an_enumeration_would_be_seen() -> None:
    request = cluster()
    request.parameters["Instances"]["InstanceFleets"][0]["InstanceFleetType"] = "PRIMARY"
    assert faults(request) == ".Instances.InstanceFleets[].InstanceFleetType=PRIMARY"


def test_primary_on_demand_and_workers_on_spot_with_three_types_and_a_way_back() -> None:
    primary, core, task = cluster().parameters["Instances"]["InstanceFleets"]
    assert (primary["TargetOnDemandCapacity"], primary.get("TargetSpotCapacity")) == (1, None)
    assert (core["TargetSpotCapacity"], task["TargetSpotCapacity"]) == (2, 3)
    for fleet in (core, task):
        assert len(fleet["InstanceTypeConfigs"]) >= 3
        spot = fleet["LaunchSpecifications"]["SpotSpecification"]
        assert (spot["TimeoutDurationMinutes"], spot["TimeoutAction"]) == (10, "SWITCH_TO_ON_DEMAND")
        # Nobody pays more for spot than on demand: the ceiling counts on it.
        assert {kind["BidPriceAsPercentageOfOnDemandPrice"] for kind in fleet["InstanceTypeConfigs"]} == {100.0}


def test_no_cluster_without_every_guard() -> None:
    for request in (cluster(), notebook()):
        tags = {tag["Key"]: tag["Value"] for tag in request.parameters["Tags"]}
        assert tags["verger:project"] == "verger"
        assert tags["verger:run"] == ORDER.run
        assert tags["verger:deadline"] == "2026-11-21T23:00Z"
        assert tags["for-use-with-amazon-emr-managed-policies"] == "true"
        assert request.parameters["AutoTerminationPolicy"]["IdleTimeout"] == 1800
        assert request.parameters["Name"] == f"verger-{ORDER.run}"
    assert cluster().parameters["Instances"]["KeepJobFlowAliveWhenNoSteps"] is False
    assert cluster().parameters["Steps"][0]["ActionOnFailure"] == "TERMINATE_CLUSTER"


def test_jupyterhub_only_where_it_is_asked_for_and_never_with_its_default_password() -> None:
    assert [each["Name"] for each in cluster().parameters["Applications"]] == ["Spark"]
    asked = notebook().parameters
    assert "JupyterHub" in {each["Name"] for each in asked["Applications"]}
    settings = {each["Classification"]: each["Properties"] for each in asked["Configurations"]}
    assert settings["livy-conf"]["livy.server.session.timeout"] == "1800s"
    assert settings["jupyter-notebook-conf"]["c.MappingKernelManager.cull_idle_timeout"] == "1800"
    step = asked["Steps"][0]
    assert "chpasswd" in step["HadoopJarStep"]["Args"][2]
    assert step["ActionOnFailure"] == "TERMINATE_CLUSTER"


def test_a_serverless_job_has_its_own_end_and_its_own_limit() -> None:
    assert REQUESTS["job"].parameters["executionTimeoutMinutes"] == 60
    assert REQUESTS["application"].parameters["maximumCapacity"]["cpu"] == "12 vCPU"
    late = serverless.job(ORDER, "app", {}, ORDER.deadline)
    assert late.parameters["executionTimeoutMinutes"] == 5


def test_the_schedule_of_a_run_calls_the_foundations_function_once_at_the_deadline() -> None:
    asked = REQUESTS["schedule"].parameters
    assert asked["Name"] == ORDER.name
    assert asked["ScheduleExpression"] == "at(2026-11-21T23:00:00)"
    assert asked["Target"]["Arn"] == FUNCTION
    assert asked["Target"]["Input"] == f'{{"run": "{ORDER.run}"}}'
    assert asked["ActionAfterCompletion"] == "DELETE"


@pytest.mark.parametrize(
    ("expected_minutes", "eur_per_hour", "max_eur", "minutes"),
    [
        (20, 1.0, 10.0, 60),  # never less than an hour
        (60, 1.0, 10.0, 120),  # twice the estimate
        (60, 6.0, 10.0, 100),  # the money ends first
        (600, 0.5, 10.0, 720),  # never more than half a day
    ],
)
def test_the_deadline_is_twice_the_estimate_and_before_the_money_ends(
    expected_minutes: int, eur_per_hour: float, max_eur: float, minutes: int
) -> None:
    until = deadline.choose(NOW, timedelta(minutes=expected_minutes), eur_per_hour, max_eur)
    assert until - NOW == timedelta(minutes=minutes)
    assert (until - NOW) / timedelta(hours=1) * eur_per_hour <= max_eur


def test_a_run_that_the_ceiling_does_not_pay_on_demand_is_refused() -> None:
    with pytest.raises(SettingError, match="100 minutes"):
        deadline.choose(NOW, timedelta(minutes=101), 6.0, 10.0)


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01T00:00Z"])
def test_a_deadline_that_cannot_be_read_is_none(text: str) -> None:
    assert deadline.read({"verger:deadline": text}) is None


def test_a_deadline_is_read_as_it_was_written() -> None:
    assert deadline.read({"verger:deadline": deadline.written(NOW)}) == NOW
    assert ORDER.tags == replace(ORDER, code="").tags


def test_a_bill_is_added_up_by_run_next_to_its_estimate() -> None:
    def group(run: str, service: str, usd: str) -> dict[str, Any]:
        return {"Keys": [f"verger:run${run}", service], "Metrics": {"UnblendedCost": {"Amount": usd, "Unit": "USD"}}}

    groups = [group("a", "EMR", "0.50"), group("a", "EC2", "1.25"), group("a", "EC2", "0.25"), group("", "S3", "0.01")]
    bills = costs.add_up(groups, {"a": 2.5, "b": 1.0})
    assert [(bill.run, bill.usd, bill.estimate_eur) for bill in bills] == [
        ("a", 2.0, 2.5),
        ("", 0.01, None),
        ("b", 0, 1.0),
    ]
    assert bills[0].services == {"EMR": 0.5, "EC2": 1.5}
