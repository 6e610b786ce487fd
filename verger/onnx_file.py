"""A network from somebody's ONNX file: reads it, finds out how it wants its image and what it answers with."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError, EncodeError, Message
from onnx import ModelProto, TensorProto, checker, load_model_from_string
from onnx.external_data_helper import load_external_data_for_model
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from verger.errors import SettingError
from verger.graph import NORMALISATIONS, ImageInput, Output, wrap
from verger.network import open_session, run_session

_RUNTIME_ERRORS = (
    ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.InvalidProtobuf, ort.NotImplemented, ort.RuntimeException,
)  # fmt: skip
_ELEMENTS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8)
_OLDEST_OPSET = 7  # before, arithmetic did not broadcast; ONNX Runtime promises nothing for older ones either


def read_onnx(path: Path) -> tuple[ModelProto, str]:
    """A model with all its tensors inside, and the digest of the file and of the tensors kept beside it.

    Raises:
        SettingError: not ONNX, damaged, or its external data are missing.
    """
    try:
        content = path.read_bytes()
        model = load_model_from_string(content)
        digest = hashlib.sha256(content)
        outside = [t for t in _tensors(model) if t.data_location == TensorProto.EXTERNAL]
        load_external_data_for_model(model, str(path.parent.resolve()))
        for tensor in outside:
            digest.update(tensor.raw_data)
    except (OSError, DecodeError, EncodeError, ValueError, checker.ValidationError) as error:
        raise SettingError(
            "an ONNX file, with its external data (if any) beside it",
            f"{path}: {error}",
            "Copy the file again, with the files that belong to it.",
        ) from error
    if not model.graph.node or not model.graph.output:
        raise SettingError("an ONNX file", f"{path} without any network in it", "Export the network again.")
    return model, digest.hexdigest()


def _tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor in a model, also those inside attributes and subgraphs."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                if isinstance(each, TensorProto):
                    yield each
                else:
                    yield from _tensors(each)


def image_input(model: ModelProto, path: Path, side: int) -> ImageInput:
    """The one input that takes images.

    Raises:
        SettingError: there are several inputs, it is not an image, or it wants another size than `side` pixels.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    advice = "Export the network with one image input, float32, float16 or uint8, (n, 3, h, w) or (n, h, w, 3)."
    if len(inputs) != 1:
        raise SettingError("a network with one input", f"{path} with {len(inputs)}", advice)
    opset = max([0, *(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))])
    if opset < _OLDEST_OPSET:
        raise SettingError(f"ONNX opset {_OLDEST_OPSET} or later", f"{path} with opset {opset}", "Export it again.")
    tensor = inputs[0].type.tensor_type
    shape = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in tensor.shape.dim]  # 0: any
    if tensor.elem_type not in _ELEMENTS or len(shape) != 4 or 3 not in (shape[1], shape[3]):
        kind = TensorProto.DataType.Name(tensor.elem_type)
        raise SettingError(
            "an input that is a batch of RGB images", f"{path}: `{inputs[0].name}`, {kind} {shape}", advice
        )
    image = ImageInput(inputs[0].name, "nchw" if shape[1] == 3 else "nhwc", tensor.elem_type)
    height, width = shape[2:] if image.layout == "nchw" else shape[1:3]
    if height and width and height != width:
        raise SettingError("a network for square images", f"{path} for {height} × {width} pixels", advice)
    if (height or width or side) != side:
        wanted = height or width
        raise SettingError(f"--image-size {wanted}, as {path} wants", f"{side}", f"Give --image-size {wanted}.")
    return image


def choose_normalisation(image: ImageInput, asked: str | None, path: Path) -> str:
    """What was asked for, else the habit of those who export such networks.

    PyTorch's (n, 3, h, w) networks mostly want ImageNet's mean and deviation, TensorFlow's (n, h, w, 3) −1..1.
    """
    if image.element == TensorProto.UINT8:
        if asked not in (None, "raw"):
            raise SettingError(
                f"normalisation raw: {path} takes bytes", f"normalisation {asked}", "Leave --normalisation out."
            )
        return "raw"
    if asked is None:
        return "imagenet" if image.layout == "nchw" else "signed"
    if asked not in NORMALISATIONS:
        raise SettingError(f"a normalisation among {', '.join(NORMALISATIONS)}", asked, "Choose one.")
    return asked


def find_output(model: ModelProto, image: ImageInput, side: int, path: Path) -> Output:
    """What the first output is, by running the network on two images, together and one by one.

    Declared shapes are not trusted: exporters leave them out, or write down the batch size of their example.

    Raises:
        SettingError: it cannot run, cannot take two images at once, or answers with neither vector nor feature map.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    advice = "Export the network with a dynamic batch size and an output (n, d), or a feature map."
    try:
        trial = open_session(wrap(model, image, side, "raw", None), quiet=True)
        both, first = run_session(trial, pixels), run_session(trial, pixels[:1])
    except _RUNTIME_ERRORS as error:
        raise SettingError("a network that takes two images at once", f"{path}: {error}", advice) from error
    if both.ndim not in (2, 4) or both.shape[0] != 2 or first.shape != (1, *both.shape[1:]):
        shapes = f"{path}: shape {both.shape} for two images, {first.shape} for one"
        raise SettingError("a vector or a feature map for each image", shapes, advice)
    if both.ndim == 2:
        return Output("vector", both.shape[1])
    a, b, c = both.shape[1:]
    # The two equal sides are height and width; where that does not tell, the output is laid out as the input.
    layout = image.layout if (a == b) == (b == c) else ("nhwc" if a == b else "nchw")
    return Output(layout, c if layout == "nhwc" else a)
