"""Torch modules that torch itself lacks."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class MinPool2d(nn.Module):
    """The smallest value of each window."""

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self.kernel_size, self.stride = size, stride

    def forward(self, x: Tensor) -> Tensor:
        return -functional.max_pool2d(-x, self.kernel_size, self.stride)


class FlattenHWC(nn.Module):
    """Maps to a vector in the order row, column, channel (torch's own flatten starts with the channel)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class GlobalAvgPool2d(nn.Module):
    """The mean of each feature map."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class GlobalMaxPool2d(nn.Module):
    """The largest value of each feature map."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3))


class Whitening(nn.Conv2d):
    """A convolution whose kernels turn patches of the images into uncorrelated numbers; training leaves it alone.

    After Jordan (2024): the patches' principal directions, each divided by its standard deviation, and the same
    kernels again with the other sign, for the half that an activation takes away.
    """

    TINY = 5e-4  # keeps directions without variance from becoming noise

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, 2 * kernel * kernel * channels, kernel, bias=False)
        self.weight.requires_grad_(False)

    def learn(self, images: Tensor) -> None:
        """Take the kernels from images (n, channels, h, w), as the network sees them."""
        size = self.kernel_size[0]
        patches = images.unfold(2, size, 1).unfold(3, size, 1).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
        variances, directions = torch.linalg.eigh((patches.T @ patches / len(patches)).double())
        kernels = (directions / (variances + self.TINY).sqrt()).T.reshape(-1, *self.weight.shape[1:])
        self.weight.data.copy_(torch.cat([kernels, -kernels]))


class UnevenPad(nn.Module):
    """Zero cells around the maps where the two sides differ, which a torch convolution cannot do itself."""

    def __init__(self, padding: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        top, bottom, left, right = self.padding
        return functional.pad(x, (left, right, top, bottom))


class ResidualBlock(nn.Module):
    """body(x) + x, or body(x) + projection(x)."""

    def __init__(self, body: nn.Sequential, projection: nn.Module) -> None:
        super().__init__()
        self.body, self.projection = body, projection

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.body(x) + self.projection(x))


class PaddedConv(nn.Sequential):
    """A convolution behind an uneven pad."""
