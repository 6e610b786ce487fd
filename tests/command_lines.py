"""Commands as documents write them, held against what there is: commands, options, targets, extras, variables."""

import ast
import importlib
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from documents import ROOT

from verger.cli import cli
from verger.errors import VergerError
from verger.settings import Settings

MAKEFILE = (ROOT / "Makefile").read_text()
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SETTINGS = {setting.name for setting in fields(Settings)} - {"source", "dest"}
SEPARATORS = ";&|()<>"
HELP = {"-h", "--help", "--version", "--debug"}
PLACEHOLDER = re.compile(r"[A-Z][A-Z_.-]*|.*[$…].*")  # FILE.csv is a name like any other, N is no number


def leaves(command: click.Command = cli) -> Iterator[click.Command]:
    """Every command that is no group."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from leaves(inner)
    else:
        yield command


def options(name: str) -> list[click.Option]:
    """The options of that name, of all commands."""
    every = (param for command in leaves() for param in command.params if isinstance(param, click.Option))
    return [option for option in every if name in (*option.opts, *option.secondary_opts)]


def variables() -> set[str]:
    """The variables of the environment that stand for options."""
    named = (param.envvar or () for command in leaves() for param in command.params)
    return {name for names in named for name in ([names] if isinstance(names, str) else names)}


def split(text: str) -> Iterator[list[str]]:
    """The simple commands of a shell text, as words."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=SEPARATORS)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in lexer:
            if set(word) <= set(SEPARATORS):
                yield words
                words = []
            else:
                words.append(word)
        yield words


def problems(text: str, *, whole: bool = True) -> Iterator[str]:
    """What is wrong in a shell text; with `whole`, no argument may be missing either."""
    for words in split(text):
        while words and re.fullmatch(r"export|sudo|\w+=.*", words[0]):
            yield from variable_problems(words.pop(0))
        if not words:
            continue
        program = Path(words[0]).name
        if program == "verger":
            yield from verger_problems(words[1:], whole=whole)
        elif program.startswith("python") and words[1:3] == ["-m", "verger"]:
            yield from verger_problems(words[3:], whole=whole)
        elif program == "spark-submit" and "main.py" in words:
            yield from verger_problems(words[words.index("main.py") + 1 :], whole=whole)
        elif program == "make":
            yield from make_problems(words[1:])
        yield from (f"no extra {extra}" for word in words for extra in extras(word) if extra not in EXTRAS)


def extras(word: str) -> list[str]:
    """The extras that a requirement such as verger[aws,web] names."""
    named = re.fullmatch(r"(?:verger|\.)\[([\w,]+)\]", word)
    return named[1].split(",") if named else []


def variable_problems(assignment: str) -> Iterator[str]:
    """What is wrong in NAME=value, where the name is one of Verger's."""
    name, _, value = assignment.partition("=")
    if name.startswith("VERGER_"):
        of = [p for command in leaves() for p in command.params if p.envvar and name in (p.envvar, *p.envvar)]
        for param in of[:1]:
            yield from value_problems(param, value)


def make_problems(words: list[str]) -> Iterator[str]:
    """Targets and variables that the Makefile does not have."""
    for word in words:
        name, given, _ = word.partition("=")
        if not re.search(rf"^{re.escape(name)} \?=" if given else rf"^{re.escape(name)}:", MAKEFILE, re.MULTILINE):
            yield f"the Makefile has no {name}"


def verger_problems(words: list[str], *, whole: bool) -> Iterator[str]:
    """What is wrong in the words after `verger`."""
    whole &= "…" not in words
    words = [word for word in words if word not in {"…", "--debug"}]
    command: click.Command = cli
    while isinstance(command, click.Group) and words and words[0] not in HELP:
        if words[0] not in command.commands:
            yield f"no command {words[0]}"
            return
        command = command.commands[words.pop(0)]
    if not isinstance(command, click.Group) and not HELP & set(words):
        yield from argument_problems(command, words, whole=whole)


def argument_problems(command: click.Command, words: list[str], *, whole: bool) -> Iterator[str]:
    """What is wrong in the words after a command."""
    try:
        values, _, _ = command.make_parser(click.Context(command)).parse_args(words)
    except click.UsageError as error:
        yield f"verger {command.name}: {error.format_message()}"
        return
    given = {name: value for name, value in values.items() if isinstance(value, str | bool | tuple) and value != ()}
    for param in command.params:
        value = given.get(str(param.name))
        if value is None and whole and param.required:
            yield f"verger {command.name} without {param.name}"
        elif isinstance(value, str):
            yield from value_problems(param, value)
        elif isinstance(value, tuple) and param.name == "arguments":  # those of `verger run`, after --
            yield from verger_problems(["run", *map(str, value)], whole=False)


def value_problems(param: click.Parameter, value: str) -> Iterator[str]:
    """What is wrong with a value: its type, its range, or the check of the setting."""
    if isinstance(param.type, click.Path) or PLACEHOLDER.fullmatch(value):
        return
    try:
        converted = param.type_cast_value(click.Context(cli), value)
        if (
            param.name in {setting.name for setting in fields(Settings)}
            and param.envvar == f"VERGER_{param.name}".upper()
        ):
            Settings(**{"source": "photos", "dest": "out", param.name: converted})
    except (click.UsageError, VergerError) as error:
        yield f"{param.name}: {error}"


def look_up(path: str) -> Any:
    """What a dotted path of Verger's names. AttributeError: nothing."""
    first, *rest = path.split(".")
    found = importlib.import_module(first)
    for i, name in enumerate(rest):
        try:
            found = getattr(found, name)
        except AttributeError:
            if not inspect.ismodule(found):
                raise
            try:
                found = importlib.import_module(".".join([first, *rest[: i + 1]]))
            except ModuleNotFoundError as error:
                raise AttributeError(f"no {path}") from error
    return found


def python_problems(code: str) -> Iterator[str]:
    """Names of Verger's in Python code that do not exist, and keywords that their callables do not take."""
    tree = ast.parse(code)
    known = {"verger": "verger"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "verger":
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            paths = [alias.name for alias in node.names] if isinstance(node, ast.Import) else list(known.values())
        else:
            target = node.func if isinstance(node, ast.Call) else node
            paths = [path] if (path := dotted(target, known)) else []
        for path in paths:
            if path.split(".")[0] == "verger":
                yield from name_problems(path, node)


def name_problems(path: str, node: ast.AST) -> Iterator[str]:
    """What is wrong with a dotted path, and with the keywords of its call."""
    try:
        found = look_up(path)
    except AttributeError:
        yield f"no {path}"
        return
    if isinstance(node, ast.Call):
        takes = inspect.signature(found).parameters
        if not any(param.kind is param.VAR_KEYWORD for param in takes.values()):
            given = [keyword.arg for keyword in node.keywords if keyword.arg]
            yield from (f"{path} takes no {name}" for name in given if name not in takes)


def dotted(node: ast.AST, known: dict[str, str]) -> str | None:
    """The dotted path of an attribute or a name that comes from Verger."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value, known)
        return before and f"{before}.{node.attr}"
    return known.get(node.id) if isinstance(node, ast.Name) else None
