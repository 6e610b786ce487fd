"""A network as it travels: a plain value that Spark broadcasts, and that needs neither files nor the web to run.

Workers import this module and nothing of what made the network, so that it asks for ONNX Runtime alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Backbone:
    """A network, ready to travel.

    Attributes:
        name: "efficientnet_lite0", "mobilenet_v2", or a file's stem.
        engine: "onnx" or "tensorflow".
        image_size: side of the photos that it takes, in pixels.
        vector_length: entries of the vectors that it makes, d.
        fingerprint: 16 hexadecimal digits that change whenever vectors would; the same on every machine.
        normalisation: what is done to the pixels first, a key of `verger.graph.NORMALISATIONS`.
        graph: ONNX: the whole network, `pixels` uint8 `(n, size, size, 3)` → `vector` float32 `(n, d)`.
            TensorFlow: the architecture as JSON, without weights.
        weights: TensorFlow: every weight, in the order of `model.get_weights()`. ONNX: empty.
    """

    name: str
    engine: str
    image_size: int
    vector_length: int
    fingerprint: str
    normalisation: str
    graph: bytes = field(repr=False, compare=False)  # the fingerprint stands for both
    weights: tuple[NDArray[Any], ...] = field(default=(), repr=False, compare=False)

    def load(self, threads: int = 1) -> Network:
        """The function from pixels, uint8 `(n, size, size, 3)`, RGB, to vectors, float32 `(n, d)`."""
        if self.engine == "tensorflow":
            from verger import keras_engine

            run = keras_engine.load(self.graph.decode(), self.weights, self.normalisation, threads)
        else:
            session = open_session(self.graph, threads)

            def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
                return run_session(session, pixels)

        def network(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            # Some operators have no answer for an empty batch; ours is an empty answer.
            return run(pixels) if len(pixels) else np.empty((0, self.vector_length), dtype=np.float32)

        return network


def open_session(graph: bytes, threads: int = 1, *, quiet: bool = False) -> onnxruntime.InferenceSession:
    """A session on the processor with `threads` threads, which sleep rather than spin between batches."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    # Spinning threads look fast alone and rob the other tasks of the same machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4 if quiet else 3  # errors arrive as exceptions; the log repeats them
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run_session(session: onnxruntime.InferenceSession, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """One batch through a wrapped network: uint8 `(n, side, side, 3)` → float32 `(n, d)`."""
    answer: Any = session.run(["vector"], {"pixels": np.ascontiguousarray(pixels)})[0]
    return np.ascontiguousarray(answer, dtype=np.float32)
