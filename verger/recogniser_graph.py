"""Network, projection and recogniser in one ONNX graph: pixels → probabilities and distance, for robots and phones.

Every photo is looked at twice: whole, and its inner half, mirrored. People hold what they ask about in the middle, and
an apple in a mirror is the same apple. But where a fruit fills the photo, its inner half is skin and no fruit. So both
looks are averaged, and the one that looks less like the photos of the run counts less. The graph takes photos twice as
large as the network does, and makes both views itself. It uses operators that are the same in every opset from 10.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper

from verger.graph import GraphBuilder
from verger.projection import Projection
from verger.recogniser import Recogniser

LABELS = "verger.labels"  # a property of the graph
PROBABILITIES, DISTANCE = "probabilities", "distance"  # (n, c) and (n,), float32
VIEWS = 2
SHARPNESS = 2.0  # a view further from everything known by a distance of 1 counts exp(-SHARPNESS) times as much


def recogniser_graph(graph: bytes, projection: Projection, recogniser: Recogniser) -> bytes:
    """The graph `pixels` uint8 `(n, large, large, 3)` → `probabilities` `(n, c)`, `distance` `(n,)`, serialised.

    `large` is `photo_side` of the side that the network takes: 448 for 224.

    Args:
        graph: a wrapped network, `pixels` → `vector`.
        projection: of its vectors.
        recogniser: of that projection's components. Its labels, in the order of the probabilities, stand among the
            properties of the graph as JSON: a list of paths, finest label first.
    """
    model = ModelProto.FromString(graph)
    side = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    views = _views(model.graph, side)
    builder = GraphBuilder("verger/recogniser/")
    _average(builder, *_recognise(builder, projection, recogniser), recogniser)
    nodes = [*views.nodes, *model.graph.node, *builder.nodes]
    del model.graph.node[:], model.graph.output[:], model.graph.input[:]
    large = photo_side(side)
    model.graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", large, large, 3]))
    model.graph.node.extend(nodes)
    model.graph.initializer.extend([*views.constants, *builder.constants])
    shapes: dict[str, list[str | int]] = {PROBABILITIES: ["n", len(recogniser.labels)], DISTANCE: ["n"]}
    for name, shape in shapes.items():
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    helper.set_model_props(model, {LABELS: json.dumps(recogniser.labels, ensure_ascii=False)})
    return bytes(model.SerializeToString())


def photo_side(side: int) -> int:
    """The side of the photos that the graph takes, for a network that takes `side` pixels."""
    return 2 * side


def _views(graph: GraphProto, side: int) -> GraphBuilder:
    """Feed the network with every photo, then with every inner half: a batch of 2n."""
    builder, large = GraphBuilder("verger/views/"), photo_side(side)
    whole, start = _shrunk(builder, large, side), side // 2
    first, past, axes, steps = [start, start + side - 1], [start + side, start - 1], [1, 2], [1, -1]  # mirrored
    bounds = [builder.constant(np.array(two, np.int64)) for two in (first, past, axes, steps)]
    every = builder.add("Concat", [whole, builder.add("Slice", ["pixels", *bounds])], axis=0)
    for node in graph.node:
        node.input[:] = [every if name == "pixels" else name for name in node.input]
    return builder


def _shrunk(builder: GraphBuilder, large: int, side: int) -> str:
    """`pixels` uint8 (n, large, large, 3) → (n, side, side, 3), as Pillow does it: two products with a matrix."""
    weights = shrinking_weights(large, side)
    x = builder.add("Transpose", [builder.add("Cast", ["pixels"], to=TensorProto.FLOAT)], perm=[0, 3, 1, 2])
    x = builder.add("MatMul", [_constant(builder, weights), x])
    x = builder.add("MatMul", [x, _constant(builder, weights.T)])
    x = builder.add("Cast", [builder.add("Add", [x, builder.scalar(0.5)])], to=TensorProto.UINT8)
    return builder.add("Transpose", [x], perm=[0, 2, 3, 1])


def shrinking_weights(large: int, side: int) -> NDArray[np.float64]:
    """What each of `large` pixels gives to each of `side` (side, large): bilinear, widened so that nothing glitters."""
    scale = large / side
    centres, places = (np.arange(side) + 0.5) * scale, np.arange(large) + 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(places - centres[:, None]) / scale)
    shares: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return shares


def _recognise(builder: GraphBuilder, projection: Projection, recogniser: Recogniser) -> tuple[str, str]:
    """`vector` (2n, d) → scores (2n, c) and distances (2n, 1) of every view."""
    length, kept_length = projection.components.shape
    centred = builder.add("Sub", ["vector", _constant(builder, projection.mean)])
    scaled = builder.add("Div", [centred, _constant(builder, projection.scale)])
    components = builder.add("MatMul", [scaled, _constant(builder, projection.components)])
    product = builder.add("MatMul", [components, _constant(builder, recogniser.coefficients)])
    scores = builder.add("Add", [product, _constant(builder, recogniser.intercepts)])
    # Sums of squares and the largest score, as products and TopK: reductions have changed their form between opsets.
    within = builder.add("MatMul", [components, _constant(builder, recogniser.precision)])
    near = _row_sums(builder, builder.add("Mul", [within, components]), kept_length)
    best = builder.add("Mul", [_largest(builder, scores), builder.scalar(2.0)])
    inside = builder.add("Sub", [near, best])
    whole = _row_sums(builder, builder.add("Mul", [scaled, scaled]), length)
    kept = _row_sums(builder, builder.add("Mul", [components, components]), kept_length)
    left = builder.add("Relu", [builder.add("Sub", [whole, kept])])
    outside = builder.add("Mul", [left, builder.scalar(recogniser.residual_weight)])
    squares = builder.add("Relu", [builder.add("Add", [inside, outside])])
    return scores, builder.add("Mul", [squares, builder.scalar(1 / recogniser.threshold)])


def _average(builder: GraphBuilder, scores: str, distances: str, recogniser: Recogniser) -> None:
    """Scores and distances of every view → probabilities and distance of every photo."""
    by_view = builder.constant(np.array([VIEWS, -1], np.int64))
    rows = builder.add("Transpose", [builder.add("Reshape", [distances, by_view])], perm=[1, 0])  # (n, 2)
    shares = builder.add("Softmax", [builder.add("Mul", [rows, builder.scalar(-SHARPNESS)])], axis=1)
    column = builder.constant(np.array([-1, 1], np.int64))
    shares = builder.add("Reshape", [builder.add("Transpose", [shares], perm=[1, 0]), column])  # (2n, 1)

    def average(x: str, shape: list[int], output: str | None = None) -> str:
        weighted = builder.add("Reshape", [builder.add("Mul", [x, shares]), by_view])
        total = builder.add("MatMul", [builder.constant(np.ones((1, VIEWS), np.float32)), weighted])
        return builder.add("Reshape", [total, builder.constant(np.array(shape, np.int64))], output)

    score = average(scores, [-1, len(recogniser.labels)])
    cooled = builder.add("Mul", [score, builder.scalar(1 / recogniser.temperature)])
    builder.add("Softmax", [cooled], PROBABILITIES, axis=1)
    average(distances, [-1], DISTANCE)


def _constant(builder: GraphBuilder, value: NDArray[np.floating[Any]]) -> str:
    return builder.constant(np.asarray(value, dtype=np.float32))


def _row_sums(builder: GraphBuilder, x: str, length: int) -> str:
    """(n, length) → (n, 1)."""
    return builder.add("MatMul", [x, builder.constant(np.ones((length, 1), np.float32))])


def _largest(builder: GraphBuilder, x: str) -> str:
    """(n, c) → (n, 1), the largest of each row."""
    name = f"{builder.prefix}largest"
    one = builder.constant(np.array([1], np.int64))
    builder.nodes.append(helper.make_node("TopK", [x, one], [name, f"{name}/at"], name=name, axis=1))
    return name
