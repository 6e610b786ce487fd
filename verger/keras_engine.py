"""The TensorFlow engine: Keras models on the driver, their architecture and weights on the executors.

The driver turns a model into its architecture (JSON, without weights) and its weights (arrays, broadcast by Spark).
An executor rebuilds the one, sets the other and calls the model itself: `predict` is made for large arrays and costs
more than the network for a batch of eight. Nothing is ever downloaded: no model is asked for "imagenet" weights.

TensorFlow is an extra, so it is imported only where it is needed.
"""

import importlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from verger.architectures import Convolution, LayerWeights
from verger.errors import MissingError, SettingError
from verger.graph import NORMALISATIONS
from verger.weights import keras_names, to_keras_order


class KerasModel(NamedTuple):
    """A model taken apart for the journey."""

    architecture: str  # JSON
    weights: tuple[NDArray[Any], ...]
    length: int  # of its vectors, d
    rescales: bool  # it has a layer of its own that normalises pixels


def import_keras() -> tuple[Any, Any]:
    """The modules `tensorflow` and `keras`.

    Raises:
        MissingError: they are not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # else every worker reports which CPU instructions it found
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        return importlib.import_module("tensorflow"), importlib.import_module("keras")
    except ImportError as error:
        advice = "Run `pip install 'verger[tensorflow]'`, or use --engine onnx."
        raise MissingError("TensorFlow with Keras 3", str(error), advice) from error


def mobilenet_v2(side: int, wanted: Sequence[Convolution], layers: Sequence[LayerWeights]) -> KerasModel:
    """Keras' own MobileNetV2 without its top, with the given weights in the order of `wanted`."""
    _, keras = import_keras()
    model = keras.applications.MobileNetV2(weights=None, include_top=False, pooling="avg", input_shape=(side, side, 3))
    for convolution, layer in zip(wanted, layers, strict=True):
        for name, arrays in zip(keras_names(convolution), to_keras_order(convolution, layer), strict=True):
            model.get_layer(name).set_weights(arrays)
    return _taken_apart(model)


def read_file(path: Path, side: int) -> KerasModel:
    """The model in a FILE.keras, whatever it was made for.

    Raises:
        SettingError: it cannot be loaded safely, takes no images of `side` pixels, or gives neither vector nor map.
    """
    tensorflow, keras = import_keras()
    causes = (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, tensorflow.errors.OpError)
    try:
        model = keras.saving.load_model(path, safe_mode=True, compile=False)
        _check_shapes(model, path, side)
        taken = _taken_apart(model)
        _check_copy(model, taken, side, path)
    except causes as error:
        raise SettingError(
            "a model in Keras 3 format, made of Keras' own layers",
            f"{path}: {(str(error).strip().splitlines() or [type(error).__name__])[0]}",
            "Save it again with model.save('NAME.keras'); Lambda and custom layers cannot travel.",
        ) from error
    return taken


def _taken_apart(model: Any) -> KerasModel:
    architecture = model.to_json()
    rescales = re.search(r'"class_name": "(Rescaling|Normalization)"', architecture) is not None
    return KerasModel(architecture, tuple(model.get_weights()), int(model.output_shape[-1]), rescales)


def _check_shapes(model: Any, path: Path, side: int) -> None:
    advice = "Save a model with one image input, (n, h, w, 3), and one output, (n, d) or (n, h, w, d)."
    taken, given = model.input_shape, model.output_shape
    if not isinstance(taken, tuple) or len(taken) != 4 or taken[3] != 3:
        raise SettingError("a model of one batch of RGB images", f"{path} of {taken}", advice)
    if not isinstance(given, tuple) or len(given) not in (2, 4) or given[-1] is None:
        raise SettingError("a model that gives a vector or a feature map", f"{path} giving {given}", advice)
    wanted = {length for length in taken[1:3] if length is not None}
    if wanted - {side}:
        height, width = taken[1:3]
        received = f"--image-size {side}"
        advice = f"Give --image-size {max(wanted)}." if height in (width, None) else "Only square images can be used."
        raise SettingError(f"photos of {height} × {width} pixels for {path}", received, advice)


def _check_copy(model: Any, taken: KerasModel, side: int, path: Path) -> None:
    """What the executors will rebuild must answer as the file does; some layers keep state that is not a weight."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    answer = np.asarray(model(pixels.astype(np.float32), training=False), dtype=np.float32)
    answer = answer.mean(axis=(1, 2)) if answer.ndim == 4 else answer
    copy = load(taken.architecture, taken.weights, "raw", threads=1)(pixels)
    if not np.allclose(copy, answer, rtol=1e-3, atol=1e-3 * float(np.abs(answer).max())):
        raise SettingError(
            "a model that can be rebuilt from its architecture and its weights",
            f"{path}, whose copy gives other vectors",
            "Replace the layers that keep state of their own, or export the model to ONNX.",
        )


def load(
    architecture: str, weights: Sequence[NDArray[Any]], normalisation: str, threads: int
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Rebuild a model: a function from uint8 `(n, side, side, 3)` to float32 `(n, d)`."""
    tensorflow, keras = import_keras()
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        pass  # TensorFlow already ran in this process, and fixed its threads then
    model = keras.models.model_from_json(architecture)
    model.set_weights(list(weights))
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()  # Normalization derives from its weights what it computes with
    offset, scale = (np.array(values, dtype=np.float32) for values in NORMALISATIONS[normalisation])

    @tensorflow.function(input_signature=[tensorflow.TensorSpec((None, *model.input_shape[1:]), "float32")])  # type: ignore[untyped-decorator]
    def forward(images: Any) -> Any:
        answer = model(images, training=False)
        return tensorflow.reduce_mean(answer, axis=(1, 2)) if len(answer.shape) == 4 else answer

    def network(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        images = (pixels.astype(np.float32) - offset) / scale
        return np.ascontiguousarray(forward(images).numpy(), dtype=np.float32)

    return network
