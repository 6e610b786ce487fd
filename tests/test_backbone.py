"""Backbones by name: their vectors against independent implementations, their fingerprints, their cache."""

import pickle
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from verger.backbone import Backbone, builtin_backbones, fuse, load_backbone
from verger.errors import SettingError


def pattern(side):
    """A colourful picture that every machine draws alike: uint8 (1, side, side, 3)."""
    y, x, channel = np.mgrid[0:side, 0:side, 0:3]
    return ((x * (channel + 1) + 2 * y) % 256).astype(np.uint8)[None]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def lite0(cache):
    return load_backbone("efficientnet_lite0", cache=cache)


# What PyPI's efficientnet-lite-pytorch 0.1.0 on PyTorch 2.13 answers with the same weights.
@pytest.mark.parametrize(
    ("side", "total", "entries"),
    [
        (224, 174.8385, {113: 5.319340, 897: 5.039336, 689: 4.638556, 1056: 1.117482, 139: 0.0620046}),
        (97, 107.2385, {113: 4.197268, 1042: 3.799149, 71: 3.521947, 61: 0.6835127, 948: 0.02637294}),
    ],
)
def test_lite0_answers_as_the_independent_implementation_does(cache, side, total, entries):
    vector = load_backbone("efficientnet_lite0", image_size=side, cache=cache).load()(pattern(side))[0]
    assert {index: vector[index] for index in entries} == pytest.approx(entries, rel=1e-3)
    assert vector.sum() == pytest.approx(total, rel=1e-4)


def test_mobilenet_answers_as_keras_does(cache, mobilenet_weights):
    backbone = load_backbone("mobilenet_v2", weights=str(mobilenet_weights), cache=cache)
    vector = backbone.load()(pattern(224))[0]
    # What keras.applications.MobileNetV2 of Keras 3.15 answers with the same weights.
    entries = {675: 5.826198, 745: 5.253094, 926: 5.251725, 474: 2.732580, 1265: 0.467479}
    assert {index: vector[index] for index in entries} == pytest.approx(entries, rel=1e-3)
    assert vector.sum() == pytest.approx(410.7240, rel=1e-4)


def test_vectors_are_contiguous_float32_of_the_promised_length(lite0):
    vectors = lite0.load()(pattern(224)[:, ::-1])
    assert vectors.shape == (1, lite0.vector_length) == (1, 1280)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous


def test_a_photo_has_the_same_vector_alone_and_in_a_batch(lite0):
    network = lite0.load()
    photos = np.concatenate([pattern(224), pattern(224)[:, ::-1], 255 - pattern(224)])
    np.testing.assert_allclose(
        network(photos), np.concatenate([network(p[None]) for p in photos]), rtol=1e-4, atol=1e-5
    )


def test_no_photos_give_no_vectors(lite0):
    assert lite0.load()(np.empty((0, 224, 224, 3), dtype=np.uint8)).shape == (0, 1280)


def test_a_backbone_survives_the_journey_to_an_executor(lite0):
    arrived = pickle.loads(pickle.dumps(lite0))
    assert arrived == lite0
    np.testing.assert_array_equal(arrived.load()(pattern(224)), lite0.load()(pattern(224)))


def test_a_backbone_prints_without_its_fourteen_megabytes(lite0):
    assert len(repr(lite0)) < 300


def test_the_graph_is_valid_onnx_with_the_promised_face(lite0):
    model = onnx.load_model_from_string(lite0.graph)
    onnx.checker.check_model(model, full_check=True)
    (pixels,), (vector,) = model.graph.input, model.graph.output
    assert (pixels.name, pixels.type.tensor_type.elem_type) == ("pixels", onnx.TensorProto.UINT8)
    assert [dim.dim_value for dim in pixels.type.tensor_type.shape.dim] == [0, 224, 224, 3]
    assert [dim.dim_value for dim in vector.type.tensor_type.shape.dim] == [0, 1280]


def test_the_fingerprint_is_the_same_on_every_machine(lite0):
    # If this fails, vectors changed: raise a version, and say in the changelog that runs start afresh.
    assert lite0.fingerprint == "7c82fd05351e4938"


def test_the_fingerprint_changes_with_the_image_size(lite0, cache):
    assert load_backbone("efficientnet_lite0", image_size=96, cache=cache).fingerprint != lite0.fingerprint


def test_a_built_graph_is_kept_and_found_again(tmp_path):
    built = load_backbone("efficientnet_lite0", image_size=32, cache=tmp_path)
    (entry,) = tmp_path.iterdir()
    assert entry.read_bytes() == built.graph
    assert load_backbone("efficientnet_lite0", image_size=32, cache=tmp_path).graph == built.graph


def test_a_damaged_cache_entry_is_built_again(tmp_path):
    built = load_backbone("efficientnet_lite0", image_size=32, cache=tmp_path)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(built.graph[:-1] + b"!")
    assert load_backbone("efficientnet_lite0", image_size=32, cache=tmp_path).graph == built.graph
    assert entry.read_bytes() == built.graph


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert load_backbone("efficientnet_lite0", image_size=32, cache=tmp_path / "file" / "cache").vector_length == 1280


def test_a_fused_model_gives_the_components_that_numpy_gives(lite0):
    rng = np.random.default_rng(0)
    mean, scale, components = rng.random(1280), rng.random(1280) + 0.5, rng.standard_normal((1280, 5))
    session = onnxruntime.InferenceSession(fuse(lite0, mean, scale, components))
    (answer,) = session.run(["components"], {"pixels": pattern(224)})
    expected = ((lite0.load()(pattern(224)) - mean) / scale) @ components
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-3)


def test_a_network_on_tensorflow_cannot_be_fused():
    backbone = Backbone("mobilenet_v2", "tensorflow", 224, 1280, "0" * 16, "signed", b"{}")
    with pytest.raises(SettingError, match="runs on tensorflow"):
        fuse(backbone, np.zeros(1280), np.ones(1280), np.ones((1280, 2)))


def test_lite0_is_at_hand_and_mobilenet_has_to_be_fetched(tmp_path):
    infos = {info.name: info for info in builtin_backbones(cache=tmp_path)}
    assert list(infos) == ["efficientnet_lite0", "mobilenet_v2"]
    assert infos["efficientnet_lite0"].at_hand
    assert not infos["mobilenet_v2"].at_hand
    assert infos["mobilenet_v2"].bytes == 9406464


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mobilenetv2", {}, "Did you mean mobilenet_v2?"),
        ("resnet50", {}, "efficientnet_lite0, mobilenet_v2, or the path of a FILE.onnx"),
        ("nowhere.onnx", {}, "where no file is"),
        ("nowhere.onnx", {"weights": "w.h5"}, "--weights only with a built-in network"),
        ("mobilenet_v2", {"weights": "nowhere.h5"}, "nowhere.h5"),
        ("efficientnet_lite0", {"engine": "tensorflow"}, "mobilenet_v2 or a FILE.keras with --engine tensorflow"),
        ("efficientnet_lite0", {"normalisation": "unit"}, "--normalisation only with a network from a file"),
        ("nowhere.onnx", {"normalisation": "loud"}, "signed, unit, imagenet, raw"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(name, options, message, tmp_path):
    with pytest.raises(SettingError) as caught:
        load_backbone(name, cache=tmp_path, **options)
    assert message in str(caught.value)


def test_neither_spark_nor_tensorflow_is_needed():
    code = "import sys, verger.backbone; print({'pyspark', 'tensorflow', 'keras', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
