"""Modules that PyTorch lacks. Feature maps are (n, channels, height, width)."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from convscope.network.layers.window import Padding


def module_class(name: str) -> Any:
    """The module class of this name, here or in torch.nn; the tables of activations and pools name their classes so."""
    return globals().get(name) or getattr(nn, name)


class MinPool2d(nn.Module):
    """The smallest value of each window; arguments as in nn.MaxPool2d."""

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        return -functional.max_pool2d(-x, self.kernel_size, self.stride)


class Hardsigmoid(nn.Module):
    """min(max(x + 3, 0), 6) / 6; the gradient of nn.Hardsigmoid is that of float32, also in float64."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu6(x + 3) / 6


class PaddedPool2d(nn.Module):
    """A pool of padded feature maps; padding is never the result and does not count in a mean.

    torch's own pools have the same padding on both sides, of at most half the window.

    Args:
        pool: The pool.
        padding: Cells at the top, bottom, left and right, fewer than the window has.
        pad_value: What the cells are filled with; `network.pools.POOLS` has it.
    """

    def __init__(self, pool: nn.Module, padding: Padding, pad_value: float) -> None:
        super().__init__()
        self.pool, self.padding, self.pad_value = pool, padding, pad_value

    def forward(self, x: Tensor) -> Tensor:
        y = self._pool_padded(x, self.pad_value)
        if isinstance(self.pool, nn.AvgPool2d):
            y = y / self._pool_padded(torch.ones_like(x[:1, :1]), 0)  # by the fraction that is no padding
        return y

    def _pool_padded(self, x: Tensor, value: float) -> Tensor:
        top, bottom, left, right = self.padding
        return cast("Tensor", self.pool(functional.pad(x, (left, right, top, bottom), value=value)))


class FlattenHWC(nn.Module):
    """Feature maps to vectors in row, column, channel order; nn.Flatten starts with the channel."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class GlobalAvgPool2d(nn.Module):
    """The mean of each feature map: (n, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class GlobalMaxPool2d(nn.Module):
    """The largest value of each feature map: (n, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3))


class Conv2dSame(nn.Conv2d):
    """A convolution whose zero padding may differ between the sides, as in timm's module of this name.

    Args:
        in_channels: Channels of the input.
        out_channels: Number of filters.
        kernel_size: Side of the kernels.
        stride: Step between windows.
        same_padding: Zeros at the top, bottom, left and right.
        groups: As in nn.Conv2d.
        bias: As in nn.Conv2d.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        same_padding: Padding,
        groups: int = 1,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups, bias=bias)
        self.same_padding = same_padding

    def forward(self, x: Tensor) -> Tensor:
        top, bottom, left, right = self.same_padding
        return super().forward(functional.pad(x, (left, right, top, bottom)))


class WhiteningConv2d(nn.Conv2d):
    """A convolution that decorrelates patches of the images (Jordan, 2024); its kernels are frozen.

    The kernels are the principal directions of the patches, each divided by its standard deviation, and the same
    kernels negated, so that an activation loses no information.

    Args:
        in_channels: Channels of the images.
        kernel_size: Side of the patches.
    """

    VARIANCE_FLOOR = 5e-4  # keeps directions without variance from being amplified to noise

    def __init__(self, in_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, 2 * kernel_size**2 * in_channels, kernel_size, bias=False)
        self.weight.requires_grad_(False)

    def fit(self, images: Tensor) -> None:
        """Compute the kernels from preprocessed images (n, channels, height, width)."""
        size = self.kernel_size[0]
        patches = images.unfold(2, size, 1).unfold(3, size, 1).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
        variances, directions = torch.linalg.eigh((patches.T @ patches / len(patches)).double())
        kernels = (directions / (variances + self.VARIANCE_FLOOR).sqrt()).T.reshape(-1, *self.weight.shape[1:])
        self.weight.data.copy_(torch.cat([kernels, -kernels]))


class SqueezeExcite(nn.Sequential):
    """Its modules compute a factor for each feature map, (n, channels), by which the map is multiplied."""

    def forward(self, x: Tensor) -> Tensor:
        factors = x
        for module in self:
            factors = module(factors)
        return x * factors[:, :, None, None]


class ResidualBlock(nn.Module):
    """body(x) + projection(shortcut(x)); a block has at most one of the two, the other returns its input."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Sequential, projection: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.projection = body, shortcut, projection

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.body(x) + self.projection(self.shortcut(x)))
