"""EfficientNet-Lite a second time, in plain PyTorch, from its state dict: the oracle of the tests."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-3
STAGES = [(1, 1, 1), (6, 2, 2), (6, 2, 2), (6, 3, 2), (6, 3, 1), (6, 4, 2), (6, 1, 1)]  # expansion, blocks, stride
DEPTHS = {"efficientnet-lite0": 1.0, "efficientnet-lite1": 1.1, "efficientnet-lite2": 1.2}
State = Mapping[str, Tensor]


def lite_features(pixels: Tensor, state: State, name: str = "efficientnet-lite0") -> Tensor:
    """The 1,280 features of RGB images.

    Args:
        pixels: (n, 3, height, width), 0..255.
        state: As published.
        name: One of `DEPTHS`.
    """
    x = norm(same_conv((pixels - 127) / 128, state["_conv_stem.weight"], 2), state, "_bn0").clamp(0, 6)
    number = 0
    for position, (expansion, blocks, stride) in enumerate(STAGES):
        repeats = blocks if position in (0, len(STAGES) - 1) else ceil(DEPTHS[name] * blocks)
        for repeat in range(repeats):
            x = block(x, state, f"_blocks.{number}", expansion, stride if repeat == 0 else 1)
            number += 1
    x = norm(functional.conv2d(x, state["_conv_head.weight"]), state, "_bn1").clamp(0, 6)
    return x.mean(dim=(2, 3))


def block(x: Tensor, state: State, name: str, expansion: int, stride: int) -> Tensor:
    """An inverted residual block."""
    y = x
    if expansion > 1:
        y = norm(functional.conv2d(y, state[f"{name}._expand_conv.weight"]), state, f"{name}._bn0").clamp(0, 6)
    weight = state[f"{name}._depthwise_conv.weight"]
    y = norm(same_conv(y, weight, stride, groups=len(weight)), state, f"{name}._bn1").clamp(0, 6)
    y = norm(functional.conv2d(y, state[f"{name}._project_conv.weight"]), state, f"{name}._bn2")
    return x + y if stride == 1 and y.shape == x.shape else y


def same_conv(x: Tensor, weight: Tensor, stride: int, groups: int = 1) -> Tensor:
    """Convolution with TensorFlow's `SAME` padding: ceil(size / stride) outputs, an odd row or column at the end."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + weight.shape[2] - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.conv2d(functional.pad(x, pads), weight, stride=stride, groups=groups)


def norm(x: Tensor, state: State, name: str) -> Tensor:
    """Batch normalization with its running statistics."""
    mean, variance, gamma, beta = (
        state[f"{name}.{part}"].reshape(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(variance + EPSILON) * gamma + beta
