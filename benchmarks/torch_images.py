"""Random crops in PyTorch, for the programs that convscope is compared with."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def random_crops(images: Tensor, size: tuple[int, int], min_area: float, flip: bool) -> Tensor:
    """Crop images (n, channels, h, w) at random, resize them to `size`, and mirror half of them if wanted."""
    n, channels = images.shape[:2]
    area = torch.empty(n).uniform_(min_area, 1)
    shape = torch.empty(n).uniform_(-math.log(4 / 3), math.log(4 / 3)).exp()
    height, width = (area / shape).sqrt().clamp(max=1), (area * shape).sqrt().clamp(max=1)
    across = torch.empty(n).uniform_(-1, 1) * (1 - width)
    down = torch.empty(n).uniform_(-1, 1) * (1 - height)
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    zero = torch.zeros(n)
    matrices = torch.stack([width * mirror, zero, across, zero, height, down], 1).view(-1, 2, 3)
    grid = functional.affine_grid(matrices, [n, channels, *size], align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
