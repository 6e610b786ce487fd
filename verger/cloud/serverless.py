"""What is asked of EMR Serverless: pure functions from an order to requests. Nothing here talks to AWS."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from verger.cloud.aws import Request
from verger.cloud.emr import RELEASE, Order
from verger.pricing.estimate import SERVERLESS_GB_PER_VCPU, SERVERLESS_WORKER_VCPUS

SERVICE = "emr-serverless"
IDLE_MINUTES = 5
LEAST_MINUTES = 5  # EMR Serverless takes no shorter limit
DISK_GB_PER_VCPU = 20
ENDED = ("SUCCESS", "FAILED", "CANCELLED")
GONE = "TERMINATED"


def application(order: Order, executors: int) -> Request:
    """An application for one run: it costs nothing while nothing runs, and never takes more than was reckoned with."""
    vcpus = (executors + 1) * SERVERLESS_WORKER_VCPUS  # one more for the driver
    capacity = {
        "cpu": f"{vcpus} vCPU",
        "memory": f"{vcpus * SERVERLESS_GB_PER_VCPU} GB",
        "disk": f"{vcpus * DISK_GB_PER_VCPU} GB",
    }
    parameters = {
        "name": order.name,
        "releaseLabel": RELEASE,
        "type": "SPARK",
        "clientToken": order.run,  # the same run asked for twice is one application
        "architecture": "X86_64",
        "tags": order.tags,
        "maximumCapacity": capacity,
        "autoStartConfiguration": {"enabled": True},
        "autoStopConfiguration": {"enabled": True, "idleTimeoutMinutes": IDLE_MINUTES},
    }
    return Request(SERVICE, "create_application", parameters)


def job(order: Order, application_id: str, driver: Mapping[str, Any], now: datetime) -> Request:
    """The run itself. EMR Serverless ends it at the deadline by itself, besides the foundation's own two ways.

    Args:
        order: for which run.
        application_id: as EMR Serverless gave it.
        driver: the spark-submit line.
        now: UTC.
    """
    minutes = max(LEAST_MINUTES, int((order.deadline - now).total_seconds() // 60))
    logs = {"s3MonitoringConfiguration": {"logUri": f"s3://{order.foundation.bucket_name}/logs/"}}
    parameters = {
        "applicationId": application_id,
        "clientToken": order.run,
        "name": order.name,
        "executionRoleArn": order.foundation.serverless_role_arn,
        "jobDriver": dict(driver),
        "configurationOverrides": {"monitoringConfiguration": logs},
        "executionTimeoutMinutes": minutes,
        "tags": order.tags,
    }
    return Request(SERVICE, "start_job_run", parameters)


def cancel(application_id: str, job_id: str) -> Request:
    """End a job."""
    return Request(SERVICE, "cancel_job_run", {"applicationId": application_id, "jobRunId": job_id})


def stop(application_id: str) -> Request:
    """Stop an application, so that it can be deleted."""
    return Request(SERVICE, "stop_application", {"applicationId": application_id})


def delete(application_id: str) -> Request:
    """Delete a stopped application."""
    return Request(SERVICE, "delete_application", {"applicationId": application_id})
