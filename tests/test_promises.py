"""What ARCHITECTURE.md promises of the code, held."""

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import verger

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "verger").rglob("*.py"))

# Lower layers never import higher ones.
LAYERS = [
    set(names.split())
    for names in (
        "cli cli_fetch cli_recogniser cli_settings cloud explore web __main__ tables terminal export",
        "pipeline evaluate",
        "evaluation_page recognition",
        "recogniser_files report_files",
        "daemon",
        "embedder",
        "dataframe",
        "batches",
        "holding_out",
        "evaluation learning recogniser_graph",
        "confidence",
        "calibration changes checks components discriminant forget manifest model previews resume spark_pca vectors "
        "report report_cost report_curve report_map",
        "reading",
        "backbone fetch gallery parts photos pricing projection quantise sample session",
        "architectures cache graph image keras_engine network onnx_file orchard torch_file weights",
        "archive download git_tree",
        "claim versions",
        "bucket fruits labels recogniser report_words settings stages storage stores",
        "errors",
    )
]
WITHOUT_SPARK = {"backbone", "calibration", "image", "network", "parts", "photos", "projection", "quantise", "reading"}
WITHOUT_SPARK |= {"batches", "dataframe", "fruits", "report", "report_cost", "sample", "storage"}


def imports(module: Path) -> set[str]:
    """The first names below `verger` that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "verger":
            steps = node.module.split(".")
            found |= {steps[1]} if len(steps) > 1 else {alias.name for alias in node.names}
    return {name for name in found if (ROOT / "verger" / name).exists() or (ROOT / "verger" / f"{name}.py").exists()}


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(module: Path) -> None:
    name = module.relative_to(ROOT / "verger").parts[0].removesuffix(".py")
    if name != "__init__":
        assert all(layer(other) >= layer(name) for other in imports(module)), imports(module)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_fits_in_one_reading(module: Path) -> None:
    lines = module.read_text().count("\n")
    assert lines <= (120 if module.name == "pipeline.py" else 250)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_function_fits_on_a_screen(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef):
            documented = ast.get_docstring(node, clean=False) or ""
            length = (node.end_lineno or 0) - node.lineno + 1 - documented.count("\n")
            assert length <= 40, node.name


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


def test_importing_it_needs_neither_spark_nor_tensorflow() -> None:
    modules = ["verger", "verger.pipeline", *sorted(f"verger.{name}" for name in WITHOUT_SPARK)]
    heavy = "{'pyspark', 'tensorflow', 'keras', 'boto3', 'torch'}"
    first = f"next((name for name in {modules} if import_module(name) and {heavy} & sys.modules.keys()), None)"
    assert run_python(f"import sys; from importlib import import_module; print({first})") == "None\n"


def test_importing_verger_is_cheap_because_every_worker_does() -> None:
    assert run_python("import sys, verger; print(sorted({'onnx', 'numpy', 'pyarrow'} & sys.modules.keys()))") == "[]\n"


def test_workers_need_neither_onnx_nor_h5py_nor_templates() -> None:
    code = "import sys, verger.batches, verger.network, verger.vectors, verger.components, verger.previews"
    assert run_python(code + "; print(sorted({'onnx', 'h5py', 'jinja2', 'google'} & sys.modules.keys()))") == "[]\n"


def test_the_public_door_is_what_it_says() -> None:
    assert verger.__all__ == sorted(verger.__all__, key=lambda name: (not name[0].isupper(), name))
    assert all(hasattr(verger, name) for name in verger.__all__)


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == verger.__version__


def test_no_model_is_ever_unpickled_but_by_the_restricted_reader() -> None:
    for module in MODULES:
        if module.name != "torch_file.py":
            assert not re.search(r"\bpickle\b.*load|allow_pickle=True|joblib", module.read_text()), module


def test_pins_fit_the_python_that_debian_brings() -> None:
    """3.11.2, which is older than the one that wrote the pins; only what is installed as pinned can be asked."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    for installed in metadata.distributions():
        if pins.get(installed.name) == installed.version:
            assert "3.11.2" in SpecifierSet(installed.metadata["Requires-Python"] or ""), installed.name
