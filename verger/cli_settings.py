"""One option of the command line for each setting, made from `Settings`."""

from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import click

from verger.errors import VergerError
from verger.settings import Settings, parse_components, read_toml


class _Components(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest click
    name = "number|share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | float:
        """A number of components, or a share of variance."""
        try:
            return parse_components(value) if isinstance(value, str) else value
        except VergerError as error:
            self.fail(str(error), param, ctx)


def _option_type(setting: Field[Any]) -> Any:
    """What click is told of a setting's type; None for a flag."""
    if setting.name == "components":
        return _Components()
    if "choices" in setting.metadata:
        return click.Choice(setting.metadata["choices"])
    return setting.type if setting.type in (int, float) else None if setting.type is bool else str


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option for each setting that is not an argument, in the order in which `Settings` lists them."""
    for setting in reversed(fields(Settings)):
        if setting.name in {"source", "dest"}:
            continue
        declaration = f"--{setting.name.replace('_', '-')}"
        if setting.name == "standardise":
            declaration += "/--no-standardise"
        option = click.option(
            declaration,
            type=_option_type(setting),
            is_flag=setting.type is bool,
            envvar=f"VERGER_{setting.name.upper()}",
            default=setting.default,
            show_default=setting.metadata.get("otherwise", True),
            help=setting.metadata["help"],
        )
        command = option(command)
    return command


def read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Settings from a TOML file, as defaults of the options."""
    if path is not None:
        ctx.default_map = {**(ctx.default_map or {}), **read_toml(path)}
