"""Torch modules that torch itself lacks."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional


class MinPool(nn.Module):
    """The smallest value of each window."""

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self.kernel_size, self.stride = size, stride

    def forward(self, x: Tensor) -> Tensor:
        return -functional.max_pool2d(-x, self.kernel_size, self.stride)


class FlattenRowsFirst(nn.Module):
    """Maps to a vector in the order row, column, channel (torch's own flatten starts with the channel)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class GlobalMean(nn.Module):
    """The mean of each feature map."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


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
