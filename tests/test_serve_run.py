"""`verger serve` on what a run left: the command, its workers, and a network that one can compute in the head."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from conftest import write_photo

import verger

pytestmark = pytest.mark.spark


@pytest.mark.usefixtures("spark")
def test_a_run_is_served_within_the_limits_that_were_given(tmp_path: Path, photos: Path, network: str) -> None:
    dest = str(tmp_path / "out")
    verger.run(verger.Settings(source=str(photos), dest=dest, backbone=network, image_size=32, components=2))
    write_photo(tmp_path / "large.jpg", seed=0, size=(120, 90))
    command = [sys.executable, "-m", "verger", "serve", dest, "--port", "0", "--workers", "1", "--max-pixels", "10000"]
    environment = os.environ | {"PYTHONPATH": str(Path(verger.__file__).parents[1])}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as server:
        assert server.stderr
        address = server.stderr.readline().split()[3].decode()
        small = httpx.post(f"{address}/recognise", content=(photos / "apple" / "00.jpg").read_bytes())
        large = httpx.post(f"{address}/recognise", content=(tmp_path / "large.jpg").read_bytes())
        server.terminate()
    assert small.json()["guesses"][0]["label"] in {"apple", "pear"}
    assert (large.status_code, large.json()["error"]) == (422, "too_many_pixels")
