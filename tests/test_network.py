from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import mean_colour

from verger.checks import check_device
from verger.errors import RunFailedError, SettingError
from verger.network import CUDA, ONE_THREAD, Placement, count_gpus, place_task
from verger.settings import Settings

needs_no_cuda = pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA")


def test_a_vector_does_not_depend_on_its_neighbours() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    network = mean_colour().load()
    together = network(pixels)
    np.testing.assert_array_equal(together, np.concatenate([network(pixels[i : i + 1]) for i in range(20)]))
    np.testing.assert_allclose(together, pixels.mean(axis=(1, 2)), rtol=1e-5)


def test_no_photo_gives_no_vector() -> None:
    assert mean_colour().load()(np.empty((0, 32, 32, 3), np.uint8)).shape == (0, 3)


def test_a_processor_runs_the_network_on_as_many_threads_as_the_task_has() -> None:
    assert place_task("cpu", 1) == ONE_THREAD
    assert place_task("cpu", 4) == Placement(threads=4, gpu=None)


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("-1", 0), ("0", 1), ("0,2", 2), ("GPU-5f3e,GPU-8c1a", 2)])
def test_gpus_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch, visible: str, count: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert count_gpus() == count


@needs_no_cuda
def test_cuda_without_its_runtime_is_refused_with_what_to_install() -> None:
    asked = Settings(source="a", dest="b", device="cuda")
    with pytest.raises(SettingError, match=r"CUDA.*Received: one that offers .*CPUExecutionProvider.*verger\[gpu\]"):
        check_device(asked)
    check_device(Settings(source="a", dest="b", device="cuda", master="spark://cluster:7077"))  # its workers will tell
    with pytest.raises(RunFailedError, match="onnxruntime-gpu"):
        mean_colour().load(Placement(gpu=0))


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SettingError, match=r"NVIDIA GPU.*none that this process may use.*nvidia-smi"):
        check_device(Settings(source="a", dest="b", device="cuda"))


def test_the_command_line_refuses_cuda_before_anything_is_written(photos: Path, network: str, tmp_path: Path) -> None:
    from verger.pipeline import run

    if CUDA in onnxruntime.get_available_providers() and count_gpus():
        pytest.skip("this machine has a GPU")
    with pytest.raises(SettingError, match="leave --device out"):
        run(Settings(source=str(photos), dest=str(tmp_path / "out"), backbone=network, image_size=32, device="cuda"))
    assert not (tmp_path / "out").exists()
