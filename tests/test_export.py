import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import Commands

from verger.image import decode
from verger.sample import write_sample

SIDE = 64


def ask(file: Path, photo: Path) -> tuple[dict[str, float], float]:
    """What ONNX Runtime alone makes of a photo: the probability of each label, and the distance."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [path[0] for path in json.loads(session.get_modelmeta().custom_metadata_map["verger.labels"])]
    pixels = decode(photo.read_bytes(), session.get_inputs()[0].shape[1], 1_000_000).pixels[None]
    probabilities, distance = session.run(["probabilities", "distance"], {"pixels": pixels})
    return dict(zip(names, probabilities[0].tolist(), strict=True)), float(distance[0])


@pytest.mark.spark
def test_one_file_answers_like_the_command_and_in_int8_nearly(spark, tmp_path: Path, verger: Commands) -> None:
    orchard, out, robot, small = (tmp_path / name for name in ("orchard", "out", "robot.onnx", "small.onnx"))
    write_sample(orchard, photos_per_kind=6)
    run = ["run", str(orchard), "--to", str(out), "--image-size", str(SIDE), "--components", "8"]
    assert verger(*run)[0] == 0
    assert verger("export", str(out), str(robot))[0] == 0
    code, said, _ = verger("export", str(out), str(small), "--precision", "int8")
    assert code == 0
    assert f"{small.stat().st_size / 1e6:.1f} MB in" in said.replace("\n", "")
    assert small.stat().st_size < 0.45 * robot.stat().st_size

    chosen = sorted(orchard.glob("*/*.jpg"))[::7]
    answers = json.loads(verger("recognise", *map(str, chosen), "--with", str(out), "--json")[1])
    gaps, distances = [], []
    for photo, answer in zip(chosen, answers, strict=True):
        probabilities, distance = ask(robot, photo)
        in_int8, distance_in_int8 = ask(small, photo)
        for guess in answer["guesses"]:
            assert probabilities[guess["label"]] == pytest.approx(guess["probability"], abs=1e-5)
        assert distance == pytest.approx(answer["distance"], rel=1e-4)
        gaps.append(max(abs(probabilities[name] - in_int8[name]) for name in probabilities))
        distances.append(distance_in_int8 / distance)
    assert np.mean(gaps) < 0.1
    assert np.mean(distances) == pytest.approx(1, abs=0.15)

    code, _, said = verger("export", str(out), str(small), "--precision", "int8", "--photos", str(tmp_path / "none"))
    assert code == 2
    code, _, said = verger("export", str(out), str(tmp_path / "table.csv"), "--precision", "int8")
    assert (code, "FILE.onnx" in said) == (2, True)
    code, _, said = verger("export", str(out), str(tmp_path / "no" / "robot.onnx"))
    assert (code, "a FILE that can be written" in said) == (2, True)


@pytest.mark.spark
def test_what_cannot_be_exported_says_why(spark, photos: Path, tmp_path: Path, network: str, verger: Commands) -> None:
    out, robot = str(tmp_path / "out"), str(tmp_path / "robot.onnx")
    code, _, said = verger("export", out, robot)
    assert (code, "Run first" in said) == (2, True)
    assert (
        verger("run", str(photos), "--to", out, "--backbone", network, "--image-size", "32", "--components", "2")[0]
        == 0
    )
    code, _, said = verger("export", out, robot, "--precision", "int8")
    assert (code, "fewer than two convolutions" in said) == (2, True)
    assert not Path(robot).exists()
