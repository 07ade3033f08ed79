"""Layer records to PyTorch models.

A model takes float32 batches (n, channels, height, width) and returns logits (n, classes). Every child has the name of
its record. The softmax record has no module: the loss and the model file apply it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from convscope.backends.pytorch import modules, shared_batch
from convscope.backends.pytorch.fusion import FusedSequential
from convscope.errors import UsageError
from convscope.network.layers.base import Layer, walk_paths
from convscope.network.layers.convolution import Conv
from convscope.network.layers.dense import Dense, Flatten, Softmax
from convscope.network.layers.elementwise import Activation, BatchNorm, Dropout
from convscope.network.layers.pooling import GlobalAvgPool, GlobalMaxPool, Pool
from convscope.network.layers.residual import Residual
from convscope.network.layers.squeeze_excite import SqueezeExcite
from convscope.network.network import Network

MAX_PARAMETERS = 1_000_000_000  # float32 weights, gradients, momenta and the best weights: 16 GB


def build_model(network: Network, seed: int = 0) -> nn.Sequential:
    """Build the PyTorch model of a network; biases are zero.

    Args:
        network: The layers.
        seed: The only source of the initial weights.

    Returns:
        The model, in training mode and channels-last memory format.

    Raises:
        UsageError: If the network has more than `MAX_PARAMETERS` parameters.

    >>> from convscope.network.build import parse_network
    >>> model = build_model(parse_network("conv 32 3, relu, maxpool 2, flatten, dense 100, relu"))
    >>> sum(weight.numel() for weight in model.parameters())
    542230
    """
    if network.parameters > MAX_PARAMETERS:
        raise UsageError(
            f"expected at most {MAX_PARAMETERS:,} parameters, {network.architecture!r} has {network.parameters:,}: "
            "pool more, or give layers fewer units or filters"
        )
    model = _sequential(network.layers)
    generator = torch.Generator().manual_seed(seed)
    for path, record in walk_paths((layer.name, layer) for layer in network.layers):
        if isinstance(record, Conv | Dense):
            _initialize(model.get_submodule(path), record, generator)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    return model


def as_batch(images: NDArray[np.float32]) -> Tensor:
    """View float images (n, height, width, channels) as a batch (n, channels, height, width), without a copy."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def get_weights(model: nn.Module) -> dict[str, NDArray[Any]]:
    """Copy all tensors of a model, by name.

    Convolutions have a float32 `conv1.weight` (filters, channels / groups, kernel, kernel), dense layers a
    `dense1.weight` (units, inputs); biases are (filters,) or (units,). Batch normalization adds its running mean and
    variance and an int64 count of batches.
    """
    return {name: tensor.detach().numpy().copy(order="C") for name, tensor in model.state_dict().items()}


def set_weights(model: nn.Module, weights: Mapping[str, NDArray[Any]]) -> None:
    """Set all tensors of a model.

    Args:
        model: The model to change.
        weights: Arrays by name, as returned by `get_weights`.

    Raises:
        RuntimeError: If names or shapes differ from those of the model.
    """
    model.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})


def _sequential(layers: tuple[Layer, ...]) -> FusedSequential:
    layers = tuple(layer for layer in layers if not isinstance(layer, Softmax))
    return FusedSequential(_children(layers), layers)


def _children(layers: tuple[Layer, ...]) -> OrderedDict[str, nn.Module]:
    """The module of each layer by its name: of `squeeze1.reduce`, `reduce`."""
    return OrderedDict((layer.name.split(".")[-1], LAYER_MODULES[type(layer)](layer)) for layer in layers)


def _conv(layer: Conv) -> nn.Module:
    channels = layer.input_shape[-1]
    if layer.initialization == "whiten":
        return modules.WhiteningConv2d(channels, layer.kernel_size)
    top, bottom, left, right = layer.padding
    if (top, left) == (bottom, right):
        return nn.Conv2d(channels, layer.filters, layer.kernel_size, layer.stride, (top, left),
                         groups=layer.groups, bias=layer.bias)  # fmt: skip
    return modules.Conv2dSame(channels, layer.filters, layer.kernel_size, layer.stride, layer.padding,
                              layer.groups, layer.bias)  # fmt: skip


def _batch_norm(layer: BatchNorm) -> nn.Module:
    kind = shared_batch.BatchNorm2d if len(layer.input_shape) == 3 else shared_batch.BatchNorm1d
    return kind(layer.input_shape[-1], layer.epsilon)


def _activation(layer: Activation) -> nn.Module:
    function = layer.function
    module: nn.Module = modules.module_class(function.torch_module)(**function.torch_arguments)
    return module


def _pool(layer: Pool) -> nn.Module:
    pool: nn.Module = modules.module_class(layer.function.torch_module)(layer.kernel_size, layer.stride)
    return modules.PaddedPool2d(pool, layer.padding, layer.function.pad_value) if any(layer.padding) else pool


def _residual(layer: Residual) -> nn.Module:
    projection = _conv(layer.projection) if layer.projection else nn.Identity()
    return modules.ResidualBlock(_sequential(layer.body), _sequential(layer.shortcut), projection)


# The module of each layer. To add a layer, add an entry.
LAYER_MODULES: dict[type[Layer], Callable[[Any], nn.Module]] = {
    Conv: _conv,
    Dense: lambda layer: nn.Linear(layer.input_shape[0], layer.units),
    BatchNorm: _batch_norm,
    Activation: _activation,
    Dropout: lambda layer: shared_batch.Dropout(layer.rate),
    Pool: _pool,
    GlobalAvgPool: lambda _: modules.GlobalAvgPool2d(),
    GlobalMaxPool: lambda _: modules.GlobalMaxPool2d(),
    Flatten: lambda _: modules.FlattenHWC(),
    Residual: _residual,
    SqueezeExcite: lambda layer: modules.SqueezeExcite(_children(layer.gate)),
}


def _initialize(module: Any, record: Conv | Dense, generator: torch.Generator) -> None:
    """He-uniform (He et al., 2015) or Glorot-uniform (Glorot and Bengio, 2010), with fans as Keras counts them.

    "identity" makes the first filters copy the input channels (Zagoruyko and Komodakis, 2017).
    """
    window = record.kernel_size**2 if isinstance(record, Conv) else 1
    fan_in = module.weight[0].numel()
    fan_out = window * len(module.weight)
    limit = sqrt(6 / fan_in) if record.initialization == "he" else sqrt(6 / (fan_in + fan_out))
    with torch.no_grad():
        module.weight.uniform_(-limit, limit, generator=generator)
        if module.bias is not None:
            module.bias.zero_()
        if isinstance(record, Conv) and record.initialization == "identity":
            copies, center = range(min(module.weight.shape[:2])), (record.kernel_size - 1) // 2
            module.weight[: len(copies)] = 0
            module.weight[copies, copies, center, center] = 1
