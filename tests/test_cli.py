"""Commands as a shell sees them: exit codes, messages, files. Those without Spark run in this process, to be quick."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from verger.cli import main


def verger(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    said = capsys.readouterr()
    return int(str(exited.value.code)), said.out, said.err


@pytest.mark.parametrize(
    "command", [[], ["run"], ["sample"], ["show"], ["export"], ["backbones"], ["serve"], ["fetch"], ["explore"]]
)
def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    code, out, _ = verger(capsys, *command, "--help")
    assert code == 0
    example = out.partition("Example:")[2].split("\n")[1].strip()
    assert example.startswith(f"verger {command[0] if command else 'sample'}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["walk"], "No such command"),
        (["run", "photos"], "Missing option '--to'"),
        (["run", "photos", "--to", "out", "--components", "many"], "components='many'"),
        (["run", "photos", "--to", "out", "--components", "0"], "components=0"),
        (["run", "photos", "--to", "out", "--components", "1.5"], "components=1.5"),
        (["run", "photos", "--to", "out", "--max-failed", "2"], "max_failed=2.0"),
        (["run", "/nowhere", "--to", "out"], "does not exist"),
        (["run", "photos", "--to", "out", "--backbone", "mobilenet"], "Did you mean mobilenet_v2?"),
        (["run", "photos", "--to", "out", "--config", "/nowhere.toml"], "/nowhere.toml"),
        (["show", "/nowhere"], "Run first: verger run"),
        (["export", "/nowhere", "x.csv"], "Run first: verger run"),
    ],
)
def test_bad_usage_is_one_message_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = verger(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert said in err
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--debug", "show", "/nowhere"], ["show", "/nowhere", "--debug"]):
        code, _, err = verger(capsys, *arguments)
        assert code == 2
        assert "Traceback" in err


def test_backbones_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = verger(capsys, "backbones", "--json")
    known = {info["name"]: info for info in json.loads(out)}
    assert code == 0
    assert known["efficientnet_lite0"]["at_hand"]
    assert known["efficientnet_lite0"]["vector_length"] == known["mobilenet_v2"]["vector_length"] == 1280
    assert "efficientnet_lite0" in verger(capsys, "backbones")[1]


def shell(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A command in a process of its own, as a user starts it."""
    command = [sys.executable, "-m", "verger", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, timeout=300, check=False
    )


@pytest.mark.spark
def test_run_show_and_export_from_the_shell(photos: Path, tmp_path: Path, network: str) -> None:
    out = str(tmp_path / "out")
    config = tmp_path / "verger.toml"
    config.write_text('image_size = 32\npart_photos = 5\ncomponents = 1\nmaster = "local[2]"\n')
    arguments = ["run", str(photos), "--to", out, "--config", str(config), "--components", "2"]
    ran = shell(*arguments, VERGER_BACKBONE=network, VERGER_PART_PHOTOS="4", COLUMNS="200")
    assert ran.returncode == 0, ran.stderr
    assert "12 found, 12 embedded" in ran.stdout
    assert f"{out}/report.html" in ran.stdout
    assert "Photos to vectors" in ran.stderr

    shown = json.loads(shell("show", out, "--json").stdout)
    asked = shown["settings"]  # the command line comes before the environment, and that before the file
    assert (asked["components"], asked["part_photos"], asked["image_size"]) == (2, 4, 32)
    assert shown == json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert "12 found" in shell("show", out, COLUMNS="200").stdout

    assert shell("export", out, str(tmp_path / "c.csv")).returncode == 0
    with (tmp_path / "c.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 12
    assert list(table[0]) == ["path", "label", "c1", "c2"]
    assert {row["label"] for row in table} == {"apple", "pear"}


@pytest.mark.spark
def test_a_run_that_fails_exits_with_1(photos: Path, tmp_path: Path, network: str) -> None:
    for i in range(6):
        (photos / "apple" / f"{i:02}.jpg").write_bytes(b"words")
    arguments = ["--backbone", network, "--image-size", "32", "--components", "2", "--master", "local[2]"]
    ran = shell("run", str(photos), "--to", str(tmp_path / "out"), *arguments)
    assert ran.returncode == 1
    assert "6 of 12 failed (6 not_an_image" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_missing_java_is_said_with_the_command_that_installs_it(photos: Path, tmp_path: Path, network: str) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    (bare / "python3").symlink_to(shutil.which("python3") or sys.executable)
    arguments = ["run", str(photos), "--to", str(tmp_path / "out"), "--backbone", network, "--image-size", "32"]
    ran = shell(*arguments, "--components", "2", PATH=str(bare), JAVA_HOME="")
    assert ran.returncode == 2
    assert "Java 17" in ran.stderr
    assert "apt-get install openjdk-17-jre-headless" in ran.stderr
    assert "Traceback" not in ran.stderr
