"""What tests read of a CloudFormation template: its structure, its values as they will be, its policies."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from verger.cloud.foundation import template

PLACE = {"AWS::Region": "eu-west-1", "AWS::AccountId": "000000000000", "AWS::Partition": "aws"}
GIVEN = {"Project": "verger", "Mail": "you@example.org", "CeilingEur": "10", "VpcId": "", "SubnetId": ""}


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


def _short(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        value = value.split(".", 1) if suffix == "GetAtt" else value
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix == "Ref" else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short)


def load() -> dict[str, Any]:
    """The template, with the short forms written out."""
    return dict(yaml.load(template(), _Loader))


def render(value: Any, place: dict[str, str] = PLACE) -> Any:
    """A value as CloudFormation will see it; attributes of resources become names that say which."""
    if isinstance(value, list):
        return [render(item, place) for item in value]
    if not isinstance(value, dict):
        return value
    for name, function in FUNCTIONS.items():
        if value.keys() == {name}:
            return function(value[name], place)
    return {key: render(item, place) for key, item in value.items()}


def _reference(name: str, place: dict[str, str]) -> str:
    return (GIVEN | place).get(name, f"<{name}>")


def _attribute(path: list[str], place: dict[str, str]) -> str:
    partition, region, account = (place[f"AWS::{part}"] for part in ("Partition", "Region", "AccountId"))
    project = (GIVEN | place)["Project"]
    if path[0] == "Bucket":
        return f"arn:{partition}:s3:::{project}-{account}-{region}"
    if path[0].endswith("Role"):
        return f"arn:{partition}:iam::{account}:role/{project}-foundation-{path[0]}-0123456789AB"
    return f"arn:{partition}:any:{region}:{account}:{path[0]}"


def _substituted(text: str | list[Any], place: dict[str, str]) -> str:
    pattern, more = (text, {}) if isinstance(text, str) else (text[0], render(text[1], place))

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name.startswith("!"):
            return f"${{{name[1:]}}}"
        return str(more.get(name) or (_attribute(name.split("."), place) if "." in name else _reference(name, place)))

    return re.sub(r"\$\{([^}]+)\}", value, pattern)


FUNCTIONS: dict[str, Callable[[Any, dict[str, str]], Any]] = {
    "Ref": _reference,
    "Fn::GetAtt": _attribute,
    "Fn::Sub": _substituted,
    "Fn::If": lambda branches, place: render(branches[1], place),
    "Fn::FindInMap": lambda path, place: load()["Mappings"][path[0]][render(path[1], place)][path[2]],
}


def statements(place: dict[str, str] = PLACE) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each statement of each policy that is attached to somebody, with the resource that holds it."""
    for name, resource in load()["Resources"].items():
        properties = resource["Properties"]
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        documents += [properties["PolicyDocument"]] if resource["Type"] == "AWS::IAM::ManagedPolicy" else []
        for document in documents:
            for statement in render(document, place)["Statement"]:
                listed = {key: value if isinstance(value, list) else [value] for key, value in statement.items()}
                yield name, statement | {"Action": listed["Action"], "Resource": listed["Resource"]}


def keys(statement: dict[str, Any]) -> list[str]:
    """The condition keys of a statement."""
    return [key for tests in statement.get("Condition", {}).values() for key in tests]


def policy_document(name: str, place: dict[str, str] = PLACE) -> dict[str, Any]:
    """A managed policy as it will be."""
    return dict(render(load()["Resources"][name]["Properties"]["PolicyDocument"], place))


def without(types: set[str]) -> str:
    """The template without resources of these types, and without the outputs that name them: for an emulator."""
    read = load()
    gone = {name for name, resource in read["Resources"].items() if resource["Type"] in types}
    read["Resources"] = {name: resource for name, resource in read["Resources"].items() if name not in gone}
    read["Outputs"] = {
        name: output
        for name, output in read["Outputs"].items()
        if not any(f'"{it}"' in json.dumps(output) for it in gone)
    }
    return json.dumps(read)
