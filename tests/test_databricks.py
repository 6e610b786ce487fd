"""The bundle for Databricks, held against its own models; nothing of it was ever run there."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

bundles = pytest.importorskip("databricks.bundles.jobs", reason="needs pip install databricks-bundles")
yaml = pytest.importorskip("yaml", reason="needs pip install pyyaml")

FOLDER = Path(__file__).parents[1] / "databricks"


@pytest.fixture
def bundle() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / "databricks.yml").read_text())
    return content


def test_databricks_models_know_every_field_of_the_job(bundle: dict[str, Any]) -> None:
    fields = bundle["resources"]["jobs"]["verger"]
    job = bundles.Job.from_dict(fields)
    assert [task.task_key for task in job.tasks] == ["run"]
    with pytest.raises(ValueError, match="Unexpected field 'deadline'"):
        bundles.Job.from_dict(fields | {"deadline": 7200})


def test_a_run_cannot_go_on_for_ever_nor_twice_at_a_time_nor_by_itself(bundle: dict[str, Any]) -> None:
    job = bundles.Job.from_dict(bundle["resources"]["jobs"]["verger"])
    assert (job.timeout_seconds, job.max_concurrent_runs) == (7200, 1)
    assert job.schedule.pause_status == bundles.PauseStatus.PAUSED
    assert job.tasks[0].existing_cluster_id is None
    assert job.tasks[0].job_cluster_key == job.job_clusters[0].job_cluster_key


def test_workers_are_on_spot_with_fallback_and_everything_carries_the_tag_of_the_bill(bundle: dict[str, Any]) -> None:
    job = bundles.Job.from_dict(bundle["resources"]["jobs"]["verger"])
    cluster = job.job_clusters[0].new_cluster
    assert cluster.aws_attributes.availability == bundles.AwsAvailability.SPOT_WITH_FALLBACK
    assert cluster.aws_attributes.first_on_demand == 1
    assert str(cluster.custom_tags) == str(job.tags) == "{'project': ${var.project}}"


def test_every_variable_that_is_used_is_declared_and_the_other_way_round(bundle: dict[str, Any]) -> None:
    used = set(re.findall(r"\$\{var\.(\w+)\}", (FOLDER / "databricks.yml").read_text()))
    assert used == set(bundle["variables"])


def test_the_task_names_a_file_that_is_there(bundle: dict[str, Any]) -> None:
    task = bundle["resources"]["jobs"]["verger"]["tasks"][0]["spark_python_task"]
    assert (FOLDER / task["python_file"]).is_file()
    assert task["parameters"][0] == "run"


def test_whatever_the_bundle_uploads_lies_in_its_own_folder(bundle: dict[str, Any]) -> None:
    task, built = bundle["resources"]["jobs"]["verger"]["tasks"][0], bundle["artifacts"]["verger"]
    assert built["path"] == "."
    assert "--wheel-dir dist " in built["build"]
    assert task["libraries"] == [{"whl": "./dist/*.whl"}]


@pytest.mark.parametrize(("arguments", "code", "said"), [(["--version"], 0, "verger "), (["run"], 1, "exit code 2")])
def test_a_run_ends_without_an_exit_and_a_failure_is_an_exception(arguments: list[str], code: int, said: str) -> None:
    wrapped = f"import runpy, sys; sys.argv[1:] = {arguments!r}; runpy.run_path({str(FOLDER / 'run_verger.py')!r})"
    command = [sys.executable, "-c", f"{wrapped}; print('went on')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert ("went on" in done.stdout) is (code == 0)
