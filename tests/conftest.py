"""What tests share: a Spark session that starts only when a test asks for it, and photos made on the spot."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import onnx
import pytest
import servers
from onnx import TensorProto, helper
from orchard_server import jpeg
from PIL import Image

from verger import stores
from verger.network import Backbone
from verger.photos import Photo
from verger.sample import render
from verger.session import spark_context

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

hypothesis.settings.register_profile("verger", deadline=None)  # a machine that is busy fails no test
hypothesis.settings.load_profile("verger")
SHARED = Path(os.environ.get("VERGER_SHARED", Path(__file__).parents[2] / "shared"))


Commands = Callable[..., tuple[int, str, str]]


def pytest_configure() -> None:
    """Tests interrupt what they start; a shell that starts them in the background would have all of it ignore that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Only tests that are marked so start servers."""
    servers.unmarked = "" if item.get_closest_marker("server") else item.nodeid


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Networks built by tests go to a folder of their own, and are built once."""
    os.environ["VERGER_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def spark() -> "Iterator[SparkSession]":
    """One session for all tests: starting one takes seconds. Two cores, so that tasks do run side by side."""
    from pyspark.sql import SparkSession

    with spark_context("local[2]"):
        yield SparkSession.builder.getOrCreate()


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """Real photos that are no part of the project."""
    photos = SHARED / "photos" / "fruits-360" / "Training"
    if not photos.is_dir():
        pytest.skip(f"needs real photos in {photos}; VERGER_SHARED names another folder")
    return photos


@pytest.fixture(scope="session")
def mobilenet_weights() -> Path:
    """Weights of MobileNetV2 that are no part of the project."""
    weights = SHARED / "weights" / "mobilenet_v2_no_top.weights.h5"
    if not weights.is_file():
        pytest.skip(f"needs MobileNetV2's weights in {weights}; VERGER_SHARED names another folder")
    return weights


@pytest.fixture(scope="session")
def orchard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the workers of orchard_worker.py know."""
    from orchard_worker import learn

    file = tmp_path_factory.mktemp("orchard") / "means.npz"
    learn(file)
    return file


@pytest.fixture(scope="session")
def pear() -> bytes:
    """A photo of a pear that those workers have not seen."""
    return jpeg(render("pear", 7))


@pytest.fixture(scope="session")
def noise() -> bytes:
    """No fruit."""
    return jpeg(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))


def write_photo(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> None:
    """A small JPEG of smooth random colours; the same seed gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)


@pytest.fixture
def network(tmp_path: Path) -> str:
    """The file of a network of three numbers a photo, for tests that need none better."""
    file = tmp_path / "mean_colour.onnx"
    file.write_bytes(mean_colour().graph)
    return str(file)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve photos of two labels."""
    for i in range(12):
        write_photo(tmp_path / "photos" / ("apple" if i < 6 else "pear") / f"{i:02}.jpg", i)
    return tmp_path / "photos"


def mean_colour() -> Backbone:
    """A network one can compute in the head: the vector is the mean red, green and blue of the photo."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 32, 32, 3])
    vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 3])
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["vector"], keepdims=0),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
    graph = helper.make_graph(nodes, "mean", [pixels], [vector], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return Backbone("mean_colour", "onnx", 32, 3, "f00d", "raw", model.SerializeToString())


def photo(path: str, label: str = "apple", size: int = 1, modified_us: int = 0) -> Photo:
    """A listed photo, for tests that need no file."""
    return Photo(path, label, size, modified_us)


@pytest.fixture(autouse=True)
def _fresh_connections() -> Iterator[None]:
    """Tests differ in endpoints and users; a process elsewhere does not."""
    yield
    stores._connected.cache_clear()
    stores._s3_above.cache_clear()


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not servers.MINISTACK.exists():
        pytest.skip("needs MiniStack, which scripts/servers installs")
    with servers.ministack(tmp_path_factory.mktemp("ministack")) as endpoint:
        for bucket in ("photos", "results", "private"):
            servers.aws(endpoint, "s3", "PUT", f"/{bucket}")
        yield endpoint


@pytest.fixture
def verger(capsys: pytest.CaptureFixture[str]) -> Commands:
    """The command line, in this process: its words → exit code, output, errors."""
    from verger.cli import main

    def command(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        streams = capsys.readouterr()
        return int(str(exited.value.code)), streams.out, streams.err

    return command
