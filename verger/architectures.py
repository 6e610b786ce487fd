"""The two built-in networks as ONNX graphs, batch normalisation folded into the convolutions.

MobileNetV2: M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, arXiv:1801.04381.
EfficientNet-Lite0: R. Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020, after
M. Tan and Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
arXiv:1905.11946. The Lite family leaves out squeeze-and-excitation and uses ReLU6, so both networks are one kind of
stack of inverted residual blocks, and differ only in the tables below.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from verger.graph import GraphBuilder

ARCHITECTURE_VERSION = 1  # part of the fingerprint: raise it when the same weights would give other vectors
BATCH_NORM_EPSILON = 1e-3  # both networks were trained with it
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280

Kind = Literal["stem", "expand", "depthwise", "project", "head"]


class Stage(NamedTuple):
    """A run of inverted residual blocks; only the first of them has the stride."""

    expand: int
    channels: int
    repeats: int
    stride: int
    kernel: int


MOBILENET_V2 = (  # table 2 of the paper
    Stage(expand=1, channels=16, repeats=1, stride=1, kernel=3),
    Stage(expand=6, channels=24, repeats=2, stride=2, kernel=3),
    Stage(expand=6, channels=32, repeats=3, stride=2, kernel=3),
    Stage(expand=6, channels=64, repeats=4, stride=2, kernel=3),
    Stage(expand=6, channels=96, repeats=3, stride=1, kernel=3),
    Stage(expand=6, channels=160, repeats=3, stride=2, kernel=3),
    Stage(expand=6, channels=320, repeats=1, stride=1, kernel=3),
)
EFFICIENTNET_LITE0 = (  # table 1 of the EfficientNet paper, without squeeze-and-excitation
    Stage(expand=1, channels=16, repeats=1, stride=1, kernel=3),
    Stage(expand=6, channels=24, repeats=2, stride=2, kernel=3),
    Stage(expand=6, channels=40, repeats=2, stride=2, kernel=5),
    Stage(expand=6, channels=80, repeats=3, stride=2, kernel=3),
    Stage(expand=6, channels=112, repeats=3, stride=1, kernel=5),
    Stage(expand=6, channels=192, repeats=4, stride=2, kernel=5),
    Stage(expand=6, channels=320, repeats=1, stride=1, kernel=3),
)


@dataclass(frozen=True)
class Convolution:
    """One convolution without bias, followed by batch normalisation."""

    kind: Kind
    block: int  # counted from 0; -1 for the stem and the head
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    residual: bool = False  # the block's input is added to the result

    @property
    def groups(self) -> int:
        """As many groups as channels in a depthwise convolution, else one."""
        return self.inputs if self.kind == "depthwise" else 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The kernel's shape in ONNX order: outputs, inputs of a group, height, width."""
        return (self.outputs, self.inputs // self.groups, self.kernel, self.kernel)


class LayerWeights(NamedTuple):
    """A convolution's kernel in ONNX order, and its batch normalisation, each of the latter `(outputs,)`."""

    kernel: NDArray[np.float32]
    gamma: NDArray[np.float32]
    beta: NDArray[np.float32]
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]


def convolutions(stages: Sequence[Stage]) -> list[Convolution]:
    """Every convolution of a network, in the order of the data (and of its weights files)."""
    found = [Convolution("stem", -1, 3, STEM_CHANNELS, kernel=3, stride=2)]
    channels, block = STEM_CHANNELS, 0
    for stage in stages:
        for repeat in range(stage.repeats):
            wide, stride = channels * stage.expand, stage.stride if repeat == 0 else 1
            if stage.expand != 1:
                found.append(Convolution("expand", block, channels, wide))
            found.append(Convolution("depthwise", block, wide, wide, kernel=stage.kernel, stride=stride))
            residual = stride == 1 and channels == stage.channels
            found.append(Convolution("project", block, wide, stage.channels, residual=residual))
            channels, block = stage.channels, block + 1
    found.append(Convolution("head", -1, channels, HEAD_CHANNELS))
    return found


def fold(layer: LayerWeights) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel and bias that do the work of the convolution and its batch normalisation together.

    Computed in float64: the division by a small deviation would otherwise cost digits.
    """
    kernel, gamma, beta, mean, variance = (part.astype(np.float64) for part in layer)
    factor = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    folded = kernel * factor[:, None, None, None]
    return folded.astype(np.float32), (beta - mean * factor).astype(np.float32)


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, as TensorFlow's "same" and Keras' `correct_pad` put them: the odd one comes after."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def build(stages: Sequence[Stage], layers: Sequence[LayerWeights], side: int) -> ModelProto:
    """The network as a graph: `image` float32 `(n, 3, side, side)`, normalised → `features` `(n, 1280, h, h)`."""
    builder = GraphBuilder()
    x = entry = "image"
    block = -1
    for convolution, layer in zip(convolutions(stages), layers, strict=True):
        if convolution.block != block:
            block, entry = convolution.block, x
        kernel, bias = fold(layer)
        before, after = same_padding(side, convolution.kernel, convolution.stride)
        x = builder.add(
            "Conv",
            [x, builder.constant(kernel), builder.constant(bias)],
            kernel_shape=[convolution.kernel] * 2,
            strides=[convolution.stride] * 2,
            pads=[before, before, after, after],
            group=convolution.groups,
        )
        side = -(-side // convolution.stride)
        if convolution.residual:
            x = builder.add("Add", [entry, x])
        if convolution.kind != "project":  # the bottleneck is linear
            x = builder.add("Clip", [x, builder.scalar(0.0), builder.scalar(6.0)])  # ReLU6
    return builder.model(x, image_channels=3)
