"""Published networks for ImageNet in the architecture language, and the images that they were trained on.

Each is one line, without the classifier. Their classes and sizes of images are those of the papers; any others fit.
Those but EfficientNet-Lite are as torchvision defines them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil

from convscope.network.layers.base import Shape

IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Backbone:
    """A network as it was published.

    Attributes:
        architecture: The line.
        image_size: Side of the square color images, in pixels.
    """

    architecture: str
    image_size: int

    @property
    def input_shape(self) -> Shape:
        """(height, width, channels) of the images."""
        return self.image_size, self.image_size, 3


@dataclass(frozen=True)
class Stage:
    """Blocks of a MobileNet or EfficientNet, one after the other.

    Attributes:
        expansion: Channels inside a block, as a multiple of its input's.
        filters: Output channels of each block.
        repeats: Number of blocks.
        stride: Of the first block.
        kernel_size: Of the depthwise convolutions.
    """

    expansion: int
    filters: int
    repeats: int
    stride: int
    kernel_size: int = 3


# Sandler et al., 2018, table 2
MOBILENETV2 = (
    Stage(expansion=1, filters=16, repeats=1, stride=1),
    Stage(expansion=6, filters=24, repeats=2, stride=2),
    Stage(expansion=6, filters=32, repeats=3, stride=2),
    Stage(expansion=6, filters=64, repeats=4, stride=2),
    Stage(expansion=6, filters=96, repeats=3, stride=1),
    Stage(expansion=6, filters=160, repeats=3, stride=2),
    Stage(expansion=6, filters=320, repeats=1, stride=1),
)

# Tan and Le, 2019, table 1
EFFICIENTNET_B0 = (
    Stage(expansion=1, filters=16, repeats=1, stride=1, kernel_size=3),
    Stage(expansion=6, filters=24, repeats=2, stride=2, kernel_size=3),
    Stage(expansion=6, filters=40, repeats=2, stride=2, kernel_size=5),
    Stage(expansion=6, filters=80, repeats=3, stride=2, kernel_size=3),
    Stage(expansion=6, filters=112, repeats=3, stride=1, kernel_size=5),
    Stage(expansion=6, filters=192, repeats=4, stride=2, kernel_size=5),
    Stage(expansion=6, filters=320, repeats=1, stride=1, kernel_size=3),
)

# Howard et al., 2019, tables 1 and 2: kernel size, channels inside, filters, squeeze-and-excite, activation, stride
MOBILENETV3_LARGE = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hardswish", 2),
    (3, 200, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1),
    (3, 480, 112, True, "hardswish", 1),
    (3, 672, 112, True, "hardswish", 1),
    (5, 672, 160, True, "hardswish", 2),
    (5, 960, 160, True, "hardswish", 1),
    (5, 960, 160, True, "hardswish", 1),
)
MOBILENETV3_SMALL = (
    (3, 16, 16, True, "relu", 2),
    (3, 72, 24, False, "relu", 2),
    (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hardswish", 2),
    (5, 240, 40, True, "hardswish", 1),
    (5, 240, 40, True, "hardswish", 1),
    (5, 120, 48, True, "hardswish", 1),
    (5, 144, 48, True, "hardswish", 1),
    (5, 288, 96, True, "hardswish", 2),
    (5, 576, 96, True, "hardswish", 1),
    (5, 576, 96, True, "hardswish", 1),
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """An inverted residual block (Sandler et al., 2018): expansion, depthwise convolution, projection.

    Attributes:
        channels: Of its input.
        inside: Channels of the depthwise convolution; without expansion if they are those of the input.
        filters: Output channels.
        kernel_size: Of the depthwise convolution.
        stride: Of the depthwise convolution.
        activation: After the first two convolutions.
        squeeze: Layer before the last convolution, if any.
    """

    channels: int
    inside: int
    filters: int
    kernel_size: int
    stride: int
    activation: str
    squeeze: str = ""

    def line(self, norm: str, pad: str = "") -> str:
        """Its layers, with this batch normalization and padding, by default half the kernel size."""
        expand = f"conv {self.inside} 1, {norm}, {self.activation}, " if self.inside != self.channels else ""
        window = _window(self.kernel_size, self.stride, pad)
        depthwise = f"conv {self.inside} {window} groups {self.inside}, {norm}, {self.activation}"
        squeeze = f", {self.squeeze}" if self.squeeze else ""
        body = f"{expand}{depthwise}{squeeze}, conv {self.filters} 1, {norm}"
        return f"residual({body})" if self.stride == 1 and self.channels == self.filters else body


def _mobilenetv2() -> str:
    blocks = ", ".join(block.line("batchnorm") for block in _blocks(MOBILENETV2, "relu6"))
    return (
        f"conv 32 3 stride 2 pad 1, batchnorm, relu6, {blocks}, conv 1280 1, batchnorm, relu6, globalavg, dropout 0.2"
    )


def _mobilenetv3(table: Iterable[tuple[int, int, int, bool, str, int]], units: int) -> str:
    """MobileNetV3.

    Args:
        table: Of the paper.
        units: Of the dense layer before the classifier.
    """
    norm, lines, channels, inside = "batchnorm eps 0.001", [], 16, 0
    for kernel_size, inside, filters, squeezes, activation, stride in table:
        squeeze = f"squeeze {_rounded(inside // 4)} gate hardsigmoid" if squeezes else ""
        block = Block(channels=channels, inside=inside, filters=filters, kernel_size=kernel_size, stride=stride,
                      activation=activation, squeeze=squeeze)  # fmt: skip
        lines.append(block.line(norm))
        channels = filters
    return (
        f"conv 16 3 stride 2 pad 1, {norm}, hardswish, {', '.join(lines)}, "
        f"conv {inside} 1, {norm}, hardswish, globalavg, dense {units}, hardswish, dropout 0.2"
    )


def _efficientnet_b0() -> str:
    blocks = ", ".join(block.line("batchnorm") for block in _blocks(EFFICIENTNET_B0, "silu", squeeze=4))
    return f"conv 32 3 stride 2 pad 1, batchnorm, silu, {blocks}, conv 1280 1, batchnorm, silu, globalavg, dropout 0.2"


def _efficientnet_lite(width: float, depth: float, dropout: float) -> str:
    """EfficientNet-Lite (Liu, 2020): without squeeze-and-excite, with ReLU6, TensorFlow's padding and epsilon.

    Args:
        width: Factor of the filters; the first and the last convolution keep theirs.
        depth: Factor of the blocks of a stage; the first and the last stage keep theirs.
        dropout: Rate before the classifier.
    """
    first, *middle, last = (replace(stage, filters=_rounded(width * stage.filters)) for stage in EFFICIENTNET_B0)
    stages = first, *(replace(stage, repeats=ceil(depth * stage.repeats)) for stage in middle), last
    norm = "batchnorm eps 0.001"
    blocks = ", ".join(block.line(norm, pad="same") for block in _blocks(stages, "relu6"))
    return (
        f"conv 32 3 stride 2 pad same, {norm}, relu6, {blocks}, "
        f"conv 1280 1, {norm}, relu6, globalavg, dropout {dropout}"
    )


def _blocks(stages: Iterable[Stage], activation: str, squeeze: int = 0) -> Iterator[Block]:
    """The blocks of stages behind 32 channels.

    Args:
        stages: In order.
        activation: Of all blocks.
        squeeze: Input channels of a block for each unit of its squeeze-and-excite; 0 for none.
    """
    channels = 32
    for stage in stages:
        for position in range(stage.repeats):
            words = f"squeeze {channels // squeeze} act {activation}" if squeeze else ""
            yield Block(channels=channels, inside=stage.expansion * channels, filters=stage.filters,
                        kernel_size=stage.kernel_size, stride=stage.stride if position == 0 else 1,
                        activation=activation, squeeze=words)  # fmt: skip
            channels = stage.filters


def _resnet18() -> str:
    """He et al., 2015, table 1; strides as in torchvision."""
    stages = [_basic_block(64), _basic_block(64)]
    for filters in (128, 256, 512):
        stages += [_basic_block(filters, stride=2), _basic_block(filters)]
    return f"conv 64 7 stride 2 pad 3, batchnorm, relu, maxpool 3 stride 2 pad 1, {', '.join(stages)}, globalavg"


def _basic_block(filters: int, stride: int = 1) -> str:
    body = f"conv {filters} {_window(3, stride)}, batchnorm, relu, conv {filters} {_window(3)}, batchnorm"
    return f"residual({body}{_shortcut(filters, stride)}), relu"


def _regnet_x_400mf() -> str:
    """Radosavovic et al., 2020, with groups of 16 channels, which turn the paper's 384 filters to 400."""
    stages = []
    for filters, repeats in ((32, 1), (64, 2), (160, 7), (400, 12)):
        stages += [
            _bottleneck(filters, stride=2),
            *([f"{repeats - 1} * ({_bottleneck(filters)})"] if repeats > 1 else []),
        ]
    return f"conv 32 3 stride 2 pad 1, batchnorm, relu, {', '.join(stages)}, globalavg"


def _bottleneck(filters: int, stride: int = 1) -> str:
    middle = f"conv {filters} {_window(3, stride)} groups {filters // 16}, batchnorm, relu"
    body = f"conv {filters} 1, batchnorm, relu, {middle}, conv {filters} 1, batchnorm"
    return f"residual({body}{_shortcut(filters, stride)}), relu"


def _shortcut(filters: int, stride: int) -> str:
    return f", shortcut(conv {filters} 1 stride {stride}, batchnorm)" if stride > 1 else ""


def _window(kernel_size: int, stride: int = 1, pad: str = "") -> str:
    """The words of a window; by default padded by half its size."""
    return f"{kernel_size}{f' stride {stride}' if stride > 1 else ''} pad {pad or (kernel_size - 1) // 2}"


def _rounded(filters: float, divisor: int = 8) -> int:
    """A number of filters that the divisor divides, at least 90 % of those wanted."""
    nearest = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * filters else nearest + divisor


BACKBONES: dict[str, Backbone] = {
    "efficientnet-lite0": Backbone(_efficientnet_lite(width=1.0, depth=1.0, dropout=0.2), 224),
    "efficientnet-lite1": Backbone(_efficientnet_lite(width=1.0, depth=1.1, dropout=0.2), 240),
    "efficientnet-lite2": Backbone(_efficientnet_lite(width=1.1, depth=1.2, dropout=0.3), 260),
    "efficientnet-b0": Backbone(_efficientnet_b0(), 224),
    "mobilenetv2": Backbone(_mobilenetv2(), 224),
    "mobilenetv3-small": Backbone(_mobilenetv3(MOBILENETV3_SMALL, units=1024), 224),
    "mobilenetv3-large": Backbone(_mobilenetv3(MOBILENETV3_LARGE, units=1280), 224),
    "resnet18": Backbone(_resnet18(), 224),
    "regnet-x-400mf": Backbone(_regnet_x_400mf(), 224),
}
