import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import Commands, write_photo

from verger.errors import SettingError
from verger.evaluation import STRANGER, Judged, calibration_error, confusion, confusions, measure, worst_mistakes
from verger.evaluation_page import render_evaluation
from verger.holding_out import Protocol, divide, judge_held_out
from verger.recogniser import Answer, Guess, Recogniser

LABELS = (("Braeburn", "Apple"), ("Golden", "Apple"), ("Conference", "Pear"))


def said(label: str | None, *, known: bool = True) -> Answer:
    return Answer(label, label is not None, known, 0.9, (Guess("Braeburn", ("Apple",), 0.9),), 0.5 if known else 2.0)


def judged() -> Judged:
    """Five photos: right and sure; right at the parent; wrong and sure; wrong and unsure; a stranger called unknown."""
    probabilities = np.array([[0.9, 0.05, 0.05], [0.3, 0.6, 0.1], [0.9, 0.04, 0.06], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3]])
    answers = [said("Braeburn"), said("Apple"), said("Braeburn"), said(None), said(None, known=False)]
    paths = ["a/1", "a/2", "<b>/3", "c/4", "d/5"]
    return Judged(LABELS, paths, np.array([0, 1, 2, 0, STRANGER]), probabilities, answers, np.array([0, 0, 1, 1, 1]))


def test_figures_are_what_one_counts_by_hand() -> None:
    figures = measure(judged())
    assert figures["photos"] == 4
    assert (figures["top1"], figures["top3"]) == (0.5, 1.0)
    assert (figures["coverage"], figures["accuracy_when_sure"]) == (0.75, 0.6667)
    assert figures["unknown"] == 0
    assert figures["strangers"] == {"photos": 1, "unknown": 1.0}
    assert figures["folds"] == {"count": 2, "mean": 0.5, "deviation": 0.5, "worst": 0.0, "best": 1.0}
    # Bins of a fifteenth: 0.9 and 0.9 with one right of two, 0.6 right, 0.5 wrong.
    assert figures["ece"] == pytest.approx((abs(1.8 - 1) + abs(0.6 - 1) + 0.5) / 4)


def test_honest_probabilities_have_no_calibration_error() -> None:
    assert calibration_error(np.full(10, 0.7), np.arange(10) < 7) == pytest.approx(0, abs=1e-12)


def test_confusion_and_worst_mistakes_name_what_went_wrong() -> None:
    assert confusion(judged()).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert worst_mistakes(judged(), 5) == [2, 3]
    assert confusions(judged(), 1) == [("Braeburn", "Golden", 1)]
    assert confusions(judged(), 9) == [("Braeburn", "Golden", 1), ("Conference", "Braeburn", 1)]


def test_the_page_shows_mistakes_and_escapes_names() -> None:
    figures = measure(judged()) | {"source": "photos", "hold_out_level": None, "fitted_on_these": False}
    page = render_evaluation(figures, judged(), {2: b"jpeg", 3: b""})
    assert "&lt;b&gt;/3" in page
    assert "<b>/3" not in page
    assert "data:image/jpeg;base64,anBlZw==" in page
    assert "http" not in page.replace("http://www.w3.org", "")


FOLDERS = [f"kind{i % 2}/variety{i:02}" for i in range(20)]


def test_a_group_is_never_on_both_sides() -> None:
    folds = divide(FOLDERS, Protocol(label_level=2, hold_out_level=1, components=4))
    assert sorted(folds) == sorted(FOLDERS)
    assert set(folds.values()) == set(range(10))
    assert folds != divide(FOLDERS, Protocol(2, 1, 4, seed=1))
    deep = [f"{name}/{i}" for name in FOLDERS for i in range(2)]
    of_deep = divide(deep, Protocol(3, 2, 4))
    assert all(of_deep[f"{name}/0"] == of_deep[f"{name}/1"] for name in FOLDERS)


@pytest.mark.parametrize("levels", [(1, 1), (1, 2), (2, 2)])
def test_levels_that_leave_nothing_to_learn_are_refused(levels: tuple[int, int]) -> None:
    with pytest.raises(SettingError, match="--label-level 2 --hold-out-level 1"):
        divide(FOLDERS, Protocol(*levels, components=4))


def test_held_out_groups_are_judged_without_having_been_seen() -> None:
    """Every variety looks like itself alone, so that who has seen it knows its kind, and who has not can only guess."""
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(size=30) * 5 + rng.normal(size=(12, 30)) for _ in FOLDERS]).astype(np.float32)
    paths = [f"{name}/{i:02}.jpg" for name in sorted(FOLDERS) for i in range(12)]
    figures = measure(judge_held_out(vectors, paths, Protocol(2, 1, 20)))
    assert figures["photos"] == 240
    alone = paths[:-12] + [f"other/alone/{i:02}.jpg" for i in range(12)]
    of_strangers = measure(judge_held_out(vectors, alone, Protocol(2, 1, 20)))
    assert (of_strangers["photos"], of_strangers["strangers"]["photos"]) == (228, 12)
    assert 0.2 < figures["top1"] < 0.8
    assert figures["folds"]["count"] == 10
    shuffled = measure(judge_held_out(vectors, paths, Protocol(2, 0, 20)))
    assert shuffled["top1"] > 0.95  # neighbours on both sides: a figure that means nothing


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Red and green fruit, four varieties of each."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for kind, base in (("red", (200, 40, 40)), ("green", (40, 200, 40))):
        for variety in range(4):
            folder = tmp_path / "colours" / kind / f"{kind}{variety}"
            folder.mkdir(parents=True)
            for i in range(6):
                pixels = np.clip(rng.normal(np.add(base, 6 * variety), 12, (20, 20, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "colours"


def of_graph_alone(out: str, red: str) -> tuple[float, float]:
    """Probability of red, and distance, by ONNX Runtime and no Verger but its decoding."""
    from verger.image import decode

    session = onnxruntime.InferenceSession(f"{out}/model/recogniser.onnx", providers=["CPUExecutionProvider"])
    pixels = decode(Path(red).read_bytes(), 64, 1_000_000).pixels[None]  # twice 32
    probabilities, distance = session.run(["probabilities", "distance"], {"pixels": pixels})
    recogniser = Recogniser.from_bytes(Path(out, "model/recogniser.npz").read_bytes())
    assert recogniser.labels == (("green",), ("red",))
    return float(probabilities[0, 1]), float(distance[0])


@pytest.mark.spark
def test_a_run_learns_and_its_commands_answer(
    spark, colours: Path, tmp_path: Path, network: str, verger: Commands
) -> None:
    out = str(tmp_path / "out")
    run = ["run", str(colours), "--to", out, "--backbone", network, "--image-size", "32", "--components", "2"]
    code, told, _ = verger(*run, "--label-level", "2")
    assert code == 0
    assert "2 labels; 100.0% of photos held out (whole folders) named rightly" in " ".join(told.split())
    figures = json.loads((tmp_path / "out/manifest.json").read_text())["recogniser"]
    assert figures | {"labels": 2, "photos": 48, "judged": 48, "held_out": "folders", "top1": 1.0} == figures

    write_photo(tmp_path / "odd.jpg", 1)
    (tmp_path / "words.jpg").write_bytes(b"words")
    red, words = str(colours / "red/red1/3.png"), str(tmp_path / "words.jpg")
    code, text, _ = verger("recognise", red, words, "--with", out, "--json")
    first, second = json.loads(text)
    assert code == 0
    assert first | {"photo": red, "label": "red", "sure": True, "known": True} == first
    assert set(first) == {"photo", "label", "sure", "known", "probability", "distance", "guesses", "error"}
    assert first["guesses"][0] == {"label": "red", "parents": [], "probability": first["probability"]}
    assert (second["error"], second["label"], second["guesses"]) == ("not_an_image", None, [])
    assert verger("recognise", words, "--with", out)[0] == 1

    assert of_graph_alone(out, red) == pytest.approx((first["probability"], first["distance"]))

    code, text, _ = verger("evaluate", str(colours), "--with", out, "--hold-out-level", "1", "--json")
    figures = json.loads(text)
    assert code == 0
    assert {"photos", "top1", "top3", "coverage", "accuracy_when_sure", "unknown", "ece"} < set(figures)
    assert (figures["photos"], figures["top1"], figures["fitted_on_these"]) == (48, 1.0, False)
    assert (tmp_path / "out" / "evaluation.html").exists()
    code, text, said = verger("evaluate", str(colours), "--with", out)
    assert code == 0
    assert "too good" in said

    from verger.recognition import load
    from verger.storage import open_place

    assert len(load(open_place(out)).lookalikes("green")) == 3
    assert verger("forget", out, "green/*")[0] == 0
    assert not (tmp_path / "out/model/gallery.npz").exists()
    assert verger(*run, "--label-level", "2")[0] == 0  # one label is left: nothing to tell apart
    code, _, said = verger("recognise", red, "--with", out)
    assert code == 2
    assert "two labels of five photos or more" in said
