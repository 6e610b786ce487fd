"""What the documents say is so: their commands run or parse, what they name exists, their defaults are the code's.

Those that can run are run by test_docs_run.py. CONTRIBUTING.md says how blocks are marked.
"""

import inspect
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import command_lines
import pytest
import reference
from documents import DATA, DOCUMENTS, PYTHON, ROOT, SHELL, Document

from verger.errors import CAUSES, EXIT_CODES, VergerError
from verger.settings import Settings
from verger.web.refusal import TOLD

SOURCES = [
    path
    for folder in ("verger", "tests", "benchmarks", "notebooks", "scripts", "docs/slides", "terraform", "databricks")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.is_file() and path.suffix not in {".pyc", ".png"} and path != Path(__file__)
]
MADE = {"build", "demo"}  # folders that are there only after `make`
SOURCES += [ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / "docs" / "reference.py", ROOT / "docs" / "dest.py"]
OPTIONS_OF_OTHERS = {"--archives", "--py-files", "--conf", "--deploy-mode"}  # of spark-submit
NAMES_OF_OTHERS = {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AZURE_CLIENT_ID", "GOOGLE_APPLICATION_CREDENTIALS"}
NAMES_OF_OTHERS |= {"ARROW_LIBHDFS_DIR", "HADOOP_HOME", "Standard_D4ds_v5", "azure_attributes", "node_type_id"}
NAMES_OF_OTHERS |= {"autotermination_minutes"}
FILE = re.compile(r"[\w./-]*\w\.(?:py|md|html|csv|ya?ml|sh|typ|ipynb|tf|toml|webmanifest)")
DEFAULT = re.compile(r"`(--[a-z-]+)[^`]*`,? \((?:default |défaut )?([\d.,]+)(?: by default| par défaut)?\)")
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=str)


@pytest.fixture(scope="module")
def code() -> str:
    """All that is not prose: the sources, with their names, and the variables of the command line's options."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in SOURCES]
    return "\n".join([*texts, *(path.name for path in [*SOURCES, Path(__file__)]), *command_lines.variables()])


@pytest.fixture(scope="module")
def words(code: str) -> set[str]:
    """The names and the files' names in it."""
    return words_of(code)


def words_of(text: str) -> set[str]:
    """Names, and names with dots and dashes as files have them."""
    return {*re.findall(r"\w+", text), *(word.strip(".-") for word in re.findall(r"[\w.-]+", text))}


@every_document
def test_its_blocks_are_fenced_and_say_what_they_are(document: Document) -> None:
    known = {*SHELL, *PYTHON, *DATA}
    assert [block for block in document.blocks if block.kind not in known] == []
    commands = re.compile(r"^(verger|make|pip|python) ", re.MULTILINE)
    said = [block for block in document.blocks if block.kind in DATA and commands.search(block.text)]
    assert [block for block in said if "[OPTIONS]" not in block.text] == []


@every_document
def test_its_commands_exist_with_their_options_and_values(document: Document) -> None:
    wrong = [f"line {block.line}: {p}" for block in document.blocks if block.kind in SHELL for p in shell(block.text)]
    for code in document.codes:
        if re.match(r"(verger|make|python -m verger|pip install) ", code):
            wrong += [f"`{code}`: {problem}" for problem in command_lines.problems(code, whole=False)]
        elif re.match(r"--[a-z]", code):
            wrong += [f"`{code}`: {problem}" for problem in option_problems(code)]
    assert wrong == []


def shell(text: str) -> Iterator[str]:
    """What is wrong in a block: Verger's commands, or the shell's syntax."""
    yield from command_lines.problems(text)
    read = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    yield from read.stderr.splitlines()


def option_problems(code: str) -> Iterator[str]:
    """What is wrong with an option that stands alone, with or without a value."""
    name, _, value = code.replace("=", " ", 1).partition(" ")
    options = command_lines.options(name)
    if not options and name not in command_lines.HELP | OPTIONS_OF_OTHERS:
        yield "no command has this option"
    if value and options:
        wrong = [list(command_lines.value_problems(option, value.strip("'"))) for option in options]
        yield from min(wrong, key=len)


@every_document
def test_the_defaults_it_names_are_those_of_the_code(document: Document) -> None:
    named = [(match[1], match[2]) for match in DEFAULT.finditer(" ".join(document.text.split()))]
    for heading, *rows in document.tables if document.path != reference.FILE else []:
        if "default" in heading:
            cells = [(re.match(r"`(--[a-z-]+)", row[0]), row[heading.index("default")]) for row in rows]
            named += [(option[1], cell.strip("`")) for option, cell in cells if option and re.match(r"`|[\d.]", cell)]
    assert [(name, value) for name, value in named if plain(value) not in defaults(name)] == []


def defaults(name: str) -> set[str]:
    """What an option of that name stands for where it is not given, in each command that has it."""
    return {plain(reference.default(option).strip("`")) for option in command_lines.options(name)}


def plain(value: str) -> str:
    """A number as the code would print it; words as they are."""
    try:
        return f"{float(value.rstrip(',.').replace(',', '')):g}"
    except ValueError:
        return value


@every_document
def test_its_python_compiles_and_names_what_exists(document: Document) -> None:
    wrong = []
    for block in document.blocks:
        if block.kind in PYTHON:
            wrong += [f"line {block.line}: {problem}" for problem in command_lines.python_problems(block.text)]
    for code in document.codes:
        if re.match(r"verger\.\w+", code) and not (FILE.fullmatch(code) or re.search(r"\.(zip|gz|whl|toml)$", code)):
            tree = code.replace("…", "...").replace("=...", "=0").replace("(..., ...)", "()").replace(", ...)", ")")
            wrong += [f"`{code}`: {problem}" for problem in command_lines.python_problems(tree)]
    assert wrong == []


@every_document
def test_its_data_can_be_read(document: Document) -> None:
    for block in document.blocks:
        if block.kind == "json":
            json.loads(block.text)
        elif block.kind == "toml":
            Settings(**{"source": "photos", "dest": "out"} | tomllib.loads(block.text))


@every_document
def test_the_files_it_names_exist(document: Document, words: set[str]) -> None:
    written = {word for block in document.blocks for word in words_of(block.text)}
    modules = {path.name for path in SOURCES} | {Path(__file__).name, "main.py"}  # which verger/cloud/job.py writes
    missing = []
    for file in filter(FILE.fullmatch, document.codes):
        first, _, rest = file.partition("/")
        ours = (
            bool(rest) and first not in MADE and (ROOT / first).is_dir()
        )  # else: what a command leaves, or what the reader is to write
        there = any((folder / file).exists() for folder in (ROOT, document.path.parent))
        known = written | (modules if file.endswith(".py") else words)
        if not there and (ours or Path(file).name not in known):
            missing.append(file)
    assert missing == []


@every_document
def test_its_links_lead_somewhere(document: Document) -> None:
    broken = []
    for link in document.links:
        path, _, anchor = link.partition("#")
        if re.match(r"https?://", link):
            continue
        target = document if not path else Document((document.path.parent / path).resolve())
        if not target.path.exists() or (anchor and anchor not in target.anchors):
            broken.append(link)
    assert broken == []


@every_document
def test_the_names_in_it_occur_in_the_code(document: Document, words: set[str]) -> None:
    names = {name for text in document.codes for name in re.findall(r"\b[A-Za-z]\w*_\w+", text)}
    written = {word for block in document.blocks for word in words_of(block.text)}
    assert names - words - written - NAMES_OF_OTHERS == set()


@every_document
def test_the_causes_and_exit_codes_it_names_are_those_of_the_code(document: Document) -> None:
    text = " ".join(document.text.split())
    for listed in re.findall(r"(?:`[a-z_]+`(?:,| or| and)* ?){2,}", text):
        names = re.findall(r"`([a-z_]+)`", listed)
        if len({*names} & {*CAUSES}) >= 2:
            assert {*names} <= {*CAUSES, *TOLD}, listed
    assert {int(number) for number in re.findall(r"\b[Ee]xit(?: code)? (\d+)", text)} <= EXIT_CODES.keys()


def test_the_reference_is_what_the_code_gives() -> None:
    assert reference.FILE.read_text(encoding="utf-8") == reference.reference(), "write it anew: make reference"


def test_every_command_has_an_example_and_every_option_says_what_it_is_for() -> None:
    commands = list(command_lines.leaves())
    assert [command.name for command in commands if "Example:\n    verger " not in inspect.cleandoc(command.help)] == []
    options = [param for command in commands for param in command.params if isinstance(param, click.Option)]
    assert [option.name for option in options if not (option.help or "").endswith(".")] == []


def test_every_variable_that_the_code_reads_is_in_the_reference() -> None:
    text = reference.FILE.read_text(encoding="utf-8") + (ROOT / "docs" / "storage.md").read_text(encoding="utf-8")
    modules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "verger").rglob("*.py"))
    read = set(re.findall(r'environ(?:ment)?\.get\("(\w+)"', modules)) | set(re.findall(r"VERGER_[A-Z]+\b", modules))
    assert sorted(name for name in read if name not in text) == []


def test_every_exit_code_is_in_the_table() -> None:
    assert {kind.exit_code for kind in (VergerError, *VergerError.__subclasses__())} <= EXIT_CODES.keys()


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        reached.add(path)
        links = Document(path).links if path.suffix == ".md" else []
        found = {(path.parent / link.partition("#")[0]).resolve() for link in links if "://" not in link}
        found |= {file for folder in found if folder.is_dir() for file in [folder / "README.md"] if file.exists()}
        waiting += sorted(found - reached - set(waiting))
    assert [document.path for document in DOCUMENTS if document.path not in reached | {ROOT / "CHANGELOG.md"}] == []


def test_the_documents_that_code_and_its_messages_name_exist(code: str) -> None:
    named = set(re.findall(r"\b(?:docs|benchmarks)/[\w/-]+\.md\b", code))
    assert len(named) > 5
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


def test_every_library_that_everyone_needs_has_its_reason() -> None:
    reasons = (ROOT / "docs" / "decisions" / "0002-dependencies.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    libraries = [re.match(r"[\w-]+", needed)[0] for needed in project["dependencies"]]
    extras = project["optional-dependencies"]
    assert [name for name in libraries if not re.search(rf"\b{name}\b", reasons)] == []
    assert [name for name in extras if f"`{name}`" not in reasons] == []
