"""The notebook: as it lies in git, and as it runs from top to bottom on the orchard."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from verger.sample import write_sample

ROOT = Path(__file__).parents[1]
CELLS: list[dict[str, Any]] = json.loads((ROOT / "notebooks" / "verger.ipynb").read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
PROSE = "".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")


def test_it_lies_in_git_without_outputs() -> None:
    for cell in CELLS:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_it_imports_the_package_and_defines_nothing_but_the_witness() -> None:
    parsed = [ast.parse(re.sub(r"^%.*$", "", code, flags=re.MULTILINE)) for code in CODE]
    nodes = [node for tree in parsed for node in ast.walk(tree)]
    assert [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)] == ["witness"]
    assert any(isinstance(node, ast.ImportFrom) and (node.module or "").startswith("verger.") for node in nodes)


def test_a_cell_fits_on_a_slide() -> None:
    assert max(code.count("\n") for code in CODE) < 36


def test_files_and_targets_that_it_names_exist() -> None:
    for file in re.findall(r"`((?:docs|benchmarks)/[\w./]+)`", PROSE):
        assert (ROOT / file).exists(), file
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)", PROSE):
        assert f"\n{target}:" in makefile, target


@pytest.mark.server
def test_a_cell_that_fails_is_exit_1_and_what_was_shown_is_kept(tmp_path: Path) -> None:
    for needed in ("ipykernel", "nbclient", "nbconvert", "pyspark"):
        pytest.importorskip(needed)
    cells = [
        {"cell_type": "code", "id": name, "metadata": {}, "outputs": [], "execution_count": None, "source": source}
        for name, source in (("one", "print(6 * 7)"), ("two", "assert 6 * 7 == 41"))
    ]
    broken = tmp_path / "broken.ipynb"
    broken.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    code = f"import sys, pathlib, render; render.NOTEBOOK = pathlib.Path({str(broken)!r}); sys.exit(render.main())"
    command = [sys.executable, "-c", code, str(tmp_path / "page"), "--photos", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT / "notebooks", capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 1
    assert "assert 6 * 7 == 41" in ran.stdout
    assert "<pre>42\n" in (tmp_path / "page" / "verger.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.spark
@pytest.mark.tensorflow
def test_it_runs_from_top_to_bottom_on_the_orchard(tmp_path: Path) -> None:
    for needed in ("ipykernel", "matplotlib", "nbclient", "nbconvert", "tensorflow"):
        pytest.importorskip(needed)
    write_sample(tmp_path / "orchard", photos_per_kind=6)
    command = [
        sys.executable,
        str(ROOT / "notebooks" / "render.py"),
        str(tmp_path),
        "--photos",
        str(tmp_path / "orchard"),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=7200, check=False)
    assert ran.returncode == 0, ran.stdout
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["photos"]["reused"] == 72  # the second run
    page = (tmp_path / "verger.html").read_text(encoding="utf-8")
    assert "24 tâches, 2 processus, 2 machine(s), 2 copie(s)" in page
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"http", page)
