"""The hardware's limit: the network alone on every core, one thread each, on pixels already in memory.

It is measured twice, in short alternating slices: the network with nothing of ours around it, on floats in batches
of 8 (`limit`); and as Verger runs it, from bytes to vectors (`limit_best`).
"""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, helper

from verger.backbone import load_backbone
from verger.network import Backbone

BATCH = 8
SLICE_SECONDS = 0.5
BEFORE = "verger/before/"
ELEMENTS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def unwrap(backbone: Backbone) -> tuple[bytes, tuple[int, int, int]]:
    """The network without what Verger puts in front of it, and the shape of one photo as its input `network/…`."""
    model = ModelProto.FromString(backbone.graph)
    graph, side = model.graph, backbone.image_size
    ours = {"pixels", *(node.output[0] for node in graph.node if node.name.startswith(BEFORE))}
    entry = next(node for node in graph.node if node.op_type == "Cast" and node.input[0] in ours)  # network/image
    colours_first = any(name.startswith(f"{BEFORE}Transpose") for name in ours)
    shape = (3, side, side) if colours_first else (side, side, 3)
    element = next(attribute.i for attribute in entry.attribute if attribute.name == "to")
    image = helper.make_tensor_value_info(entry.output[0], element, ["n", *shape])
    nodes = [node for node in graph.node if not node.name.startswith(BEFORE) and node.output[0] != entry.output[0]]
    constants = [constant for constant in graph.initializer if not constant.name.startswith(BEFORE)]
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    graph.input.append(image)
    return model.SerializeToString(), shape


def plain_session(graph: bytes) -> onnxruntime.InferenceSession:
    """A session with one thread, and otherwise as ONNX Runtime makes it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def alone(job: tuple[Backbone, float]) -> list[float]:
    """Photos a second of one process: of the plain network, and of Verger's."""
    backbone, seconds = job
    graph, shape = unwrap(backbone)
    session, network = plain_session(graph), backbone.load()
    entry = session.get_inputs()[0]
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, backbone.image_size, backbone.image_size, 3), np.uint8)
    element = ELEMENTS.get(entry.type, np.uint8)
    floats = np.random.default_rng(0).random((BATCH, *shape)).astype(element)
    calls: list[Callable[[], Any]] = [lambda: session.run(None, {entry.name: floats}), lambda: network(pixels)]
    for call in calls:
        call()  # the first call allocates
    done, spent = [0, 0], [0.0, 0.0]
    while sum(spent) < len(calls) * seconds:
        for i, call in enumerate(calls):
            start = time.perf_counter()
            while time.perf_counter() - start < SLICE_SECONDS:
                call()
                done[i] += BATCH
            spent[i] += time.perf_counter() - start
    return [photos / taken for photos, taken in zip(done, spent, strict=True)]


def measure(name: str, weights: str | None, seconds: float) -> dict[str, float]:
    """Photos a second of all cores together."""
    backbone, cores = load_backbone(name, weights=weights), len(os.sched_getaffinity(0))
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        rates = pool.map(alone, [(backbone, seconds)] * cores, chunksize=1)
    plain, ours = (sum(of_cores) for of_cores in zip(*rates, strict=True))
    return {"limit": round(plain, 2), "limit_best": round(ours, 2)}


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
