"""Weights files of Keras in both layouts, where they come from, and everything that can be wrong with them."""

import functools
import http.server
import io
import threading

import h5py
import numpy as np
import pytest

from verger.architectures import EFFICIENTNET_LITE0, MOBILENET_V2, LayerWeights, convolutions, fold, same_padding
from verger.backbone import builtin_backbones, load_backbone
from verger.errors import SettingError
from verger.weights import keras_names, read_keras, to_keras_order, torch_names

WANTED = convolutions(MOBILENET_V2)
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


@pytest.fixture(scope="module")
def layers():
    rng = np.random.default_rng(0)
    return [
        LayerWeights(rng.standard_normal(c.shape, np.float32), *rng.random((4, c.outputs), np.float32)) for c in WANTED
    ]


def legacy_file(layers, rename=lambda name: name):
    """As Keras 2 wrote the official file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        order = []
        for convolution, layer in zip(WANTED, layers, strict=True):
            kernel = "depthwise_kernel" if convolution.kind == "depthwise" else "kernel"
            for name, parts, arrays in zip(
                map(rename, keras_names(convolution)),
                [(kernel,), NORM],
                to_keras_order(convolution, layer),
                strict=True,
            ):
                names = [f"{name}/{part}:0" for part in parts]
                group = file.create_group(name)
                group.attrs["weight_names"] = [n.encode() for n in names]
                for n, array in zip(names, arrays, strict=True):
                    group[n] = array
                order += [name, f"{name}_relu"]
                file.create_group(f"{name}_relu").attrs["weight_names"] = np.empty(0)
        file.attrs["layer_names"] = [name.encode() for name in order]
    return buffer.getvalue()


def keras3_file(layers):
    """As Keras 3 writes `.weights.h5`: numbered by class, in order of creation."""
    buffer = io.BytesIO()
    counts = {}
    with h5py.File(buffer, "w") as file:
        for convolution, layer in zip(WANTED, layers, strict=True):
            kinds = ("depthwise_conv2d" if convolution.kind == "depthwise" else "conv2d", "batch_normalization")
            for kind, arrays in zip(kinds, to_keras_order(convolution, layer), strict=True):
                number = counts[kind] = counts.get(kind, -1) + 1
                for index, array in enumerate(arrays):
                    file[f"layers/{kind}_{number}/vars/{index}" if number else f"layers/{kind}/vars/{index}"] = array
    return buffer.getvalue()


def changed(content, change):
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        change(file)
    return buffer.getvalue()


def assert_same(found, layers):
    for one, other in zip(found, layers, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_official_layout_is_read(layers):
    assert_same(read_keras(legacy_file(layers), WANTED), layers)


def test_the_official_layout_is_read_in_order_where_layers_have_other_names(layers):
    assert_same(read_keras(legacy_file(layers, rename=lambda name: f"mobl_{name}"), WANTED), layers)


def test_the_layout_of_keras_3_is_read(layers):
    assert_same(read_keras(keras3_file(layers), WANTED), layers)


def replace_kernel(file):
    del file["Conv1/Conv1/kernel:0"]
    file["Conv1/Conv1/kernel:0"] = np.zeros((3, 3, 3, 16), np.float32)


def spoil_mean(file):
    file["bn_Conv1/bn_Conv1/moving_mean:0"][3] = np.nan


def forget_layer(file):
    del file["block_7_project"], file.attrs["layer_names"]


@pytest.mark.parametrize(
    ("change", "expected", "received"),
    [
        (replace_kernel, "tensor `Conv1/kernel` of shape (32, 3, 3, 3)", "shape (16, 3, 3, 3)"),
        (spoil_mean, "tensor `bn_Conv1/moving_mean` of finite floats", "float32, or not finite"),
        (forget_layer, "a tensor `block_7_project/kernel`", "weights without it"),
    ],
)
def test_weights_that_do_not_fit_are_named(layers, change, expected, received):
    with pytest.raises(SettingError) as caught:
        read_keras(changed(legacy_file(layers), change), WANTED)
    assert caught.value.expected == expected
    assert received in caught.value.received


@pytest.fixture
def server(layers, tmp_path):
    """A real server of the official file's double."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "right.h5").write_bytes(legacy_file(layers))
    (tmp_path / "served" / "wrong.h5").write_bytes(changed(legacy_file(layers), forget_layer))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def serve(monkeypatch, address, tmp_path):
    monkeypatch.setattr("verger.weights.MOBILENET_URL", address)
    length = (tmp_path / "served" / address.split("/")[-1]).stat().st_size
    monkeypatch.setattr("verger.weights.MOBILENET_BYTES", length)


def test_the_official_weights_are_fetched_once_and_kept(monkeypatch, server, tmp_path):
    serve(monkeypatch, f"{server}/right.h5", tmp_path)
    fetched = load_backbone("mobilenet_v2", image_size=32, cache=tmp_path / "cache")
    monkeypatch.setattr("verger.weights.MOBILENET_URL", f"{server}/gone.h5")
    assert load_backbone("mobilenet_v2", image_size=48, cache=tmp_path / "cache").image_size == 48
    given = str(tmp_path / "served" / "right.h5")
    assert load_backbone("mobilenet_v2", weights=given, image_size=32).fingerprint == fetched.fingerprint
    assert builtin_backbones(tmp_path / "cache")[1].at_hand


def test_fetched_weights_that_do_not_fit_are_not_kept(monkeypatch, server, tmp_path):
    serve(monkeypatch, f"{server}/wrong.h5", tmp_path)
    with pytest.raises(SettingError, match="block_7_project"):
        load_backbone("mobilenet_v2", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", [b"", b"not HDF5", pytest.param("truncated", id="truncated")])
def test_what_is_not_hdf5_is_refused(layers, content):
    content = keras3_file(layers)[:100_000] if content == "truncated" else content
    with pytest.raises(SettingError, match="Keras weights file in HDF5 format"):
        read_keras(content, WANTED)


def test_folding_does_the_work_of_batch_normalisation():
    rng = np.random.default_rng(1)
    kernel, x = rng.standard_normal((4, 3, 1, 1), np.float32), rng.standard_normal(3)
    gamma, beta, mean, variance = rng.random((4, 4), np.float32)
    folded, bias = fold(LayerWeights(kernel, gamma, beta, mean, variance))
    expected = gamma * (kernel[:, :, 0, 0] @ x - mean) / np.sqrt(variance + 1e-3) + beta
    np.testing.assert_allclose(folded[:, :, 0, 0] @ x + bias, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [
        (224, 3, 2, (0, 1)),
        (97, 3, 2, (1, 1)),
        (28, 5, 2, (1, 2)),
        (25, 5, 2, (2, 2)),
        (7, 5, 1, (2, 2)),
        (7, 1, 1, (0, 0)),
    ],
)
def test_padding_is_that_of_tensorflow(side, kernel, stride, padding):
    assert same_padding(side, kernel, stride) == padding


def test_both_networks_have_the_published_number_of_parameters():
    def parameters(stages):  # kernels, and the two trained vectors of each batch normalisation
        return sum(int(np.prod(c.shape)) + 2 * c.outputs for c in convolutions(stages))

    assert parameters(MOBILENET_V2) == 2_223_872  # Keras: 2,257,984 without the top, 34,112 of them not trainable
    assert parameters(EFFICIENTNET_LITE0) == 4_652_008 - 1_281_000  # 4.7 million with the classifier


def test_names_are_those_of_the_two_libraries():
    lite0 = convolutions(EFFICIENTNET_LITE0)
    assert torch_names(lite0[0]) == ("_conv_stem", "_bn0")
    assert torch_names(lite0[3]) == ("_blocks.1._expand_conv", "_blocks.1._bn0")
    assert torch_names(lite0[-1]) == ("_conv_head", "_bn1")
    assert keras_names(WANTED[1]) == ("expanded_conv_depthwise", "expanded_conv_depthwise_BN")
    assert keras_names(WANTED[-1]) == ("Conv_1", "Conv_1_bn")
