"""Int8 networks: close to float32, small, the same every time, and refused with a reason where they cannot be had."""

import functools
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import mean_colour
from onnx import TensorProto, helper, numpy_helper

from verger.backbone import fuse, load_backbone
from verger.errors import SettingError
from verger.image import decode
from verger.quantise import int8_backbone, quantise
from verger.sample import KINDS, render

SIDE = 96


@functools.cache
def orchard(index):
    """One rendered photo of each kind: uint8 (12, 96, 96, 3)."""
    return np.stack([render(kind, index, side=SIDE) for kind in KINDS])


@pytest.fixture(scope="module")
def calibration():
    return np.concatenate([orchard(0), orchard(1)])


@pytest.fixture(scope="module")
def lite0():
    return load_backbone("efficientnet_lite0", image_size=SIDE)


@pytest.fixture(scope="module")
def int8(lite0, calibration):
    return quantise(lite0, calibration)


def cosine(one, other):
    return (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def int8_weights(graph):
    """The name of every int8 kernel, and the kernel."""
    tensors = onnx.load_model_from_string(graph).graph.initializer
    return {t.name: numpy_helper.to_array(t).astype(int) for t in tensors if t.data_type == TensorProto.INT8 and t.dims}


def test_vectors_stay_close_to_float32_on_photos_it_was_not_calibrated_on(lite0, int8):
    photos = orchard(2)
    exact, vectors = lite0.load()(photos), int8.load()(photos)
    assert (vectors.shape, vectors.dtype) == ((len(KINDS), 1280), np.float32)
    assert np.median(cosine(exact, vectors)) > 0.99
    assert cosine(exact, vectors).min() > 0.97
    assert np.abs((vectors - exact).mean()) < 0.02 * exact.mean()  # no drift: biases are corrected


def test_only_graph_fingerprint_and_precision_differ_from_float32(lite0, int8):
    assert int8 == replace(lite0, fingerprint=int8.fingerprint, precision="int8")
    assert len(int8.fingerprint) == 16
    assert int8.fingerprint != lite0.fingerprint
    assert int8_backbone(lite0, int8.graph) == int8  # a graph kept in a file is the same network again


def test_the_graph_is_less_than_a_third_of_float32(lite0, int8):
    assert len(int8.graph) < 0.3 * len(lite0.graph)


def test_the_graph_is_valid_standard_onnx_with_the_same_face(lite0, int8):
    model, before = onnx.load_model_from_string(int8.graph), onnx.load_model_from_string(lite0.graph)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.domain for entry in model.opset_import] == [""]
    assert list(model.graph.input) == list(before.graph.input)
    assert list(model.graph.output) == list(before.graph.output)


def test_all_convolutions_but_the_first_are_int8(int8):
    model = onnx.load_model_from_string(int8.graph)
    assert sum(node.op_type == "Conv" for node in model.graph.node) == 49
    kernels = [kernel for kernel in int8_weights(int8.graph).values() if kernel.ndim == 4]
    assert len(kernels) == 48


def test_no_pair_of_products_leaves_16_bits_as_processors_without_vnni_ask(int8):
    dense = [kernel for kernel in int8_weights(int8.graph).values() if kernel.ndim == 4 and kernel.shape[1] > 1]
    assert len(dense) == 32
    for kernel in dense:
        flat = kernel.reshape(len(kernel), -1)
        for signed in (flat, -flat):
            assert 255 * np.sort(np.maximum(signed, 0), axis=1)[:, -2:].sum(axis=1).max() <= 32_767


def test_the_same_photos_give_the_same_bytes_in_any_process(int8, calibration, tmp_path, tmp_path_factory):
    code = (
        "import numpy as np, sys; from verger.backbone import load_backbone; from verger.quantise import quantise;"
        f"made = quantise(load_backbone('efficientnet_lite0', image_size={SIDE}), np.load(sys.argv[1]));"
        "import hashlib; print(made.fingerprint, hashlib.sha256(made.graph).hexdigest())"
    )
    photos = tmp_path_factory.mktemp("photos") / "photos.npy"
    np.save(photos, calibration)
    command = [sys.executable, "-c", code, str(photos)]
    environment = os.environ | {"PYTHONHASHSEED": "7", "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split()[0] == int8.fingerprint
    assert done.stderr == ""
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {".ses"}  # no temporary file of ours stays behind; importing ONNX Runtime 1.31 leaves that one


def test_other_photos_give_another_fingerprint(lite0, int8, calibration):
    assert quantise(lite0, calibration[::2]).fingerprint != int8.fingerprint


def test_a_graph_that_looks_at_each_photo_twice_is_calibrated_like_one_that_looks_once(lite0, int8, calibration):
    model = onnx.load_model_from_string(lite0.graph)
    for node in model.graph.node:
        node.input[:] = ["twice" if name == "pixels" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Concat", ["pixels", "pixels"], ["twice"], axis=0))
    twice = quantise(replace(lite0, graph=model.SerializeToString()), calibration)
    session = onnxruntime.InferenceSession(twice.graph, providers=["CPUExecutionProvider"])
    vectors = session.run(["vector"], {"pixels": orchard(2)[:1]})[0]
    np.testing.assert_allclose(vectors[:1], int8.load()(orchard(2)[:1]), atol=1e-3)


def test_quantising_prints_nothing_and_leaves_logging_alone(lite0, calibration, capfd):
    handlers, disabled = list(logging.root.handlers), logging.root.manager.disable
    quantise(lite0, calibration[:1])
    assert capfd.readouterr() == ("", "")
    assert (logging.root.handlers, logging.root.manager.disable) == (handlers, disabled)


def test_an_int8_network_can_be_fused_with_its_projection(int8):
    mean, scale, components = np.zeros(1280), np.ones(1280), np.eye(1280, 3)
    session = onnxruntime.InferenceSession(fuse(int8, mean, scale, components))
    (answer,) = session.run(["components"], {"pixels": orchard(2)[:2]})
    np.testing.assert_allclose(answer, int8.load()(orchard(2)[:2])[:, :3], rtol=1e-4, atol=1e-5)


def small_network(path, *, opset=17, convolutions=2, biased=True, normalised=False):
    """An ONNX file as users have them: `convolutions` of 16 channels with ReLU, a residual sum, an average."""
    rng, nodes, constants, x = np.random.default_rng(3), [], [], "image"

    def constant(name, *shape):
        constants.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
        return name

    for i in range(convolutions):
        inputs = [x, constant(f"w{i}", 16, 3 if i == 0 else 16, 3, 3), *([constant(f"b{i}", 16)] if biased else [])]
        nodes.append(helper.make_node("Conv", inputs, [f"c{i}"], pads=[1, 1, 1, 1]))  # without a name: allowed
        if normalised:
            facts = [constant(f"{kind}{i}", 16) for kind in ("gamma", "beta", "mean")]
            constants.append(numpy_helper.from_array(np.full(16, 4.0, dtype=np.float32), f"variance{i}"))
            nodes.append(helper.make_node("BatchNormalization", [f"c{i}", *facts, f"variance{i}"], [f"n{i}"]))
        nodes.append(helper.make_node("Relu", [f"n{i}" if normalised else f"c{i}"], [f"r{i}"]))
        x = f"r{i}"
    nodes.append(helper.make_node("Add", [x, "r0"], ["answer"]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    answer = helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [image], [answer], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return load_backbone(str(path), image_size=SIDE)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="two convolutions"),
        pytest.param({"biased": False, "convolutions": 3}, id="without biases"),
        pytest.param({"normalised": True}, id="batch normalisation apart"),
        pytest.param({"opset": 9}, id="an old opset"),
        pytest.param({"opset": 21}, id="a new opset"),
    ],
)
def test_a_network_from_a_file_is_quantised_too(tmp_path, calibration, options):
    exact = small_network(tmp_path / "net.onnx", **options)
    int8 = quantise(exact, calibration)
    assert int8.name == "net"
    assert len([k for k in int8_weights(int8.graph).values() if k.ndim == 4]) == options.get("convolutions", 2) - 1
    assert cosine(exact.load()(orchard(2)), int8.load()(orchard(2))).min() > 0.995


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_network_of_infinite_numbers_is_refused(tmp_path, calibration, value):
    backbone = small_network(tmp_path / "net.onnx")
    model = onnx.load_model_from_string(backbone.graph)
    bias = next(t for t in model.graph.initializer if t.name == "network/b1")
    bias.CopyFrom(numpy_helper.from_array(np.full(16, value, dtype=np.float32), bias.name))
    with pytest.raises(SettingError, match="net"):
        quantise(replace(backbone, graph=model.SerializeToString()), calibration[:2])


def test_what_cannot_be_quantised_is_refused_with_a_reason(tmp_path, lite0, calibration):
    on_tensorflow = replace(lite0, engine="tensorflow", graph=json.dumps({}).encode())
    one_convolution = small_network(tmp_path / "net.onnx", convolutions=1)
    for backbone, photos, message in [
        (on_tensorflow, calibration, "runs on tensorflow"),
        (lite0, calibration[:0], "one photo or more to calibrate int8 on"),
        (lite0, calibration[:, ::2, ::2], r"uint8 \(24, 48, 48, 3\)"),
        (lite0, calibration.astype(np.float32), "float32"),
        (one_convolution, calibration, "fewer than two convolutions"),
        (mean_colour(), np.zeros((1, 32, 32, 3), dtype=np.uint8), "fewer than two convolutions"),
        (replace(lite0, graph=b"not a network"), calibration, "a network that can be quantised"),
    ]:
        with pytest.raises(SettingError, match=message):
            quantise(backbone, photos)


def test_real_photos_keep_their_neighbours_in_int8(real_photos):
    files = sorted(real_photos.glob("*/*/*.jpg"))[::200]
    photos = np.stack([decode(file.read_bytes(), SIDE, 10**7).pixels for file in files])
    backbone = load_backbone("efficientnet_lite0", image_size=SIDE)
    exact, vectors = backbone.load()(photos[1::2]), quantise(backbone, photos[::2]).load()(photos[1::2])
    assert np.median(cosine(exact, vectors)) > 0.98
    nearest = [np.argsort(cosine(each[None], exact))[-1] for each in vectors]
    assert nearest == list(range(len(exact)))
