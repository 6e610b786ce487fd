"""The documents' own commands, run in their order: each document in an empty folder with the built-in orchard.

CONTRIBUTING.md says how blocks are marked.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import servers
from documents import DOCUMENTS, ROOT, Document

from verger.sample import write_sample
from verger.storage import open_place

pytestmark = [pytest.mark.slow, pytest.mark.server]  # MiniStack, for one of them


def script(document: Document, *kinds: str) -> str:
    """The commands of a document in their order; its Python is one program, which runs where its last block stands."""
    runs = [block for block in document.blocks if block.kind in kinds]
    program = "".join(block.text for block in runs if block.kind == "python")
    last = max((i for i, block in enumerate(runs) if block.kind == "python"), default=-1)
    pieces = ["set -eEuo pipefail", "trap 'echo \"exit code $? from: $BASH_COMMAND\" >&2' ERR"]
    for i, block in enumerate(runs):
        if block.kind != "python":
            pieces.append(re.sub(r"^(.*\S) +#.*\bexit(?: code)? (\d+).*$", EXPECTED, block.text, flags=re.MULTILINE))
        elif i == last:
            pieces.append(f"python - <<'PYTHON'\n{program}PYTHON")
    return "\n".join(pieces) if runs else ""


EXPECTED = r'code=0; \1 || code=$?; [ "$code" -eq \2 ]'  # a comment says how this command ends
SCRIPTS = {text: document for document in DOCUMENTS if (text := script(document, "sh", "python"))}  # READMEs share one


@pytest.fixture(scope="module")
def orchard_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `verger sample photos` writes."""
    photos = tmp_path_factory.mktemp("orchard") / "photos"
    write_sample(photos)
    return photos


def run(text: str, folder: Path, **settings: str) -> None:
    """Run a script in a folder, with Verger and Python on the path, and no settings in the environment but these."""
    programs = folder.with_name("bin")
    programs.mkdir()
    for name, arguments in (("verger", "-m verger"), ("python", ""), ("python3", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not re.match(r"VERGER_(?!CACHE)", name)}
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)} | settings
    process = subprocess.Popen(
        ["bash", "-c", text],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=900)
    finally:
        with contextlib.suppress(ProcessLookupError):  # most often nobody is left of all that it started
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said


@pytest.mark.parametrize(("text", "document"), SCRIPTS.items(), ids=map(str, SCRIPTS.values()))
def test_its_commands_run(text: str, document: Document, orchard_photos: Path, tmp_path: Path) -> None:
    shutil.copytree(orchard_photos, tmp_path / "folder" / "photos")
    run(text, tmp_path / "folder")


def test_the_commands_about_buckets_run_on_an_s3(
    ministack: str, photos: Path, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers.use_s3(monkeypatch, ministack)
    for photo in photos.rglob("*.jpg"):
        open_place("s3://photos/orchard").write(photo.relative_to(photos).as_posix(), photo.read_bytes())
    (folder := tmp_path / "folder").mkdir()
    text = script(Document(ROOT / "docs" / "storage.md"), "sh aws")
    run(text, folder, VERGER_BACKBONE=network, VERGER_IMAGE_SIZE="32")  # small, because it is about the bucket
    assert (folder / "components.csv").read_text().count("\n") == 1 + 12
