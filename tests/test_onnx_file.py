"""Networks from ONNX files of any origin."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from verger.backbone import load_backbone
from verger.errors import SettingError
from verger.graph import NORMALISATIONS

PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
MIX = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)  # the network: five mixtures of the colours


def network(
    path, shape, nodes, *, element=TensorProto.FLOAT, names=("image", "answer"), opset=17, ir_version=8, listed=False
):
    """Save a network of `nodes` whose constants are `mix` (5, 3, 1, 1) and `axes`, (2, 3)."""
    source, target = names
    constants = [
        numpy_helper.from_array(MIX.reshape(5, 3, 1, 1), "mix"),
        numpy_helper.from_array(np.array([2, 3]), "axes"),
    ]
    inputs = [helper.make_tensor_value_info(source, element, shape)]
    if listed:  # as exporters did before IR version 4
        inputs += [helper.make_tensor_value_info(c.name, c.data_type, c.dims) for c in constants]
    output = helper.make_tensor_value_info(target, element if element != TensorProto.UINT8 else TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", inputs, [output], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version), path)
    return str(path)


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs.split(), [output], **attributes)


CONV = [node("Conv", "image mix", "answer")]
TO_NCHW = node("Transpose", "image", "t", perm=[0, 3, 1, 2])
FLAT = [node("Conv", "image mix", "c"), node("GlobalAveragePool", "c", "p"), node("Flatten", "p", "answer")]


def expected(normalisation):
    """Averaging over space and mixing colours commute."""
    offset, scale = (np.array(values) for values in NORMALISATIONS[normalisation])
    return (((PHOTOS - offset) / scale).mean(axis=(1, 2)) @ MIX.T).astype(np.float32)


def vectors(path, **options):
    backbone = load_backbone(path, image_size=8, **options)
    assert backbone.vector_length == 5
    return backbone.normalisation, backbone.load()(PHOTOS)


@pytest.mark.parametrize(
    ("shape", "nodes", "normalisation"),
    [
        pytest.param(["n", 3, "h", "w"], CONV, "imagenet", id="feature map, channels first, any size"),
        pytest.param(["n", 3, 8, 8], FLAT, "imagenet", id="vector, channels first"),
        pytest.param([1, 3, 8, 8], FLAT, "imagenet", id="made for one photo at a time"),
        pytest.param(
            ["n", 8, 8, 3],
            [TO_NCHW, node("Conv", "t mix", "c"), node("Transpose", "c", "answer", perm=[0, 2, 3, 1])],
            "signed",
            id="feature map, channels last",
        ),
        pytest.param(
            ["n", 8, 8, 3],
            [TO_NCHW, node("Conv", "t mix", "answer")],
            "signed",
            id="feature map, channels first, from channels last",
        ),
    ],
)
def test_every_usual_network_becomes_pixels_to_vectors(tmp_path, shape, nodes, normalisation):
    chosen, answer = vectors(network(tmp_path / "net.onnx", shape, nodes))
    assert chosen == normalisation
    np.testing.assert_allclose(answer, expected(normalisation), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalisation", ["signed", "unit", "imagenet", "raw", "lite"])
def test_the_normalisation_asked_for_is_done(tmp_path, normalisation):
    path = network(tmp_path / "net.onnx", ["n", 3, 8, 8], CONV)
    chosen, answer = vectors(path, normalisation=normalisation)
    assert chosen == normalisation
    np.testing.assert_allclose(answer, expected(normalisation), rtol=1e-4, atol=1e-4)


def test_a_network_of_half_precision_is_fed_and_read_as_such(tmp_path):
    nodes = [node("Cast", "mix", "half", to=TensorProto.FLOAT16), node("Conv", "image half", "answer")]
    _, answer = vectors(network(tmp_path / "net.onnx", ["n", 3, 8, 8], nodes, element=TensorProto.FLOAT16))
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, expected("imagenet"), rtol=0.01, atol=0.01)


def test_a_network_of_bytes_normalises_by_itself(tmp_path):
    nodes = [node("Cast", "image", "f", to=TensorProto.FLOAT), node("Conv", "f mix", "answer")]
    path = network(tmp_path / "net.onnx", ["n", 3, 8, 8], nodes, element=TensorProto.UINT8)
    chosen, answer = vectors(path)
    assert chosen == "raw"
    np.testing.assert_allclose(answer, expected("raw"), rtol=1e-4, atol=1e-3)
    with pytest.raises(SettingError, match="takes bytes"):
        load_backbone(path, image_size=8, normalisation="signed")


def test_names_inside_the_network_may_be_ours(tmp_path):
    nodes = [node("Relu", "pixels", "relu"), node("Conv", "relu mix", "vector")]
    path = network(tmp_path / "net.onnx", ["n", 3, 8, 8], nodes, names=("pixels", "vector"))
    np.testing.assert_allclose(vectors(path, normalisation="unit")[1], expected("unit"), rtol=1e-4, atol=1e-5)


def test_a_network_that_verger_made_is_a_network_like_any_other(tmp_path):
    nodes = [node("Relu", "pixels", "relu"), node("Conv", "relu mix", "vector")]
    path = network(tmp_path / "net.onnx", ["n", 3, 8, 8], nodes, names=("pixels", "vector"))
    made = load_backbone(path, image_size=8, normalisation="unit")
    (tmp_path / "made.onnx").write_bytes(made.graph)
    np.testing.assert_allclose(vectors(tmp_path / "made.onnx")[1], expected("unit"), rtol=1e-4, atol=1e-5)


def test_subgraphs_may_use_names_from_outside(tmp_path):
    then = helper.make_graph([node("Conv", "image mix", "yes")], "then", [], [_any("yes")])
    other = helper.make_graph([node("Conv", "image mix", "c"), node("Neg", "c", "no")], "else", [], [_any("no")])
    nodes = [
        node("ReduceMax", "image", "m", keepdims=0),
        node("Greater", "m m", "never"),
        helper.make_node("If", ["never"], ["answer"], then_branch=then, else_branch=other),
    ]
    path = network(tmp_path / "net.onnx", ["n", 3, 8, 8], nodes)
    np.testing.assert_allclose(vectors(path, normalisation="unit")[1], -expected("unit"), rtol=1e-4, atol=1e-5)


def _any(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def test_old_files_list_their_constants_among_the_inputs(tmp_path):
    path = network(tmp_path / "net.onnx", ["n", 3, 8, 8], CONV, opset=8, ir_version=3, listed=True)
    np.testing.assert_allclose(vectors(path)[1], expected("imagenet"), rtol=1e-4, atol=1e-5)


def test_weights_kept_beside_the_file_travel_with_it(tmp_path):
    path = network(tmp_path / "net.onnx", ["n", 3, 8, 8], CONV)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="net.data", size_threshold=0)
    before = load_backbone(path, image_size=8)
    np.testing.assert_allclose(before.load()(PHOTOS), expected("imagenet"), rtol=1e-4, atol=1e-5)
    data = bytearray((tmp_path / "net.data").read_bytes())
    data[3] ^= 1
    (tmp_path / "net.data").write_bytes(data)
    assert load_backbone(path, image_size=8).fingerprint != before.fingerprint
    (tmp_path / "net.data").unlink()
    with pytest.raises(SettingError, match="external data"):
        load_backbone(path, image_size=8)


def test_a_renamed_file_keeps_its_fingerprint(tmp_path):
    path = network(tmp_path / "net.onnx", ["n", 3, 8, 8], CONV)
    one = load_backbone(path, image_size=8)
    (tmp_path / "net.onnx").rename(tmp_path / "other.onnx")
    other = load_backbone(str(tmp_path / "other.onnx"), image_size=8)
    assert (one.name, other.name) == ("net", "other")
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("shape", "nodes", "message"),
    [
        ([1, 3, 16, 16], CONV, "Give --image-size 16."),
        (["n", 3, 8, 16], CONV, "8 × 16 pixels"),
        (["n", 1, 8, 8], [node("Relu", "image", "answer")], "a batch of RGB images"),
        (["n", 3], [node("Relu", "image", "answer")], "a batch of RGB images"),
        (
            ["n", 3, 8, 8],
            [node("ReduceMean", "image", "answer", axes=[1, 2, 3], keepdims=0)],
            "a vector or a feature map",
        ),
        (["n", 3, 8, 8], [node("Nonsense", "image", "answer")], "Nonsense"),
    ],
)
def test_what_cannot_be_a_backbone_is_refused_with_a_reason(tmp_path, shape, nodes, message):
    path = network(tmp_path / "net.onnx", shape, nodes)
    with pytest.raises(SettingError) as caught:
        load_backbone(path, image_size=8)
    assert message in str(caught.value)


@pytest.mark.parametrize("shape", [[1, 5], [1, -1]])
def test_a_network_that_insists_on_one_photo_at_a_time_is_refused(tmp_path, shape):
    nodes = [*FLAT[:2], node("Constant", "", "shape", value_ints=shape), node("Reshape", "p shape", "answer")]
    path = network(tmp_path / "net.onnx", [1, 3, 8, 8], nodes)
    with pytest.raises(SettingError, match="dynamic batch size"):
        load_backbone(path, image_size=8)


def test_a_network_of_two_inputs_is_refused(tmp_path):
    path = network(tmp_path / "net.onnx", ["n", 3, 8, 8], CONV)
    model = onnx.load(path)
    del model.graph.initializer[0]
    model.graph.input.append(helper.make_tensor_value_info("mix", TensorProto.FLOAT, [5, 3, 1, 1]))
    onnx.save(model, path)
    with pytest.raises(SettingError, match="with 2"):
        load_backbone(path, image_size=8)


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x08\x12\x04test"])
def test_what_is_not_onnx_is_refused(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(SettingError, match="an ONNX file"):
        load_backbone(str(tmp_path / "net.onnx"))


def test_a_file_for_onnx_does_not_run_on_tensorflow(tmp_path):
    path = network(tmp_path / "net.onnx", ["n", 3, 8, 8], CONV)
    with pytest.raises(SettingError, match="--engine onnx"):
        load_backbone(path, image_size=8, engine="tensorflow")
