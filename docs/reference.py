"""Writes reference.md from the code: `make reference`. A test fails while the two differ."""

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from dest import FILES, MANIFEST

import verger
from verger.backbone import builtin_backbones
from verger.cli import cli
from verger.errors import CAUSES, EXIT_CODES, MEANINGS
from verger.photos import EXTENSIONS
from verger.settings import COMPONENTS as COMPONENTS_CHECK
from verger.settings import Settings

FILE = Path(__file__).with_suffix(".md")
OPTIONS = ("option", "means", "takes", "default")

VARIABLES: Mapping[str, str] = {
    "VERGER_DEST": "DEST of `verger run`, `recognise` and `evaluate`",
    "VERGER_REGION": "region for `verger cloud`; then `AWS_REGION`, `AWS_DEFAULT_REGION`",
    "VERGER_ACCOUNT": "`--account` of `verger cloud`",
    "VERGER_PROJECT": "`--project` of `verger cloud`",
    "VERGER_MAIL": "`--mail` of `verger cloud setup`",
    "VERGER_CACHE": "folder for what is fetched or built once; else `verger` in `XDG_CACHE_HOME` or `~/.cache`",
    "VERGER_PRICES": "file of renewed prices; else `prices.json` in that folder",
    "JAVA_HOME": "Java for Spark; else the `java` on the path",
    "PYSPARK_PYTHON": "Python of Spark's workers; else the one that runs Verger",
    "CUDA_VISIBLE_DEVICES": "GPUs that `--device cuda` may use",
    "AWS_…, AZURE_…, GOOGLE_…": "addresses and credentials of object stores: see [storage.md](storage.md)",
}
CODE = re.compile(r"--[a-z][a-z-]+|\b[A-Z]+_[A-Z_]*\*?|\b[a-z]+_[a-z_]+|\bDEST/\w+\.\w+|\b\w+<[\w<>]+>")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def prose(text: str) -> str:
    """Help of the command line as Markdown: what names options, variables, causes, files or types becomes code."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(piece if piece.startswith("`") else CODE.sub(r"`\g<0>`", piece) for piece in pieces)


TAKES = {"text": "text", "integer": "a whole number", "float": "a number", "path": "a path", "file": "a file"}


def values(kind: Any) -> str:
    """What an option takes; nothing for a flag."""
    if isinstance(kind, click.Choice):
        return ", ".join(f"`{choice}`" for choice in kind.choices)
    if isinstance(kind, click.IntRange | click.FloatRange):
        whole = int if isinstance(kind, click.IntRange) else float
        return number(whole) + limits(kind.min, kind.max, kind.min_open)
    return TAKES.get(kind.name, "")


def number(kind: type) -> str:
    """Words for a number."""
    return "a whole number" if kind is int else "a number"


def limits(low: float | None, high: float | None, above: bool = False) -> str:
    """Between what a number lies."""
    if low is not None and high is not None:
        return f" from {shown(low)} to {shown(high)}"
    return "" if low is None else f" above {shown(low)}" if above else f" of at least {shown(low)}"


def shown(value: object) -> str:
    """A value as people write it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return f"{value:,}" if value >= 10_000 else f"{value:g}"
    return f"`{value}`"


def default(option: click.Option) -> str:
    """What holds where an option is not given."""
    if option.required:
        return "needed"
    if isinstance(option.show_default, str):
        return prose(option.show_default)
    if option.is_flag:
        return "off"
    return shown(option.default) if isinstance(option.default, int | float | str) else ""


def option_row(option: click.Option) -> list[str]:
    """A line of a command's table."""
    names = [f"`{name}`" for name in (*option.opts, *option.secondary_opts)]
    variables = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
    return [
        "<br>".join([", ".join(names), *(f"`{variable}`" for variable in variables)]),
        prose(option.help or ""),
        values(option.type),
        default(option),
    ]


def usage(name: str, command: click.Command) -> str:
    """How a command is written."""
    context = click.Context(command)
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    needed = [f"{param.opts[0]} {param.make_metavar(context)}" for param in options(command) if param.required]
    first, last = ([p.make_metavar(context) for p in arguments if p.required is needs] for needs in (True, False))
    return " ".join([name, *first, *needed, "[OPTIONS]", *last])


def options(command: click.Command) -> list[click.Option]:
    """A command's options; those of settings have a table of their own."""
    every = [param for param in command.params if isinstance(param, click.Option)]
    return every if command is not cli.commands["run"] else [p for p in every if p.name in {"dest", "config"}]


def group(name: str, whole: click.Group) -> Iterator[str]:
    """A section for each command of a group; options that most of them share are told once, before."""
    counts = Counter(tuple(option_row(option)) for inner in whole.commands.values() for option in options(inner))
    shared = [row for row, count in counts.items() if 2 * count > len(whole.commands)]
    if shared:
        yield f"### {name}"
        yield table(OPTIONS, shared)
    for word, inner in whole.commands.items():
        if isinstance(inner, click.Group):
            yield from group(f"{name} {word}", inner)
        else:
            yield from section(f"{name} {word}", inner, shared)


def section(name: str, command: click.Command, shared: Sequence[Sequence[str]]) -> Iterator[str]:
    """What there is to say of a command."""
    words, _, example = inspect.cleandoc(command.help or "").partition("\b\nExample:\n")
    rows = [tuple(option_row(option)) for option in options(command)]
    told = [row for row in rows if row not in shared]
    yield f"### {name}"
    yield f"```text\n{usage(name, command)}\n```"
    yield from (prose(paragraph) for paragraph in words.strip().split("\n\n"))
    if told:
        yield table(OPTIONS, told)
    if len(told) < len(rows):
        group_name = name.rpartition(" ")[0]
        yield f"And the [options of `{group_name}`](#{group_name.replace(' ', '-')})."
    if name == "verger run":
        yield "And one option for each [setting](#settings)."
    where = "aws" if name.startswith("verger cloud") else "elsewhere"
    yield f"For example:\n\n```sh {where}\n{inspect.cleandoc(example)}\n```"


def check(setting: Any) -> str:
    """What a setting takes."""
    if setting.name == "components":
        return COMPONENTS_CHECK
    if "choices" in setting.metadata:
        return ", ".join(f"`{choice}`" for choice in setting.metadata["choices"])
    if "range" in setting.metadata:
        return f"{number(setting.type)}{limits(*setting.metadata['range'])}"
    return "on or off" if setting.type is bool else "text"


def settings_table() -> str:
    """Every setting under its three names."""
    rows = []
    given = {param.name: param for param in cli.commands["run"].params}
    for setting in fields(Settings)[2:]:  # SOURCE and DEST come first, and are no options
        otherwise, option = setting.metadata.get("otherwise"), given[setting.name]
        every = (*option.opts, *option.secondary_opts, option.envvar, setting.name)
        names = "<br>".join(f"`{name}`" for name in every)
        standard = prose(otherwise) if otherwise else shown(setting.default)
        rows.append([names, prose(setting.metadata["help"]), check(setting), standard])
    return table(["setting", "means", "takes", "default"], rows)


def sections() -> Iterator[str]:
    """The page, piece by piece."""
    yield "# Reference"
    yield "<!-- `make reference` writes this page from the code. -->"
    yield (
        "Every command, every setting, and what a run leaves. This page is made from the code, so it cannot say "
        "anything else; [the README](../README.md) is the place to begin."
    )
    yield "## Commands"
    yield (
        "`verger run --help` says the same of a command. `--debug`, with any command, shows the whole traceback of an "
        "error; `verger --version` says which Verger this is; `python -m verger` is `verger`."
    )
    yield from group("verger", cli)
    yield "## Settings"
    yield (
        "What `verger run` takes beside SOURCE and DEST. A setting is an option of the command line, a variable of the "
        "environment, or a line of the TOML file that `--config` names; the first of these that names it wins. The "
        "three names stand below each other; in TOML it is `name = value`, text in quotes, `true` or `false` for on "
        "or off. All are checked before anything changes."
    )
    yield settings_table()
    yield "Built-in networks for `--backbone`:"
    yield table(
        ["network", "vector", "photos", "weights"],
        [
            [f"`{info.name}`", f"{info.vector_length:,} numbers", f"{info.image_size} pixels", prose(info.source)]
            for info in builtin_backbones()
        ],
    )
    yield "## Exit codes"
    yield table(["code", "means"], [[str(code), meaning] for code, meaning in EXIT_CODES.items()])
    yield "Every message says what was expected, what was received, and what to do."
    yield "## Causes of failure"
    endings = ", ".join(f"`.{ending}`" for ending in sorted(EXTENSIONS))
    yield (
        f"Photos are files whose names end in {endings}, in any case; hidden ones are left out. "
        "One that cannot be embedded does not stop a run: it becomes a row with its cause, and is "
        "tried again by the next run. Only above `--max-failed` does the run fail too, after writing what it has."
    )
    yield table(["cause", "means"], [[f"`{cause}`", MEANINGS[cause]] for cause in CAUSES])
    yield "## Files of DEST"
    yield table(["file", "holds"], [[f"`{name}`", meaning] for name, meaning in FILES.items()])
    yield "`path` is relative to SOURCE. Any Parquet reader opens the tables, such as `pandas.read_parquet`."
    yield "## The manifest"
    yield "`manifest.json`, which `verger show DEST --json` prints:"
    yield table(["key", "holds"], [[f"`{key}`", meaning] for key, meaning in MANIFEST.items()])
    yield "## From Python"
    doors = [name for name in verger.__all__ if not name.startswith("_")]
    yield table(
        ["name", "is"],
        [[f"`verger.{name}`", prose(str(inspect.getdoc(getattr(verger, name))).partition("\n")[0])] for name in doors],
    )
    yield "[own-spark-job.md](own-spark-job.md) has examples."
    yield "## Environment"
    yield "Beside the variable of each setting:"
    yield table(["variable", "means"], [[f"`{name}`", meaning] for name, meaning in VARIABLES.items()])


def reference() -> str:
    """The whole page."""
    return "\n\n".join(sections()) + "\n"


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
