"""`scripts/servers` on machines that lack things: it says what, with the command that helps, and does the rest."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "servers"
TOOLS = ("bash", "cat", "chmod", "cp", "dirname", "env", "grep", "mkdir", "mktemp", "rm", "tail", "touch")
APT_FAILS = 'echo "E: Unable to locate package chromium"; exit 100'
APT_WORKS = 'for name in chromium chromedriver; do printf "#!/bin/sh\\n" >{tools}/$name; chmod +x {tools}/$name; done'


def program(tools: Path, name: str, code: str) -> None:
    (tools / name).write_text(f"#!{shutil.which('bash')}\n{code.format(tools=tools)}\n")
    (tools / name).chmod(0o755)


def run(folder: Path, **programs: str) -> "subprocess.CompletedProcess[str]":
    """The script in a checkout of its own, where there are no programs but TOOLS and these."""
    (folder / "scripts").mkdir(exist_ok=True)
    shutil.copy(SCRIPT, folder / "scripts")
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name in TOOLS:
        if not (tools / name).exists():
            (tools / name).symlink_to(shutil.which(name) or name)
    for name, code in programs.items():
        program(tools, name.replace("_", "-"), code)
    environment = {"PATH": str(tools), "TMPDIR": str(folder), "PYTHON": str(tools / "python3")}
    command = [shutil.which("bash") or "bash", str(folder / "scripts" / "servers")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_machine_without_anything_is_told_all_that_it_lacks(tmp_path: Path) -> None:
    ran = run(tmp_path, id="echo 1000")
    said = ran.stderr.splitlines()
    assert ran.returncode == 2
    assert len(said) == 8  # five environments of Python, two packages of npm's, the browser
    assert all(line.startswith("verger: expected ") for line in said)
    assert said[-1].endswith("Install it: sudo apt-get install --yes --no-install-recommends chromium chromium-driver")


@pytest.mark.parametrize(("apt", "code"), [(APT_FAILS, 2), (APT_WORKS, 0)], ids=["fails", "works"])
def test_chromium_is_installed_where_that_is_allowed(tmp_path: Path, apt: str, code: int) -> None:
    python = '[ "$2" = venv ] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; exit 0'  # -m venv FOLDER
    ran = run(tmp_path, id="echo 0", apt_get=apt, python3=python, npm='mkdir -p "$3"')
    assert ran.returncode == code, ran.stderr
    assert ("Received: E: Unable to locate package chromium" in ran.stderr) == (code == 2)
    again = run(tmp_path, id="echo 0", apt_get="exit 1", python3="exit 1", npm="exit 1")
    assert again.returncode == code, "what is there is left alone"


def test_an_installation_that_breaks_is_a_failure(tmp_path: Path) -> None:
    python = '[ "$2" = pip ] && exit 1; [ "$2" = venv ] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; exit 0'
    ran = run(tmp_path, id="echo 0", python3=python, npm='mkdir -p "$3"')
    assert ran.returncode == 1
