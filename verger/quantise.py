"""A network in float32 → the same network in int8: a quarter of the size, almost twice as fast.

Static, per channel, with what measuring (benchmarks/accuracy.py) showed to pay, and nothing else:

- ONNX Runtime's quantiser puts QuantizeLinear and DequantizeLinear between the layers: standard ONNX. Activations are
  uint8 within the range seen on the photos, weights int8.
- The first convolution stays float: there is no fast int8 kernel for three channels. So does what follows the last:
  averages rounded to 8 bits would lose most of a vector.
- Rounding weights shifts the mean of a layer's output; its bias takes the shift back. M. Nagel et al., "Data-Free
  Quantization Through Weight Equalization and Bias Correction", ICCV 2019, arXiv:1906.04721, section 4.2.
- Weights are scaled so that processors with and without VNNI compute the same. See `_weight_scales`.
"""

import contextlib
import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes
from onnx.version_converter import convert_version
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from verger.errors import SettingError
from verger.graph import IR_VERSION, OPSET, GraphBuilder
from verger.network import Backbone, open_session

QUANTISATION_VERSION = 1  # part of the fingerprint: raise it when the same photos would give another graph
BATCH_PHOTOS = 2  # calibrated at a time: every layer's activations are held at once, some 50 MB a photo
_FOLLOWERS = ("Clip", "Relu", "MaxPool")  # int8 where their input is
_ERRORS = (
    ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.InvalidProtobuf, ort.NotImplemented, ort.RuntimeException,
    ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip

# A tensor on all calibration photos: lowest value, highest value, and what it is on average, with a batch of one.
_Observed = tuple[np.float32, np.float32, NDArray[np.float32]]


def quantise(backbone: Backbone, photos: NDArray[np.uint8]) -> Backbone:
    """The network in int8, calibrated on photos like those that it will see; 64 of them are plenty.

    The same photos give the same graph, that the same fingerprint. Only convolutions, and what follows, become int8.

    Args:
        backbone: a network on ONNX.
        photos: uint8 `(n, size, size, 3)`, RGB, n ≥ 1, as `verger.image.decode` gives them.

    Raises:
        SettingError: the network runs on TensorFlow, there is no photo, or the network cannot be quantised.
    """
    if backbone.engine != "onnx":
        received = f"{backbone.name}, which runs on {backbone.engine}"
        raise SettingError("a network that runs on ONNX, for int8", received, "Give --engine onnx, or use float32.")
    side = backbone.image_size
    if photos.ndim != 4 or len(photos) == 0 or photos.shape[1:] != (side, side, 3) or photos.dtype != np.uint8:
        expected = f"one photo or more to calibrate int8 on, uint8 (n, {side}, {side}, 3)"
        raise SettingError(expected, f"{photos.dtype} {photos.shape}", "Give photos that can be read, or use float32.")
    try:
        model = _prepared(backbone.graph)
        nodes = _nodes_to_quantise(model)
        with _silence():
            graph = _quantised(model, nodes, _observe(model, nodes, photos))
        open_session(graph, quiet=True)  # a trial
    except _ERRORS as error:
        received = f"{backbone.name}: {error}"
        raise SettingError("a network that can be quantised to int8", received, "Use float32.") from error
    return int8_backbone(backbone, graph)


def int8_backbone(backbone: Backbone, graph: bytes) -> Backbone:
    """The float32 network as the int8 network with that graph, which `quantise` made of it."""
    facts = json.dumps([backbone.fingerprint, QUANTISATION_VERSION, hashlib.sha256(graph).hexdigest()])
    fingerprint = hashlib.sha256(facts.encode()).hexdigest()[:16]
    return replace(backbone, graph=graph, fingerprint=fingerprint, precision="int8")


def _prepared(graph: bytes) -> ModelProto:
    """The network with constants folded, batch normalisation merged into convolutions, shapes known, nodes named."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(file)
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        model = ModelProto.FromString(file.read_bytes())
    used = {"", *(node.domain for node in model.graph.node)}
    opsets = {entry.domain: entry.version for entry in model.opset_import if entry.domain in used}
    del model.opset_import[:]  # the runtime lists all that it knows
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in opsets.items())
    if opsets[""] < OPSET:  # 13, the first with a scale for each channel
        model = convert_version(model, OPSET)
    _spell_out_dequantising(model.graph)
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    return infer_shapes(model)


def _spell_out_dequantising(graph: GraphProto) -> None:
    """DequantizeLinear of the pixels → Cast, Sub and Mul, with the same result.

    ONNX Runtime takes a float convolution between DequantizeLinear and QuantizeLinear for one whose weights were left
    out by mistake, and rounds them itself, all channels by one scale: cosines to float32 fall from 0.99 to 0.90.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = list(graph.node)
    for index, node in enumerate(nodes):
        if node.op_type == "DequantizeLinear" and node.input[0] not in constants:
            scale, zero = (constants[name].astype(np.float32) for name in node.input[1:])
            builder = GraphBuilder("verger/pixels/")
            x = builder.add("Sub", [builder.add("Cast", [node.input[0]], to=TensorProto.FLOAT), builder.constant(zero)])
            builder.add("Mul", [x, builder.constant(scale)], node.output[0])
            del graph.node[:]
            graph.node.extend([*nodes[:index], *builder.nodes, *nodes[index + 1 :]])
            graph.initializer.extend(builder.constants)
            return


def _nodes_to_quantise(model: ModelProto) -> list[NodeProto]:
    """Every convolution of constant weights but the first, and what can follow in int8."""
    constants = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    chosen: list[NodeProto] = []
    quantised: set[str] = set()  # tensors
    first = next((node.name for node in model.graph.node if node.op_type == "Conv"), "")
    for node in model.graph.node:
        if node.op_type == "Conv":
            wanted = node.name != first and {constants.get(t) for t in node.input[1:] if t} == {TensorProto.FLOAT}
        elif node.op_type == "Add":
            wanted = not quantised.isdisjoint(node.input) and constants.keys().isdisjoint(node.input)
        else:
            wanted = node.op_type in _FOLLOWERS and node.input[0] in quantised
        if wanted:
            chosen.append(node)
            quantised.add(node.output[0])
    if not chosen:
        raise ValueError("it has fewer than two convolutions with constant float32 weights")
    return chosen


def _observe(model: ModelProto, nodes: Sequence[NodeProto], photos: NDArray[np.uint8]) -> dict[str, _Observed]:
    """Range and mean of what goes into and comes out of the nodes, photo by photo."""
    constants = {tensor.name for tensor in model.graph.initializer}
    names = list(dict.fromkeys(t for node in nodes for t in (*node.input, *node.output) if t and t not in constants))
    probe = ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = open_session(probe.SerializeToString(), quiet=True)
    low, high, total = np.full(len(names), np.inf), np.full(len(names), -np.inf), [np.zeros(1, np.float32)] * len(names)
    for start in range(0, len(photos), BATCH_PHOTOS):
        answers: Any = session.run(names, {"pixels": np.ascontiguousarray(photos[start : start + BATCH_PHOTOS])})
        low = np.minimum(low, [values.min() for values in answers])
        high = np.maximum(high, [values.max() for values in answers])
        if not np.isfinite([low, high]).all():
            raise ValueError("it answers with inf or nan")
        total = [before + values.sum(axis=0, keepdims=True) for before, values in zip(total, answers, strict=True)]
    looks = len(photos) * (len(answers[0]) // len(photos[start:]))  # a graph may look at each photo several times
    means = [(each / looks).astype(np.float32) for each in total]
    return dict(zip(names, zip(low.astype(np.float32), high.astype(np.float32), means, strict=True), strict=True))


def _quantised(model: ModelProto, nodes: Sequence[NodeProto], observed: dict[str, _Observed]) -> bytes:
    """The network with its nodes quantised, biases corrected."""
    from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType  # a third of a second
    from onnxruntime.quantization.calibrate import TensorsData

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    overrides, convolutions = {}, []
    for node in nodes:
        if node.op_type == "Conv":
            kernel = numpy_helper.to_array(constants[node.input[1]])
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            scales = _weight_scales(kernel, depthwise=kernel.shape[1] == 1 and groups == len(kernel))
            overrides[node.input[1]] = [
                {"quant_type": QuantType.QInt8, "scale": scale, "zero_point": np.int8(0), "axis": 0} for scale in scales
            ]
            steps = scales.reshape(-1, *[1] * (kernel.ndim - 1))
            convolutions.append((node, (kernel - np.rint(kernel / steps) * steps).astype(np.float32)))
    shifts = _output_shifts(convolutions, observed)
    for (node, _), shift in zip(convolutions, shifts, strict=True):
        bias = numpy_helper.to_array(constants[node.input[2]]) if node.input[2:3] not in ([], [""]) else 0.0
        name = f"{node.name}_corrected_bias"
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(bias + shift, dtype=np.float32), name))
        node.input[:] = [*node.input[:2], name]
    quantiser = QDQQuantizer(
        model, per_channel=True, reduce_range=False, weight_qType=QuantType.QInt8, activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, {name: seen[:2] for name, seen in observed.items()}),
        nodes_to_quantize=[node.name for node in nodes], nodes_to_exclude=[],
        op_types_to_quantize=["Conv", *_FOLLOWERS, "Add"], extra_options={"TensorQuantOverrides": overrides},
    )  # fmt: skip
    quantiser.quantize_model()
    quantiser.model.topological_sort()
    del quantiser.model.model.graph.value_info[:]
    return bytes(quantiser.model.model.SerializeToString())


def _weight_scales(kernel: NDArray[np.float32], *, depthwise: bool) -> NDArray[np.float32]:
    """The step between neighbouring int8 weights of each output channel, `(outputs,)`.

    A processor without VNNI adds pairs a₀w₀ + a₁w₁ (a uint8, w int8) in 16 bits and cuts off what does not fit. When
    the two largest weights of one sign make at most 127 steps together, they make at most 128 when rounded, and
    255 × 128 fits. (`reduce_range` does the same by halving all weights, and loses a whole bit.) Depthwise convolutions
    add in 32 bits.
    """
    flat = kernel.reshape(len(kernel), -1)
    largest = np.abs(flat).max(axis=1)
    if not depthwise:
        for signed in (np.maximum(flat, 0), np.maximum(-flat, 0)):
            largest = np.maximum(largest, np.sort(signed, axis=1)[:, -2:].sum(axis=1))
    return (np.where(largest > 0, largest, 1) / 127).astype(np.float32)


def _output_shifts(
    convolutions: Sequence[tuple[NodeProto, NDArray[np.float32]]], observed: dict[str, _Observed]
) -> list[NDArray[np.float32]]:
    """By how much rounding moved the mean of each output channel, `(outputs,)` for every convolution.

    Convolutions are linear: what the lost part of the weights makes of the mean photo is the mean of what it would make
    of the photos.
    """
    builder, feeds, outputs = GraphBuilder("shifts/"), {}, []
    for node, lost in convolutions:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        feeds[node.input[0]] = observed[node.input[0]][2]
        outputs.append(builder.add("Conv", [node.input[0], builder.constant(lost)], **attributes))
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, mean.shape) for name, mean in feeds.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(builder.nodes, "shifts", inputs, ends, builder.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    answers: Any = open_session(model.SerializeToString(), quiet=True).run(outputs, feeds)
    return [answer.mean(axis=(0, *range(2, answer.ndim))) for answer in answers]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """ONNX Runtime's quantiser logs to the root logger, which would get a handler for standard error by that."""
    logging.root.addHandler(handler := logging.NullHandler())
    try:
        yield
    finally:
        logging.root.removeHandler(handler)
