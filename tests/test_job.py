"""The job as a cluster gets it. One test runs all of it, on Spark 3.5, without a network; it takes minutes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from verger.cloud import job
from verger.errors import MissingError, RunFailedError, SettingError
from verger.sample import write_sample

TESTS = Path(__file__).parent
EMR = Path(os.environ.get("VERGER_EMR", TESTS.parent / ".servers" / "emr"))  # Spark 3.5 and the AWS command line
NAMESPACES = ["unshare", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child"]
CODE = "s3://verger-test/code"
SOURCE, DEST = "s3://verger-test/photos", "s3://verger-test/runs/one"


def validated(service: str, operation: str, parameters: dict[str, Any]) -> None:
    """Hold a request against AWS's own description of it."""
    session = pytest.importorskip("botocore.session").get_session()
    shape = session.get_service_model(service).operation_model(operation).input_shape
    from botocore.validate import ParamValidator

    report = ParamValidator().validate(parameters, shape)
    assert not report.has_errors(), report.generate_report()


def test_the_step_is_a_spark_submit_line_that_begins_with_the_run() -> None:
    line = job.step_arguments(SOURCE, DEST, ["--components", "10"], CODE, executors=5)
    assert line[:3] == ["spark-submit", "--deploy-mode", "client"]
    assert "spark.dynamicAllocation.initialExecutors=5" in line
    assert line[-7:] == ["/opt/verger/main.py", "run", SOURCE, "--to", DEST, "--components", "10"]


def test_emr_knows_every_field_of_what_it_is_told() -> None:
    step = {"Jar": "command-runner.jar", "Args": job.step_arguments(SOURCE, DEST, [], CODE)}
    request = {"Name": "n", "Instances": {}, "Steps": [{"Name": "s", "HadoopJarStep": step}]}
    request |= {"BootstrapActions": [job.bootstrap_action(CODE)], "Configurations": job.spark_configuration()}
    validated("emr", "RunJobFlow", request)
    run = {"applicationId": "a", "clientToken": "t", "executionRoleArn": "arn:aws:iam::123456789012:role/r"}
    validated("emr-serverless", "StartJobRun", run | {"jobDriver": job.serverless_driver(SOURCE, DEST, [], CODE)})


def test_an_xlarge_has_room_for_one_executor_and_not_for_two() -> None:
    defaults = next(c["Properties"] for c in job.spark_configuration() if c["Classification"] == "spark-defaults")
    executor = sum(int(defaults[f"spark.executor.{name}"].removesuffix("g")) for name in ("memory", "memoryOverhead"))
    yarn, application_master = 12, 1  # GiB: what EMR offers on an m5.xlarge, and what a client's master takes
    assert executor + application_master <= yarn < 2 * executor
    assert int(defaults["spark.executor.cores"]) == 4


def test_a_serverless_worker_has_the_memory_that_the_estimate_reckons_with() -> None:
    options = job.serverless_driver(SOURCE, DEST, [], CODE, executors=3)["sparkSubmit"]["sparkSubmitParameters"]
    settings = dict(option.split("=", 1) for option in options.split() if option != "--conf")
    for who in ("driver", "executor"):
        assert settings[f"spark.{who}.cores"] == "4"
        memory = (settings[f"spark.{who}.{name}"].removesuffix("g") for name in ("memory", "memoryOverhead"))
        assert sum(map(int, memory)) == 16
    assert settings["spark.dynamicAllocation.maxExecutors"] == "3"
    assert settings["spark.archives"] == f"{CODE}/environment.tar.gz#environment"


def test_wheels_go_to_an_empty_folder_for_a_known_architecture(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="an architecture among x86_64, aarch64"):
        job.build_wheels(tmp_path, "riscv64")
    (tmp_path / "old.whl").touch()
    with pytest.raises(SettingError, match="an empty folder"):
        job.build_wheels(tmp_path)


def test_an_installed_package_says_that_it_needs_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "ROOT", tmp_path)
    with pytest.raises(MissingError, match="Verger's sources"):
        job.build_wheels(tmp_path / "wheels")


def test_a_failure_of_pip_is_one_message() -> None:
    with pytest.raises(RunFailedError, match=r"pip install to succeed. Received: ERROR: .*nowhere"):
        job._pip("install", "--no-index", "nowhere.whl")


def test_an_environment_packed_twice_has_the_same_bytes(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    tree = tmp_path / "tree"
    (tree / "verger").mkdir(parents=True)
    (tree / "verger" / "__init__.py").write_text("")
    setup = '[build-system]\nrequires = []\nbackend-path = ["."]\nbuild-backend = "backend"\n'
    (tree / "pyproject.toml").write_text(setup)
    (tree / "backend.py").write_text(TINY_BACKEND)
    job._pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(tree))
    packed = [job.pack_environment(wheels).read_bytes() for _ in range(2)]
    assert packed[0] == packed[1]


TINY_BACKEND = """
import zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "verger-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.writestr("verger/__init__.py", "")
        wheel.writestr("verger-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: verger\\nVersion: 1\\n")
        wheel.writestr("verger-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("verger-1.dist-info/RECORD", "")
    return name
"""
STAND_IN_AWS = """#!/bin/bash
# aws s3 cp [options] FROM TO, with a folder in the place of the bucket
[ "${@: -1:1}" ] && from=${@: -2:1} to=${@: -1:1}
[ -d "$from" ] && cp "$from"/*.whl "$from"/main.py "$to" || cp "$from" "$to"
"""


def bootstrapped(tmp_path: Path, code: Path) -> subprocess.CompletedProcess[str]:
    """The bootstrap script with a stand-in for the AWS command line, as root of a namespace."""
    root = [*NAMESPACES[:2]]
    if not shutil.which("unshare") or subprocess.run([*root, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make a user namespace (unshare --map-root-user)")
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "aws").write_text(STAND_IN_AWS)
    (tools / "aws").chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "VERGER_HOME": str(tmp_path / "home")}
    environment |= {"VERGER_PYTHON": sys.executable}
    script = [*root, "bash", str(TESTS.parent / "verger" / "cloud" / "bootstrap.sh"), str(code)]
    return subprocess.run(script, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_a_node_refuses_wheels_that_are_not_those_that_were_summed(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    for name in ("verger-1-py3-none-any.whl", "main.py"):
        (code / name).write_text(name)
    names = sorted(file.name for file in code.iterdir())
    sums = subprocess.run(["sha256sum", *names], cwd=code, capture_output=True, text=True, check=True).stdout
    (code / "SHA256SUMS").write_text(sums)
    (code / "main.py").write_text("forged")
    done = bootstrapped(tmp_path, code)
    assert done.returncode == 1
    assert f"verger: expected files that match {code}/SHA256SUMS" in done.stderr
    assert list((tmp_path / "home").iterdir()) == []


def test_the_bootstrap_needs_the_address_of_the_code() -> None:
    script = ["bash", str(TESTS.parent / "verger" / "cloud" / "bootstrap.sh")]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "expected the address of the code" in done.stderr


@pytest.mark.slow
@pytest.mark.spark
def test_the_job_starts_on_spark_35_without_network_or_home_from_wheels_in_a_bucket(tmp_path: Path) -> None:
    if not (EMR / "bin" / "spark-submit").exists() or not (EMR / "bin" / "aws").exists():
        pytest.skip(f"needs Spark 3.5 and the AWS command line in {EMR}: scripts/servers, or VERGER_EMR=FOLDER")
    if not (TESTS.parent / ".servers" / "ministack").exists():
        pytest.skip("needs MiniStack: scripts/servers")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("needs Python 3.11, the cluster's")
    if subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make namespaces (unshare --map-root-user --mount --net --pid)")
    python = f"{sys.base_prefix}/bin/python3.11"
    job.build_wheels(tmp_path / "code", packed_python=python)
    write_sample(tmp_path / "photos", photos_per_kind=1)
    order = {"scratch": str(tmp_path), "emr": str(EMR), "python": python}
    order |= {what: str(tmp_path / what) for what in ("code", "photos")}
    order |= {"bootstrap": job.bootstrap_action(CODE)["ScriptBootstrapAction"]}
    order |= {"configurations": job.spark_configuration()}
    order |= {"step": job.step_arguments(SOURCE, DEST, ["--components", "5"], CODE)}
    order |= {"serverless": job.serverless_driver(SOURCE, f"{DEST}-serverless", ["--components", "5"], CODE)}
    command = [*NAMESPACES, sys.executable, str(TESTS / "like_a_cluster.py")]
    done = subprocess.run(command, input=json.dumps(order), capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bootstrap again" in done.stdout
    assert "is there already" in done.stdout
    for run in ("one", "one-serverless"):
        manifest = json.loads((tmp_path / "runs" / run / "manifest.json").read_text())
        assert (manifest["photos"]["embedded"], manifest["photos"]["failed"]) == (12, 0)
        assert manifest["spark"]["version"].startswith("3.5.")
        assert manifest["spark"]["master"].startswith("local-cluster[2,4,")
        assert manifest["projection"]["components"] == 5
