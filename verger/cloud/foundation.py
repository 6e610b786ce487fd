"""What is deployed once, and what everything else builds on: `foundation.yaml`, set up, read and removed."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any
from uuid import uuid4

from verger.cloud import stack
from verger.cloud.regions import bucket_region, check_bucket_region, check_region
from verger.cloud.stack import Progress
from verger.cloud.versions import empty, look_into
from verger.errors import RunFailedError, SettingError

DEFAULT_CEILING_EUR = 10.0
PROJECT_TAG = "verger:project"
MAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
ALIVE = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING", "TERMINATING"]


@dataclass(frozen=True)
class Foundation:
    """What setup left in one region of one account: a field for each output of the stack, empty where it has none."""

    region: str
    account: str
    project: str
    bucket_name: str
    service_role_arn: str
    instance_profile_name: str
    serverless_role_arn: str
    scheduler_role_arn: str
    deadline_function_arn: str
    security_group_primary: str
    security_group_core: str
    security_group_service: str  # empty: in a public subnet, EMR wants none
    subnet_id: str
    topic_arn: str
    user_policy_arn: str
    budget_name: str  # empty in the regions whose CloudFormation knows no budgets
    scheduler_group_name: str


@dataclass(frozen=True)
class Wishes:
    """What `setup` is asked for. None keeps what the stack has, or takes the default.

    Raises:
        SettingError: a value cannot be used.
    """

    region: str
    account: str
    project: str = "verger"
    mail: str | None = None
    ceiling_eur: float | None = None
    vpc_id: str | None = None
    subnet_id: str | None = None

    def __post_init__(self) -> None:
        check_region(self.region)
        if self.mail is not None and not MAIL.fullmatch(self.mail):
            raise SettingError("a mail address", repr(self.mail), "Give one with --mail, like --mail you@example.org.")
        ceiling = DEFAULT_CEILING_EUR if self.ceiling_eur is None else self.ceiling_eur
        if not (math.isfinite(ceiling) and 1 <= ceiling <= 10_000):
            raise SettingError("a ceiling of 1 to 10,000 euros a month", f"{ceiling:g}", "Correct --ceiling-eur.")
        if bool(self.vpc_id) != bool(self.subnet_id):
            received = f"--vpc {self.vpc_id}" if self.vpc_id else f"--subnet {self.subnet_id}"
            raise SettingError("--vpc and --subnet together, or neither", f"only {received}", "Add the other one.")

    @property
    def stack_name(self) -> str:
        """The stack's name."""
        return f"{self.project}-foundation"

    @property
    def bucket_name(self) -> str:
        """The bucket's name, as in the template."""
        return f"{self.project}-{self.account}-{self.region}"


def template() -> str:
    """The CloudFormation template."""
    return files("verger.cloud").joinpath("foundation.yaml").read_text(encoding="utf-8")


def change_set_request(wishes: Wishes, exists: bool) -> dict[str, Any]:
    """What is asked of CloudFormation's CreateChangeSet, without ChangeSetType.

    Args:
        wishes: what is asked for.
        exists: whether the stack does; then it keeps the parameters that are not given.

    Raises:
        SettingError: a new stack, and nobody to send mails to.
    """
    if not exists and wishes.mail is None:
        raise SettingError(
            "a mail address, for news of clusters and costs",
            "none",
            "Give one with --mail, like --mail you@example.org.",
        )
    given = {
        "Mail": wishes.mail,
        "CeilingEur": None if wishes.ceiling_eur is None else f"{wishes.ceiling_eur:g}",
        "VpcId": wishes.vpc_id,
        "SubnetId": wishes.subnet_id,
    }
    parameters: list[dict[str, Any]] = [{"ParameterKey": "Project", "ParameterValue": wishes.project}]
    for key, value in given.items():
        if value is not None:
            parameters.append({"ParameterKey": key, "ParameterValue": value})
        elif exists:
            parameters.append({"ParameterKey": key, "UsePreviousValue": True})
    return {
        "StackName": wishes.stack_name,
        "ChangeSetName": f"setup-{uuid4().hex}",
        "TemplateBody": template(),
        "Parameters": parameters,
        "Capabilities": ["CAPABILITY_IAM"],
        "Tags": [{"Key": PROJECT_TAG, "Value": wishes.project}],
    }


def setup_foundation(cloudformation_client: Any, s3_client: Any, wishes: Wishes, progress: Progress) -> Foundation:
    """Create the foundation, or bring it to this version's template and to what is wished.

    Raises:
        SettingError: something cannot be used; nothing was changed.
        RunFailedError: CloudFormation failed half-way; the message says what is left, what it costs, what ends it.
    """
    found = stack.find_stack(cloudformation_client, wishes.stack_name)
    exists = found is not None and found["StackStatus"] not in stack.NEVER_MADE
    request = change_set_request(wishes, exists)
    if not exists and (lies := bucket_region(s3_client, wishes.bucket_name, wishes.account)):
        raise SettingError(
            f"no bucket {wishes.bucket_name} yet",
            f"one in {lies}, which no foundation holds",
            "Keep what you need of it and delete it, or choose another name with --project.",
        )
    if not stack.deploy(cloudformation_client, request, progress):
        progress(f"{wishes.stack_name}: nothing to change")
    made = read_foundation(cloudformation_client, wishes.region, wishes.account, wishes.project)
    check_bucket_region(s3_client, made.bucket_name, wishes.region, wishes.account)
    return made


def read_foundation(cloudformation_client: Any, region: str, account: str, project: str = "verger") -> Foundation:
    """What setup left. Raises SettingError where there is none, or none that is whole."""
    name = f"{project}-foundation"
    found = stack.find_stack(cloudformation_client, name)
    if found is None or found["StackStatus"] not in stack.DONE:
        received = "none" if found is None else f"the stack {name} is {found['StackStatus']}"
        raise SettingError(f"a foundation in {region}", received, "Run `verger cloud setup` first.")
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    return Foundation(region, account, project, **_of_outputs(outputs))


def _of_outputs(outputs: Mapping[str, str]) -> dict[str, str]:
    names = [field.name for field in fields(Foundation)][3:]
    return {name: outputs.get("".join(word.capitalize() for word in name.split("_")), "") for name in names}


@dataclass(frozen=True)
class Clients:
    """Clients of boto3 for one region and account."""

    cloudformation: Any
    s3: Any
    emr: Any


def remove_foundation(
    clients: Clients, wishes: Wishes, progress: Progress, *, confirmed_bucket: str | None = None
) -> None:
    """Delete the foundation, and make sure that nothing of it is left.

    Args:
        clients: of the region and account.
        wishes: which foundation; only region, account and project count.
        progress: told of each step, in a line.
        confirmed_bucket: the bucket's name, given by a person who wants all versions of all it holds deleted.

    Raises:
        SettingError: clusters are alive, which would lose their deadline; or the bucket is not empty, and deleting
            what it holds was not confirmed. Nothing was changed.
        RunFailedError: something is left; the message says what, what it costs, what ends it.
    """
    _refuse_while_clusters_live(clients.emr, wishes.project)
    bucket = wishes.bucket_name
    if bucket_region(clients.s3, bucket, wishes.account) is not None:
        contents = look_into(clients.s3, bucket, wishes.account)
        if contents and confirmed_bucket != bucket:
            received = str(contents) if confirmed_bucket is None else f"{confirmed_bucket!r}, and {contents}"
            raise SettingError(
                f"an empty bucket {bucket}, or its name as confirmation that all it holds may go",
                received,
                "Copy what you want to keep, then confirm with the bucket's name.",
            )
        if contents:
            progress(f"{bucket}: deleting {contents}")
            empty(clients.s3, bucket, wishes.account)
    stack.delete(clients.cloudformation, wishes.stack_name, progress)
    if bucket_region(clients.s3, bucket, wishes.account) is not None:
        raise RunFailedError(
            f"the bucket {bucket} gone with its foundation",
            f"it is there, with {look_into(clients.s3, bucket, wishes.account)}",
            f"It costs its storage. Delete it: aws s3 rb --force s3://{bucket}",
        )


def _refuse_while_clusters_live(emr_client: Any, project: str) -> None:
    pages = emr_client.get_paginator("list_clusters").paginate(ClusterStates=ALIVE)
    alive = [cluster for page in pages for cluster in page["Clusters"] if cluster["Name"].startswith(f"{project}-")]
    if alive:
        names = ", ".join(f"{cluster['Name']} ({cluster['Id']}, {cluster['Status']['State']})" for cluster in alive)
        raise SettingError(
            "no cluster alive: without the foundation it would have no deadline",
            names,
            "They cost until they end. End them with `verger cloud down`, and remove the foundation then.",
        )
