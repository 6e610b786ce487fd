"""ONNX pieces: a small builder, and the wrapper that makes of any image network a function from pixels to vectors.

Every wrapped network has the same face: input `pixels`, uint8 `(n, side, side, 3)`, RGB; output `vector`, float32
`(n, d)`. Casting, normalising, transposing and averaging happen inside the graph, so that whatever runs it (a Spark
executor, the phone page, another language) cannot get them wrong.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

WRAPPER_VERSION = 2  # part of the fingerprint: raise it when the same network would give other vectors
OPSET, IR_VERSION = 13, 8  # old enough for every ONNX runtime of the last years

Layout = Literal["nchw", "nhwc"]

# (x − offset) / scale, for red, green and blue in 0..255.
NORMALISATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "signed": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),  # x / 127.5 − 1
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),  # torchvision's mean and deviation, times 255
    "raw": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "lite": ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),  # EfficientNet-Lite's own
}


@dataclass(frozen=True)
class ImageInput:
    """What a network wants to be fed."""

    name: str
    layout: Layout
    element: int  # TensorProto.FLOAT, FLOAT16 or UINT8


@dataclass(frozen=True)
class Output:
    """What a network answers with: already a vector, or a feature map that is to be averaged over space."""

    kind: Literal["vector", "nchw", "nhwc"]
    length: int  # of the vector, d


class GraphBuilder:
    """Collects nodes and constants; every `add` names its result and returns the name."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._scalars: dict[float, str] = {}

    def add(self, operator: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """Append a node; returns the name of its only output."""
        name = output or f"{self.prefix}{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value: NDArray[Any]) -> str:
        """Append a constant tensor; returns its name."""
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def scalar(self, value: float) -> str:
        """A float32 constant without dimensions, made once."""
        if value not in self._scalars:
            self._scalars[value] = self.constant(np.array(value, dtype=np.float32))
        return self._scalars[value]

    def model(self, output: str, image_channels: int) -> ModelProto:
        """The network `image` float32 `(n, channels, height, width)` → `output`, a feature map."""
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", image_channels, "height", "width"])
        features = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", "d", "h", "w"])
        graph = helper.make_graph(self.nodes, "network", [image], [features], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def wrap(network: ModelProto, image: ImageInput, side: int, normalisation: str, output: Output | None) -> bytes:
    """The network with `pixels` in front and `vector` behind, serialised.

    Args:
        network: is not changed.
        image: the network's input.
        side: of the square photos, in pixels.
        normalisation: a key of `NORMALISATIONS`.
        output: the network's first output. None leaves it as it is, whatever its shape, and calls it `vector` all
            the same: for a trial run.
    """
    model = ModelProto()
    model.CopyFrom(network)
    graph = model.graph
    _prefix_names(graph)
    opset = next(imported.version for imported in model.opset_import if imported.domain in ("", "ai.onnx"))
    before = _pixels_to_image(image, normalisation, opset)
    after = _output_to_vector("network/" + network.graph.output[0].name, output)
    nodes = [*before.nodes, *graph.node, *after.nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(before.constants)
    # Constants listed among the inputs could be overridden by a caller, so runtimes do not fold them. And what the
    # exporter wrote about shapes inside may hold for its own batch size only.
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", side, side, 3]))
    shape: list[str | int | None] | None = ["n", output.length] if output else None
    graph.output.append(helper.make_tensor_value_info("vector", TensorProto.FLOAT, shape))
    model.ir_version = max(model.ir_version, 4)  # from 4 on, constants need not be inputs
    return bytes(model.SerializeToString())


def _prefix_names(graph: GraphProto) -> None:
    """Put `network/` before every name, subgraphs included, so that ours cannot collide with the network's own."""
    for node in graph.node:
        node.name = "network/" + node.name if node.name else ""
        for names in (node.input, node.output):
            names[:] = ["network/" + name if name else "" for name in names]  # empty: an input left out
        for attribute in node.attribute:
            for inner in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                _prefix_names(inner)
    for named in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        named.name = "network/" + named.name
    for sparse in graph.sparse_initializer:
        sparse.values.name = "network/" + sparse.values.name
    del graph.quantization_annotation[:]  # refers to tensors by name; runtimes do not use it


def _pixels_to_image(image: ImageInput, normalisation: str, opset: int) -> GraphBuilder:
    builder = GraphBuilder("verger/before/")
    x = "pixels"
    if image.layout == "nchw":  # first of all: transposing bytes is four times cheaper than transposing floats
        x = builder.add("Transpose", [x], perm=[0, 3, 1, 2])
    if image.element != TensorProto.UINT8:
        offset, scale = (np.array(value, dtype=np.float32) for value in NORMALISATIONS[normalisation])
        if opset >= 10 and len({*offset}) == len({*scale}) == 1:
            x = _normalise_in_one(builder, x, float(offset[0]), float(scale[0]))
        else:
            channels = (1, 3, 1, 1) if image.layout == "nchw" else (1, 1, 1, 3)
            x = builder.add("Cast", [x], to=TensorProto.FLOAT)
            x = builder.add("Sub", [x, builder.constant(offset.reshape(channels))])
            x = builder.add("Div", [x, builder.constant(scale.reshape(channels))])
    builder.add("Cast", [x], "network/" + image.name, to=image.element)  # runtimes drop it where it does nothing
    return builder


def _normalise_in_one(builder: GraphBuilder, x: str, offset: float, scale: float) -> str:
    """(x − offset) / scale of bytes in a single pass, or in two where the offset is no whole number.

    Cast, subtraction and division would be three, together a thirtieth of the network's time.
    """
    whole = int(offset)
    zero = builder.constant(np.array(whole, dtype=np.uint8))
    x = builder.add("DequantizeLinear", [x, builder.scalar(1 / scale), zero])
    return builder.add("Sub", [x, builder.scalar((offset - whole) / scale)]) if offset != whole else x


def _output_to_vector(x: str, output: Output | None) -> GraphBuilder:
    builder = GraphBuilder("verger/after/")
    kind = output.kind if output else "vector"
    x = builder.add("Cast", [x], None if kind != "vector" else "vector", to=TensorProto.FLOAT)
    if kind == "nhwc":
        x = builder.add("Transpose", [x], perm=[0, 3, 1, 2])
    if kind != "vector":
        builder.add("Flatten", [builder.add("GlobalAveragePool", [x])], "vector", axis=1)
    return builder


def add_projection(
    graph: bytes,
    mean: NDArray[np.floating[Any]],
    scale: NDArray[np.floating[Any]],
    components: NDArray[np.floating[Any]],
) -> bytes:
    """A wrapped network with a projection behind: `pixels` → `components` float32 `(n, k)`.

    Args:
        graph: from `wrap`; `vector` has d entries.
        mean: `(d,)`, subtracted first.
        scale: `(d,)`, divided by next; ones where vectors were not standardised.
        components: `(d, k)`.
    """
    model = ModelProto.FromString(graph)
    builder = GraphBuilder("verger/projection/")
    centred = builder.add("Sub", ["vector", builder.constant(np.asarray(mean, dtype=np.float32))])
    matrix = np.asarray(components, dtype=np.float64) / np.asarray(scale, dtype=np.float64)[:, None]
    builder.add("MatMul", [centred, builder.constant(matrix.astype(np.float32))], "components")
    model.graph.node.extend(builder.nodes)
    model.graph.initializer.extend(builder.constants)
    del model.graph.output[:]
    shape = ["n", matrix.shape[1]]
    model.graph.output.append(helper.make_tensor_value_info("components", TensorProto.FLOAT, shape))
    return bytes(model.SerializeToString())
