"""Published networks for ImageNet in the architecture language, and the images that they were trained on.

Each is one line, without the classifier. Their classes and sizes of images are those of the papers; any others fit.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    kernel_size: int


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
    layers = [f"conv 32 3 stride 2 pad same, {norm}, relu6", *_lite_blocks(stages, 32, norm)]
    return ", ".join([*layers, f"conv 1280 1, {norm}, relu6, globalavg, dropout {dropout}"])


def _rounded(filters: float, divisor: int = 8) -> int:
    """A number of filters that the divisor divides, at least 90 % of those wanted."""
    nearest = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * filters else nearest + divisor


def _lite_blocks(stages: tuple[Stage, ...], channels: int, norm: str) -> Iterator[str]:
    """Inverted residual blocks (Sandler et al., 2018)."""
    for stage in stages:
        for position in range(stage.repeats):
            stride, inside = stage.stride if position == 0 else 1, channels * stage.expansion
            expand = f"conv {inside} 1, {norm}, relu6, " if stage.expansion > 1 else ""
            window = f"{stage.kernel_size}{f' stride {stride}' if stride > 1 else ''} pad same groups {inside}"
            body = f"{expand}conv {inside} {window}, {norm}, relu6, conv {stage.filters} 1, {norm}"
            yield f"residual({body})" if stride == 1 and channels == stage.filters else body
            channels = stage.filters


BACKBONES: dict[str, Backbone] = {
    "efficientnet-lite0": Backbone(_efficientnet_lite(width=1.0, depth=1.0, dropout=0.2), 224),
    "efficientnet-lite1": Backbone(_efficientnet_lite(width=1.0, depth=1.1, dropout=0.2), 240),
    "efficientnet-lite2": Backbone(_efficientnet_lite(width=1.1, depth=1.2, dropout=0.3), 260),
}
