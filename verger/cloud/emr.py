"""What is asked of EMR: pure functions from an order to requests. Nothing here talks to AWS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from verger.cloud import deadline
from verger.cloud.aws import Request

if TYPE_CHECKING:
    from verger.cloud.foundation import Foundation

RELEASE = "emr-7.14.0"  # Spark 3.5; Python 3.11 beside the default 3.9; JupyterHub
LEAST_TYPES = 3  # fewer leave spot no choice
SPOT_MINUTES = 10  # then the missing nodes are bought on demand
IDLE_SECONDS = 1800
ALIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING")
# EMR's own policy lets its service role touch only what carries this tag (AmazonEMRServicePolicy_v2).
MANAGED_TAG = {"for-use-with-amazon-emr-managed-policies": "true"}
JUPYTER = "jupyter"  # prefix in the bucket where JupyterHub keeps its notebooks


@dataclass(frozen=True)
class Nodes:
    """What a cluster is made of. The primary node is bought on demand, the others as spot."""

    primary: str  # instance type
    workers: tuple[str, ...]  # instance types that spot may choose from, all with the same number of vCPUs
    core: int  # nodes that hold HDFS and shuffle
    task: int = 0  # nodes that only compute


@dataclass(frozen=True)
class Order:
    """A cluster or a serverless job to be: for which run, how long at most, at what price."""

    foundation: "Foundation"
    run: str
    deadline: datetime
    eur_per_hour: float
    estimate_eur: float
    code: str  # URI of the folder with wheels and bootstrap

    @property
    def name(self) -> str:
        """The cluster's name."""
        return f"{self.foundation.project}-{self.run}"

    @property
    def tags(self) -> dict[str, str]:
        """What the cluster, its nodes and its bill are known by."""
        return {
            deadline.PROJECT_TAG: self.foundation.project,
            deadline.RUN_TAG: self.run,
            deadline.DEADLINE_TAG: deadline.written(self.deadline),
            deadline.RATE_TAG: f"{self.eur_per_hour:.2f}",
            deadline.ESTIMATE_TAG: f"{self.estimate_eur:.2f}",
        }


def fleets(nodes: Nodes) -> list[dict[str, Any]]:
    """The instance fleets: a primary node on demand; core and task nodes as spot, on demand where there is no spot.

    Spot is never paid above the price on demand, so a cluster never costs more than all its nodes on demand.
    """
    spot = {
        "SpotSpecification": {
            "TimeoutDurationMinutes": SPOT_MINUTES,
            "TimeoutAction": "SWITCH_TO_ON_DEMAND",
            "AllocationStrategy": "price-capacity-optimized",
        }
    }
    types = [
        {"InstanceType": kind, "WeightedCapacity": 1, "BidPriceAsPercentageOfOnDemandPrice": 100.0}
        for kind in nodes.workers
    ]
    made: list[dict[str, Any]] = [
        {
            "Name": "primary",
            "InstanceFleetType": "MASTER",
            "TargetOnDemandCapacity": 1,
            "InstanceTypeConfigs": [{"InstanceType": nodes.primary}],
        }
    ]
    for kind, count in (("CORE", nodes.core), ("TASK", nodes.task)):
        if count:
            fleet = {"Name": kind.lower(), "InstanceFleetType": kind, "TargetSpotCapacity": count}
            made.append(fleet | {"InstanceTypeConfigs": types, "LaunchSpecifications": spot})
    return made


def transient_cluster(
    order: Order,
    nodes: Nodes,
    step: Sequence[str],
    bootstrap: Mapping[str, Any],
    configurations: Sequence[Mapping[str, Any]],
) -> Request:
    """A cluster that runs one step and ends, however the step ends.

    Args:
        order: for which run.
        nodes: of which nodes.
        step: arguments for command-runner.jar.
        bootstrap: the bootstrap action.
        configurations: of Spark.
    """
    parameters = _cluster(order, nodes, bootstrap, configurations)
    parameters["Applications"] = [{"Name": "Spark"}]
    parameters["Instances"]["KeepJobFlowAliveWhenNoSteps"] = False
    parameters["Steps"] = [_step("verger run", step, on_failure="TERMINATE_CLUSTER")]
    return Request("emr", "run_job_flow", parameters)


def notebook_cluster(
    order: Order,
    nodes: Nodes,
    bootstrap: Mapping[str, Any],
    configurations: Sequence[Mapping[str, Any]],
    idle_seconds: int = IDLE_SECONDS,
) -> Request:
    """A standing cluster with JupyterHub, whose notebooks lie in the bucket and whose password is changed first of all.

    An open notebook keeps a cluster alive, so idle kernels and Livy sessions are ended too.
    """
    parameters = _cluster(order, nodes, bootstrap, [*configurations, *notebook_configurations(order, idle_seconds)])
    parameters["Applications"] = [{"Name": name} for name in ("Spark", "Livy", "JupyterHub")]
    parameters["Instances"]["KeepJobFlowAliveWhenNoSteps"] = True
    parameters["AutoTerminationPolicy"] = {"IdleTimeout": idle_seconds}
    # With the default password left in place nobody may come in: then the cluster ends.
    parameters["Steps"] = [_step("new password", ["bash", "-c", NEW_PASSWORD], on_failure="TERMINATE_CLUSTER")]
    return Request("emr", "run_job_flow", parameters)


PASSWORD_FILE = "/home/hadoop/.jupyterhub-password"  # noqa: S105  (where it is, not what it is)
# The password is made on the primary node and read there: no request, log or laptop ever holds it.
NEW_PASSWORD = f"""set -euo pipefail
umask 077
password=$(head -c 18 /dev/urandom | base64 | tr '+/' '-_')
printf 'jovyan:%s' "$password" | sudo docker exec -i jupyterhub chpasswd
printf '%s\\n' "$password" > {PASSWORD_FILE}"""


def notebook_configurations(order: Order, idle_seconds: int) -> list[dict[str, Any]]:
    """What JupyterHub and Livy are told: where notebooks lie, and how long an idle kernel or session may live."""
    bucket = order.foundation.bucket_name
    return [
        {
            "Classification": "livy-conf",
            "Properties": {
                "livy.server.session.timeout-check": "true",
                "livy.server.session.timeout-check.skip-busy": "false",
                "livy.server.session.timeout": f"{idle_seconds}s",
            },
        },
        {
            "Classification": "jupyter-s3-conf",
            "Properties": {"s3.persistence.enabled": "true", "s3.persistence.bucket": bucket},
        },
        {
            "Classification": "jupyter-notebook-conf",
            "Properties": {
                "c.MappingKernelManager.cull_idle_timeout": str(idle_seconds),
                "c.MappingKernelManager.cull_connected": "True",
            },
        },
    ]


def _cluster(
    order: Order, nodes: Nodes, bootstrap: Mapping[str, Any], configurations: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What every cluster of ours has in common."""
    foundation = order.foundation
    instances: dict[str, Any] = {
        "InstanceFleets": fleets(nodes),
        "Ec2SubnetIds": [foundation.subnet_id],
        "EmrManagedMasterSecurityGroup": foundation.security_group_primary,
        "EmrManagedSlaveSecurityGroup": foundation.security_group_core,
        "TerminationProtected": False,
    }
    if foundation.security_group_service:
        instances["ServiceAccessSecurityGroup"] = foundation.security_group_service
    return {
        "Name": order.name,
        "ReleaseLabel": RELEASE,
        "LogUri": f"s3://{foundation.bucket_name}/logs/",
        "Instances": instances,
        "BootstrapActions": [dict(bootstrap)],
        "Configurations": [dict(configuration) for configuration in configurations],
        "JobFlowRole": foundation.instance_profile_name,
        "ServiceRole": foundation.service_role_arn,
        "Tags": [{"Key": key, "Value": value} for key, value in (order.tags | MANAGED_TAG).items()],
        "AutoTerminationPolicy": {"IdleTimeout": IDLE_SECONDS},
        "StepConcurrencyLevel": 1,
        "VisibleToAllUsers": True,
    }


def _step(name: str, arguments: Sequence[str], on_failure: str) -> dict[str, Any]:
    jar = {"Jar": "command-runner.jar", "Args": list(arguments)}
    return {"Name": name, "ActionOnFailure": on_failure, "HadoopJarStep": jar}


def terminate(clusters: Sequence[str]) -> Request:
    """End clusters, by their ids."""
    return Request("emr", "terminate_job_flows", {"JobFlowIds": list(clusters)})


def unprotect(clusters: Sequence[str]) -> Request:
    """Take away the protection from termination that somebody may have given to clusters of ours."""
    return Request("emr", "set_termination_protection", {"JobFlowIds": list(clusters), "TerminationProtected": False})
