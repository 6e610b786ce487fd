"""A network as it travels: a plain value that Spark broadcasts, and that needs neither files nor the web to run.

Workers import this module and nothing of what made the network, so that it asks for ONNX Runtime alone.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from verger.errors import RunFailedError

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

# On a processor, what passes between layers is best small enough for its caches: one photo at a time is an eighth
# faster than eight, and a vector does not depend on its neighbours. TensorFlow's calls cost too much for that.
BATCH_PHOTOS = {"onnx": 1, "tensorflow": 8}
GPU_BATCH_PHOTOS = 64
CUDA = "CUDAExecutionProvider"


class Placement(NamedTuple):
    """Where a network runs."""

    threads: int = 1  # of the processor
    gpu: int | None = None  # number of the CUDA device; None for the processor


ONE_THREAD = Placement()


def place_task(device: str, threads: int) -> Placement:
    """Where a Spark task runs its network: on `threads` threads, or on the GPU that is its own.

    That is the GPU which Spark gave the task, where it schedules GPUs (spark.task.resource.gpu.amount); otherwise tasks
    take turns on those of the machine.
    """
    if device == "cpu":
        return Placement(threads)
    from pyspark import TaskContext

    task = TaskContext.get()
    given = task.resources().get("gpu") if task else None
    gpu = int(given.addresses[0]) if given else (task.partitionId() if task else 0) % max(1, count_gpus())
    return Placement(threads, gpu)


def count_gpus() -> int:
    """The NVIDIA GPUs of this machine that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([number for number in visible.split(",") if number.strip() not in ("", "-1")])
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


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
        precision: "float32", or "int8" after `verger.quantise`.
    """

    name: str
    engine: str
    image_size: int
    vector_length: int
    fingerprint: str
    normalisation: str
    graph: bytes = field(repr=False, compare=False)  # the fingerprint stands for both
    weights: tuple[NDArray[Any], ...] = field(default=(), repr=False, compare=False)
    precision: str = "float32"

    def load(self, placement: Placement = ONE_THREAD) -> Network:
        """The function from pixels, uint8 `(n, size, size, 3)`, RGB, to vectors, float32 `(n, d)`.

        Raises:
            RunFailedError: the placement names a GPU that ONNX Runtime cannot use here.
        """
        if self.engine == "tensorflow":
            from verger import keras_engine

            run = keras_engine.load(self.graph.decode(), self.weights, self.normalisation, placement.threads)
        else:
            session = open_session(self.graph, placement)

            def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
                return run_session(session, pixels)

        batch = BATCH_PHOTOS[self.engine] if placement.gpu is None else GPU_BATCH_PHOTOS

        def network(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            vectors = np.empty((len(pixels), self.vector_length), dtype=np.float32)
            for start in range(0, len(pixels), batch):
                vectors[start : start + batch] = run(pixels[start : start + batch])
            return vectors

        return network


def open_session(
    graph: bytes, placement: Placement = ONE_THREAD, *, quiet: bool = False
) -> onnxruntime.InferenceSession:
    """A session where `placement` says. Its threads sleep rather than spin between batches."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = placement.threads
    # Spinning threads look fast alone and rob the other tasks of the same machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4 if quiet else 3  # errors arrive as exceptions; the log repeats them
    if placement.gpu is None:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    offered = onnxruntime.get_available_providers()
    if CUDA in offered:
        # Full float32 products, as on a processor: vectors of one DEST may come from both.
        cuda = (CUDA, {"device_id": placement.gpu, "use_tf32": 0})
        session = onnxruntime.InferenceSession(graph, options, providers=[cuda, "CPUExecutionProvider"])
        offered = session.get_providers()  # where CUDA does not start, it falls back, and only a log says so
        if CUDA in offered:
            return session
    raise RunFailedError(
        f"ONNX Runtime with CUDA and GPU {placement.gpu} wherever the network runs",
        f"one that offers {', '.join(offered)}",
        "Install onnxruntime-gpu instead of onnxruntime, and NVIDIA's driver, there; or leave --device out.",
    )


def run_session(session: onnxruntime.InferenceSession, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """One batch through a wrapped network: uint8 `(n, side, side, 3)` → float32 `(n, d)`."""
    answer: Any = session.run(["vector"], {"pixels": np.ascontiguousarray(pixels)})[0]
    return np.ascontiguousarray(answer, dtype=np.float32)
