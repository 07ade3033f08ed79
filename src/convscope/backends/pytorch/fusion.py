"""Runs of consecutive layers computed by one native kernel each.

The plan is made once, from layer records, when the model is built.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from convscope.backends.native import backend
from convscope.backends.native.dense import dense
from convscope.backends.native.norm_act_pool import Norm, norm_act_pool
from convscope.backends.native.reference_ops import Pooling
from convscope.backends.native.stem import MAX_CHANNELS, MAX_POOL_SIZE, conv_act_pool
from convscope.network.layers.base import Layer, walk
from convscope.network.layers.convolution import Conv
from convscope.network.layers.dense import Dense
from convscope.network.layers.elementwise import Activation, BatchNorm
from convscope.network.layers.pooling import Pool
from convscope.network.network import Network

Modules = Sequence[nn.Module]


@dataclass(frozen=True)
class FusedRun:
    """Consecutive layers that one kernel computes.

    Attributes:
        first: Position of the first layer.
        last: Position after the last layer.
        compute: The kernel, called with the input and the modules of these layers.
    """

    first: int
    last: int
    compute: Callable[[Tensor, Modules], Tensor]


class FusedSequential(nn.Sequential):
    """An nn.Sequential that computes planned runs of layers in native kernels.

    Values and gradients equal those of nn.Sequential up to rounding. It calls its modules one by one if
    convscope-native is not available, if a module of a fused run has a hook, and after a module was replaced.

    Args:
        modules: The modules by name.
        layers: Their records; without records, no layers are fused.
    """

    def __init__(self, modules: OrderedDict[str, nn.Module], layers: tuple[Layer, ...] = ()) -> None:
        super().__init__(modules)
        self.layers = layers
        self._runs = plan_fusion(layers)
        self._planned = list(self)
        fused = [module for run in self._runs for module in self._planned[run.first : run.last]]
        self._fused = [part for module in fused for part in module.modules()]

    def forward(self, x: Tensor) -> Tensor:
        modules = list(self)
        if backend.native is None or modules != self._planned or any(map(_has_hook, self._fused)):
            return _call_all(x, modules)
        position = 0
        for run in self._runs:
            x = _call_all(x, modules[position : run.first])
            x = run.compute(x, modules[run.first : run.last])
            position = run.last
        return _call_all(x, modules[position:])


def _call_all(x: Tensor, modules: Modules) -> Tensor:
    for module in modules:
        x = module(x)
    return x


def _has_hook(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def plan_fusion(layers: Sequence[Layer]) -> tuple[FusedRun, ...]:
    """Choose which consecutive layers each kernel computes.

    Args:
        layers: Records in order of execution.

    Returns:
        Disjoint runs in order; the layers between them are computed one by one.
    """
    runs: list[FusedRun] = []
    position = 0
    while position < len(layers):
        run = _run_at(layers, position)
        if run:
            runs.append(run)
        position = run.last if run else position + 1
    return tuple(runs)


def leaves_work_to_torch(network: Network | nn.Module) -> bool:
    """Whether torch does heavy work: any convolution but a fused first one, or a pool or activation without kernel.

    Args:
        network: A network, or a model of one; a module that was not built from records leaves everything to torch.
    """
    if not isinstance(network, Network | FusedSequential):
        return True
    layers = list(walk(network.layers))
    convolutions = sum(isinstance(layer, Conv) for layer in layers)
    unfused = any(isinstance(layer, Pool | Activation) and not _has_kernel(layer) for layer in layers)
    return unfused or convolutions > _is_stem(layers[0])


def _run_at(layers: Sequence[Layer], first: int) -> FusedRun | None:
    """The longest run that starts at a position, or None if there is no kernel for that layer."""
    rest = layers[first:]
    if _is_stem(rest[0]):
        length = 1 + _match(rest[1:], Activation, Pool)
        pool = _pooling(rest[:length])
        length -= pool is not None and pool[1] > MAX_POOL_SIZE
        padding = cast("Conv", rest[0]).padding
        compute = partial(_conv_act_pool, padding, _activation(rest[:length]), _pooling(rest[:length]))
    elif isinstance(rest[0], Dense):
        relu = len(rest) > 1 and isinstance(rest[1], Activation) and rest[1].kind == "relu"
        length, compute = 1 + relu, partial(_dense, relu)
    else:
        length = max(_match(rest, Pool, BatchNorm, Activation), _match(rest, BatchNorm, Activation, Pool))
        if not length:
            return None
        run = rest[:length]
        norm = next((i for i, layer in enumerate(run) if isinstance(layer, BatchNorm)), None)
        compute = partial(_norm_act_pool, norm, _activation(run), _pooling(run), isinstance(run[0], Pool))
    return FusedRun(first, first + length, compute)


def _match(layers: Sequence[Layer], *kinds: type[Layer]) -> int:
    """How many of the first layers are of these kinds, in this order; each kind may be missing."""
    length = 0
    for kind in kinds:
        if length < len(layers) and isinstance(layers[length], kind) and _has_kernel(layers[length]):
            length += 1
    return length


def _has_kernel(layer: Layer) -> bool:
    """Whether the kernels support this activation, or this pool: without overlapping windows and padding."""
    if isinstance(layer, Activation):
        return backend.native is None or layer.kind in backend.native.ACTIVATIONS
    return not isinstance(layer, Pool) or (layer.kernel_size == layer.stride and not any(layer.padding))


def _is_stem(layer: Layer) -> bool:
    return isinstance(layer, Conv) and layer.input_shape[-1] <= MAX_CHANNELS and layer.groups == 1 and layer.stride == 1


def _activation(layers: Sequence[Layer]) -> str:
    return next((layer.kind for layer in layers if isinstance(layer, Activation)), "none")


def _pooling(layers: Sequence[Layer]) -> Pooling | None:
    return next(((layer.kind, layer.kernel_size) for layer in layers if isinstance(layer, Pool)), None)


def _conv_act_pool(
    padding: tuple[int, int, int, int], activation: str, pool: Pooling | None, x: Tensor, modules: Modules
) -> Tensor:
    conv = cast("nn.Conv2d", modules[0])
    return conv_act_pool(x, conv.weight, conv.bias, padding, activation, pool)


def _dense(relu: bool, x: Tensor, modules: Modules) -> Tensor:
    linear = cast("nn.Linear", modules[0])
    return dense(x, linear.weight, linear.bias, relu=relu, bf16=torch.is_autocast_enabled("cpu"))


def _norm_act_pool(
    norm: int | None, activation: str, pool: Pooling | None, pool_first: bool, x: Tensor, modules: Modules
) -> Tensor:
    if x.dim() == 2:  # a vector is a map of one cell
        return _norm_act_pool(norm, activation, pool, pool_first, x[:, :, None, None], modules).flatten(1)
    module = None if norm is None else cast("Norm", modules[norm])
    return norm_act_pool(x, module, activation, pool, pool_first)
