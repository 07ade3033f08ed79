"""A sequence of layers in which one kernel does several of them at once, wherever there is one for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from convscope.backends.native import backend
from convscope.backends.native.dense import dense
from convscope.backends.native.norm_act_pool import NORMS, norm_act_pool
from convscope.backends.native.reference_ops import Pooling
from convscope.backends.native.stem import MAX_CHANNELS, MAX_POOL_SIZE, conv_act_pool
from convscope.backends.pytorch.modules import MinPool2d, PaddedConv, UnevenPad
from convscope.network.layers import PoolKind

Layers = list[nn.Module]
Step = Callable[[Tensor, Layers], Tensor]


class Fused(nn.Sequential):
    """The layers one after the other, as nn.Sequential, but runs of them in one kernel each.

    Values and gradients are those of the layers one by one, up to rounding. Without convscope-native, and while a hook
    waits on a layer that a kernel would do, it is nn.Sequential.
    """

    _planned: Layers | None = None
    _plan: tuple[tuple[int, int, Step], ...] = ()
    _inside: tuple[nn.Module, ...] = ()  # what kernels do, so that these are not called

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)
        if layers != self._planned:
            self._planned, self._plan = layers, tuple(plan(layers))
            fused = [layers[first:last] for first, last, step in self._plan if step is not _alone]
            self._inside = tuple(module for run in fused for layer in run for module in layer.modules())
        if backend.native is None or any(map(_is_watched, self._inside)):
            return _alone(x, layers)
        for first, last, step in self._plan:
            x = step(x, layers[first:last])
        return x


def _is_watched(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def leaves_work_to_torch(model: nn.Module) -> bool:
    """Whether there are convolutions that no kernel does, all but a first one, or pools whose windows overlap."""
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    overlapping = not all(map(_is_plain, model.modules()))
    return overlapping or convolutions > _is_first_convolution(next(model.children()))


def plan(layers: Layers) -> list[tuple[int, int, Step]]:
    """Which layers each kernel does: (first, last + 1, the step), in order."""
    steps: list[tuple[int, int, Step]] = []
    first = 0
    while first < len(layers):
        length, step = _longest(layers[first:])
        steps.append((first, first + length, step))
        first += length
    return steps


def _longest(layers: Layers) -> tuple[int, Step]:
    """How many of the layers at the front one step does, and which."""
    if _is_first_convolution(layers[0]):
        length = _matching(layers, (nn.Module,), ACTIVATIONS, POOLS)
        pool = _pool(layers[:length])
        return length - (pool is not None and pool[1] > MAX_POOL_SIZE), _conv_act_pool
    if isinstance(layers[0], nn.Linear):
        return _matching(layers, (nn.Linear,), (nn.ReLU,)), _dense
    pool_first = _matching(layers, POOLS, NORMS, ACTIVATIONS)
    pool_last = _matching(layers, NORMS, ACTIVATIONS, POOLS)
    length = max(pool_first, pool_last)
    return (length, _norm_act_pool) if length else (1, _alone)


def _matching(layers: Layers, *kinds: tuple[type[nn.Module], ...]) -> int:
    """How many layers at the front are of these kinds in this order, each of which may be missing."""
    length = 0
    for kind in kinds:
        if length < len(layers) and isinstance(layers[length], kind) and _is_plain(layers[length]):
            length += 1
    return length


def _is_plain(layer: nn.Module) -> bool:
    """Whether a pool's windows lie side by side, as the kernels need them; other layers always do."""
    return not isinstance(layer, POOLS) or layer.kernel_size == layer.stride


def _is_first_convolution(layer: nn.Module) -> bool:
    conv = layer.conv if isinstance(layer, PaddedConv) else layer
    if not isinstance(conv, nn.Conv2d):
        return False
    return conv.in_channels <= MAX_CHANNELS and conv.groups == 1 and conv.stride == (1, 1)


def _conv_act_pool(x: Tensor, layers: Layers) -> Tensor:
    conv, padding = layers[0], None
    if isinstance(conv, PaddedConv):
        conv, padding = conv.get_submodule("conv"), cast("UnevenPad", conv.get_submodule("pad")).padding
    assert isinstance(conv, nn.Conv2d)
    rows, columns = cast("tuple[int, int]", conv.padding)
    padding = padding or (rows, rows, columns, columns)
    return conv_act_pool(x, conv.weight, conv.bias, padding, _activation(layers), _pool(layers))


def _dense(x: Tensor, layers: Layers) -> Tensor:
    linear = cast("nn.Linear", layers[0])
    return dense(x, linear.weight, linear.bias, relu=len(layers) == 2, bf16=torch.is_autocast_enabled("cpu"))


def _norm_act_pool(x: Tensor, layers: Layers) -> Tensor:
    if x.dim() == 2:  # a vector is a map of one cell
        return _norm_act_pool(x[:, :, None, None], layers).flatten(1)
    norm = next((layer for layer in layers if isinstance(layer, NORMS)), None)
    return norm_act_pool(x, norm, _activation(layers), _pool(layers), isinstance(layers[0], POOLS))


def _alone(x: Tensor, layers: Layers) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _activation(layers: Layers) -> str:
    return next(
        (name for kind, name in ACTIVATION_NAMES.items() for layer in layers if isinstance(layer, kind)), "none"
    )


def _pool(layers: Layers) -> Pooling | None:
    for layer in layers:
        for kind, name in POOL_NAMES.items():
            if isinstance(layer, kind):
                return name, cast("int", layer.kernel_size)
    return None


ACTIVATION_NAMES: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.GELU: "gelu", nn.Tanh: "tanh"}
POOL_NAMES: dict[type[nn.Module], PoolKind] = {nn.MaxPool2d: "max", MinPool2d: "min", nn.AvgPool2d: "average"}
ACTIVATIONS, POOLS = tuple(ACTIVATION_NAMES), tuple(POOL_NAMES)
