import fnmatch
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from conftest import write_photo
from dest import FILES, MANIFEST

import verger
from verger import RunFailedError, SettingError, Settings
from verger.image import decode
from verger.sample import AWKWARD, write_sample

pytestmark = pytest.mark.spark


@pytest.fixture
def run(spark, photos: Path, tmp_path: Path, network: str):
    """Runs on `photos` with the network that one can compute in the head."""

    def run_with(**settings: Any) -> dict[str, Any]:
        defaults = {"source": str(photos), "dest": str(tmp_path / "out"), "backbone": network, "image_size": 32}
        return verger.run(Settings(**(defaults | {"components": 2, "part_photos": 4} | settings)), spark)

    return run_with


def rows(dest: Path, folder: str = "vectors") -> list[dict[str, Any]]:
    """Every row of a table in DEST, in the order of paths."""
    return sorted(pyarrow.dataset.dataset(dest / folder).to_table().to_pylist(), key=lambda row: row["path"])


def test_a_run_leaves_everything_it_promises(run, tmp_path: Path) -> None:
    manifest = run()
    out = tmp_path / "out"
    assert manifest == json.loads((out / "manifest.json").read_text())
    assert manifest["photos"]["found"] == manifest["photos"]["embedded"] == 12
    assert manifest["photos"]["failed"] == manifest["photos"]["reused"] == 0
    assert manifest["projection"]["components"] == 2
    assert {"list", "embed", "components", "total"} <= manifest["seconds"].keys()
    assert len(rows(out)) == 12
    model = ["embedder.onnx", "gallery.npz", "projection.npz", "recogniser.npz", "recogniser.onnx", "spark-pca"]
    assert sorted(p.name for p in (out / "model").iterdir()) == model
    assert "mean_colour" in (out / "report.html").read_text()
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]


def test_the_reference_names_what_a_run_leaves(run, tmp_path: Path) -> None:
    manifest = run()
    out = tmp_path / "out"
    left = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    patterns = {name: f"{name}*" if name.endswith("/") else name for name in FILES}
    assert {file for file in left if not any(fnmatch.fnmatch(file, pattern) for pattern in patterns.values())} == set()
    always = [name for name, meaning in FILES.items() if not re.match("after|while|with", meaning)]
    assert [name for name in always if not fnmatch.filter(left, patterns[name])] == []
    assert manifest.keys() == MANIFEST.keys()
    for key in ("spark", "backbone", "photos", "projection", "seconds"):
        assert {*manifest[key]} == {*re.findall(r"`(\w+)`", MANIFEST[key])} - {"calibrate"}  # in int8 only


def test_the_table_of_components_is_what_the_models_give(run, photos: Path, tmp_path: Path) -> None:
    run()
    out = tmp_path / "out"
    table = rows(out, "components")
    pixels = np.stack([decode((photos / row["path"]).read_bytes(), 32, 10**6).pixels for row in table])
    session = onnxruntime.InferenceSession(out / "model" / "embedder.onnx")
    [got] = session.run(None, {session.get_inputs()[0].name: pixels})
    np.testing.assert_allclose(got, [row["components"] for row in table], atol=1e-3, rtol=1e-4)


def test_a_second_run_embeds_nothing(run, tmp_path: Path) -> None:
    first = run()
    before = rows(tmp_path / "out", "components")
    second = run()
    assert second["photos"] | {"embedded": 12, "reused": 0} == first["photos"]
    assert second["photos"]["reused"] == 12
    assert rows(tmp_path / "out", "components") == before


def test_an_incremental_run_gives_what_a_fresh_one_gives(run, photos: Path, tmp_path: Path) -> None:
    run()
    for i in range(3):
        write_photo(photos / "quince" / f"{i}.jpg", 100 + i)
    write_photo(photos / "apple" / "00.jpg", 200)
    os.utime(photos / "apple" / "01.jpg", (1, 1))
    (photos / "pear" / "07.jpg").unlink()
    counts = run()["photos"]
    assert (counts["found"], counts["embedded"], counts["reused"]) == (14, 5, 9)
    run(dest=str(tmp_path / "fresh"))
    assert rows(tmp_path / "out") == rows(tmp_path / "fresh")
    one, two = ([row["components"] for row in rows(tmp_path / name, "components")] for name in ("out", "fresh"))
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_the_manifest_counts_what_changed_since_the_last_finished_run(run, photos: Path, tmp_path: Path) -> None:
    (photos / "apple" / "02.jpg").write_bytes(b"no photo yet")
    assert run(max_failed=0.5)["changes"] is None
    for i in range(3):
        write_photo(photos / "quince" / f"{i}.jpg", 100 + i)
    write_photo(photos / "apple" / "00.jpg", 200)
    os.utime(photos / "apple" / "01.jpg", (1, 1))
    write_photo(photos / "apple" / "02.jpg", 201)
    (photos / "pear" / "07.jpg").unlink()
    assert run()["changes"] == {"added": 3, "changed": 2, "removed": 1, "mended": 1}
    assert "What changed since the last run" in (tmp_path / "out" / "report.html").read_text()
    assert run()["changes"] == {"added": 0, "changed": 0, "removed": 0, "mended": 0}
    (tmp_path / "out" / "manifest.json").unlink()
    assert run()["changes"] is None  # as after a run that was killed


def test_the_report_shows_what_is_left_of_a_photo_that_was_cut_off(run, photos: Path, tmp_path: Path) -> None:
    cut, junk = photos / "apple" / "02.jpg", photos / "apple" / "03.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    junk.write_bytes(b"no photo")
    run(max_failed=0.5)
    page = (tmp_path / "out" / "report.html").read_text()
    tiles = re.findall(r'<li data-cause="(\w+)">.*?(<img|<span).*?<b>(.*?)</b><code>(.*?)</code>', page)
    assert sorted(tiles) == [
        ("not_an_image", "<span", "not_an_image, 8 bytes", "apple/03.jpg"),
        ("truncated", "<img", f"truncated, {cut.stat().st_size} bytes", "apple/02.jpg"),
    ]


def test_a_run_from_another_thread_uses_the_session_that_is_there(run, spark, photos, tmp_path, network) -> None:
    settings = Settings(source=str(photos), dest=str(tmp_path / "out"), backbone=network, image_size=32, components=2)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(verger.run, settings).result()["photos"]["embedded"] == 12
    assert spark.sparkContext.parallelize([1]).count() == 1  # and leaves it running


def test_a_failed_photo_is_tried_again(run, photos: Path, tmp_path: Path) -> None:
    good = (photos / "apple" / "00.jpg").read_bytes()
    (photos / "apple" / "00.jpg").write_bytes(good[:200])
    counts = run(max_failed=0.5)["photos"]
    assert (counts["embedded"], counts["failed"], counts["causes"]) == (11, 1, {"truncated": 1})
    counts = run(max_failed=0.5)["photos"]
    assert (counts["embedded"], counts["failed"], counts["reused"]) == (0, 1, 11)
    (photos / "apple" / "00.jpg").write_bytes(good)
    counts = run()["photos"]
    assert (counts["embedded"], counts["failed"], counts["reused"]) == (1, 0, 11)
    assert len(rows(tmp_path / "out")) == 12


def test_too_many_failures_end_the_run_and_keep_what_is_done(run, photos: Path, tmp_path: Path) -> None:
    for i in range(3):
        (photos / "apple" / f"{i:02}.jpg").write_bytes(b"words")
    with pytest.raises(RunFailedError, match=r"5.0%.*3 of 12 failed \(3 not_an_image.*the 9 vectors"):
        run()
    out = tmp_path / "out"
    assert not (out / "manifest.json").exists()
    assert sum(row["vector"] is not None for row in rows(out)) == 9
    assert run(max_failed=0.3)["photos"]["reused"] == 9


def test_only_bad_photos_end_the_run(run, photos: Path) -> None:
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"words")
    with pytest.raises(RunFailedError, match="12 of 12 failed"):
        run()
    with pytest.raises(RunFailedError, match=r"never all.*12 of 12 failed \(12 not_an_image"):
        run(max_failed=1.0)


def test_only_bad_photos_end_a_run_with_a_kept_projection_too(run, photos: Path) -> None:
    run()
    for path in photos.rglob("*.jpg"):
        path.write_bytes(b"words")
    with pytest.raises(RunFailedError, match="12 of 12 failed"):
        run(max_failed=1.0, keep_projection=True)


def test_a_kept_projection_projects_new_photos(run, photos: Path, tmp_path: Path) -> None:
    run()
    saved = (tmp_path / "out" / "model" / "projection.npz").read_bytes()
    before = {row["path"]: row["components"] for row in rows(tmp_path / "out", "components")}
    write_photo(photos / "quince" / "1.jpg", 77)
    manifest = run(keep_projection=True)
    assert manifest["projection"]["asked"] == "kept"
    assert (tmp_path / "out" / "model" / "projection.npz").read_bytes() == saved
    after = {row["path"]: row["components"] for row in rows(tmp_path / "out", "components")}
    assert after.keys() - before.keys() == {"quince/1.jpg"}
    assert {path: after[path] for path in before} == before


def test_labels_follow_the_label_level_without_the_network(run, photos: Path, tmp_path: Path) -> None:
    run()
    photos.rename(photos.with_name("kinds"))
    (photos / "orchard").mkdir(parents=True)
    photos.with_name("kinds").rename(photos / "orchard" / "kinds")
    run()
    assert run(label_level=2)["photos"]["reused"] == 12
    assert {row["label"] for row in rows(tmp_path / "out")} == {"kinds"}
    assert {row["label"] for row in rows(tmp_path / "out", "components")} == {"kinds"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"source": "/nowhere"}, "does not exist"),
        ({"components": 4}, r"vector length \(3\)"),
        ({"components": 13, "image_size": 32}, "components=13"),
        ({"label_level": 3}, "label-level"),
        ({"keep_projection": True}, "Run once without --keep-projection"),
        ({"backbone": "resnet"}, "resnet"),
        ({"dest": "/proc/nowhere"}, "can be written"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(run, tmp_path: Path, settings: dict, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        run(**settings)
    assert not (tmp_path / "out").exists()


def test_a_source_inside_dest_is_refused(run, photos: Path) -> None:
    with pytest.raises(SettingError, match="inside DEST"):
        run(dest=str(photos.parent))


def test_another_networks_dest_is_refused_and_restart_discards_it(run, network: str, tmp_path: Path) -> None:
    run()
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    other = onnx.load(network)
    other.producer_name = "somebody else"
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(SettingError, match=r"another one.*--restart"):
        run(backbone=str(tmp_path / "other.onnx"))
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    manifest = run(backbone=str(tmp_path / "other.onnx"), restart=True)
    assert manifest["changes"] is None  # nothing is left to compare with
    assert manifest["photos"]["embedded"] == len(rows(tmp_path / "out")) == len(rows(tmp_path / "out", "components"))


def test_awkward_files_are_embedded_or_have_their_cause_and_harm_nobody(spark, tmp_path: Path) -> None:
    write_sample(tmp_path / "in", photos_per_kind=1, awkward=True)
    settings = Settings(source=str(tmp_path / "in"), dest=str(tmp_path / "out"), max_failed=0.5, components=5)
    manifest = verger.run(settings, spark)
    became = {row["path"].removeprefix("awkward/"): row["error"] for row in rows(tmp_path / "out")}
    assert {name: became[name] for name in AWKWARD} == AWKWARD
    assert not any(error for name, error in became.items() if name not in AWKWARD)
    assert manifest["photos"]["failed"] == sum(cause is not None for cause in AWKWARD.values())


def test_vectors_of_the_default_network_tell_fruits_apart(spark, tmp_path: Path) -> None:
    write_sample(tmp_path / "in", photos_per_kind=4)
    manifest = verger.run(Settings(source=str(tmp_path / "in"), dest=str(tmp_path / "out")), spark)
    assert manifest["backbone"]["name"] == "efficientnet_lite0"
    assert manifest["projection"]["explained_variance"] >= 0.9
    table = pq.read_table(tmp_path / "out" / "vectors")
    vectors = np.array(table["vector"].to_pylist())
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = unit @ unit.T - 2 * np.eye(len(unit))
    labels = np.array(table["label"].to_pylist())
    assert np.mean(labels[alike.argmax(axis=1)] == labels) > 0.8  # the most alike photo is the same fruit


def test_int8_is_calibrated_once_for_a_dest(spark, photos: Path, tmp_path: Path) -> None:
    def run(**more: Any) -> dict[str, Any]:
        out = str(tmp_path / "out")
        return verger.run(Settings(source=str(photos), dest=out, image_size=32, components=2, **more), spark)

    first = run(precision="int8")
    assert first["backbone"]["precision"] == "int8"
    assert (tmp_path / "out" / "model" / "network-int8.onnx").exists()
    write_photo(photos / "apple" / "new.jpg", 99)
    second = run(precision="int8")
    assert second["backbone"]["fingerprint"] == first["backbone"]["fingerprint"]
    assert (second["photos"]["embedded"], second["photos"]["reused"]) == (1, 12)
    with pytest.raises(SettingError, match="holds vectors of another one"):
        run()
