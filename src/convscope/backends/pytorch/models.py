"""Layer records -> torch modules.

A model takes float32 batches (n, channels, height, width) and returns logits (n, classes); the softmax record
adds no module because the loss and the exported graph apply it. Each child carries its record's name.
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

from convscope.backends.pytorch.fusion import Fused
from convscope.backends.pytorch.modules import (
    FlattenHWC,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    MinPool2d,
    PaddedConv,
    ResidualBlock,
    UnevenPad,
    Whitening,
)
from convscope.errors import UsageError
from convscope.network.layers import (
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    Layer,
    Network,
    Pool,
    Residual,
    Softmax,
)

MAX_PARAMETERS = 1_000_000_000  # float32 weights, gradients, momenta and a copy of the best: 16 GB


def build_model(network: Network, seed: int = 0) -> nn.Sequential:
    """The torch model of `network`, its weights drawn from `seed` alone; biases are zero.

    Raises UsageError for more than `MAX_PARAMETERS`.

    >>> from convscope.network.build import parse_network
    >>> model = build_model(parse_network("conv 32 3, relu, maxpool 2, flatten, dense 100, relu"))
    >>> sum(weight.numel() for weight in model.parameters())
    542230
    """
    if network.parameters > MAX_PARAMETERS:
        raise UsageError(
            f"{network.architecture!r} has {network.parameters:,} parameters, and {MAX_PARAMETERS:,} are the most: "
            "pool more, or give layers fewer units or filters"
        )
    model = _sequence(network.layers)
    generator = torch.Generator().manual_seed(seed)
    records = {layer.name: layer for layer in network.walk()}
    for name, module in model.named_modules():
        record = records.get(_record_name(name))
        if isinstance(record, Conv | Dense) and isinstance(module, nn.Conv2d | nn.Linear):
            _initialize(module, record, generator)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave it out
    return model


def as_batch(images: NDArray[np.float32]) -> Tensor:
    """Float images (n, height, width, channels) as torch wants them, without a copy: (n, c, h, w), channels last."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def get_weights(model: nn.Module) -> dict[str, NDArray[Any]]:
    """A copy of every tensor of the model by name.

    `conv1.weight` is float32 (filters, channels, kernel, kernel), `dense1.weight` (units, inputs), biases (filters,)
    or (units,); batch norm adds its running mean and variance and an int64 count of batches.
    """
    return {name: tensor.detach().numpy().copy(order="C") for name, tensor in model.state_dict().items()}


def set_weights(model: nn.Module, weights: Mapping[str, NDArray[Any]]) -> None:
    """Load what `get_weights` gave. Raises KeyError or RuntimeError when names or shapes differ."""
    model.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})


def _sequence(layers: tuple[Layer, ...]) -> Fused:
    kept = [layer for layer in layers if not isinstance(layer, Softmax)]
    return Fused(OrderedDict((layer.name, MODULES[type(layer)](layer)) for layer in kept))


def _conv(layer: Conv) -> nn.Module:
    if layer.initialization == "whiten":
        return Whitening(layer.input_shape[-1], layer.kernel)
    top, bottom, left, right = layer.padding
    even = top == bottom and left == right
    conv = nn.Conv2d(layer.input_shape[-1], layer.filters, layer.kernel, layer.stride, (top, left) if even else 0,
                     groups=layer.groups, bias=layer.bias)  # fmt: skip
    return conv if even else PaddedConv(OrderedDict(pad=UnevenPad(layer.padding), conv=conv))


def _activation(layer: Activation) -> nn.Module:
    modules: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
    return modules[layer.function]()


def _pool(layer: Pool) -> nn.Module:
    modules: dict[str, Callable[[int, int], nn.Module]] = {
        "max": nn.MaxPool2d,
        "min": MinPool2d,
        "average": nn.AvgPool2d,
    }
    return modules[layer.kind](layer.size, layer.stride)


def _batch_norm(layer: BatchNorm) -> nn.Module:
    return (nn.BatchNorm2d if len(layer.input_shape) == 3 else nn.BatchNorm1d)(layer.input_shape[-1])


def _residual(layer: Residual) -> nn.Module:
    return ResidualBlock(_sequence(layer.body), _conv(layer.projection) if layer.projection else nn.Identity())


MODULES: dict[type[Layer], Callable[[Any], nn.Module]] = {
    Conv: _conv,
    Dense: lambda layer: nn.Linear(layer.input_shape[0], layer.units),
    BatchNorm: _batch_norm,
    Activation: _activation,
    Dropout: lambda layer: nn.Dropout(layer.rate),
    Pool: _pool,
    GlobalAvgPool: lambda _: GlobalAvgPool2d(),
    GlobalMaxPool: lambda _: GlobalMaxPool2d(),
    Flatten: lambda _: FlattenHWC(),
    Residual: _residual,
}


def _record_name(module_name: str) -> str:
    """`residual1.body.conv2` -> `conv2`; `residual1.projection` stays, as its record is called."""
    if module_name.endswith(".projection"):
        return ".".join(module_name.split(".")[-2:])
    return module_name.removesuffix(".conv").split(".")[-1]


def _initialize(module: nn.Conv2d | nn.Linear, record: Conv | Dense, generator: torch.Generator) -> None:
    """He-uniform (He et al., 2015) or Glorot-uniform (Glorot and Bengio, 2010), with Keras's counts of fans.

    With `identity` the first filters copy the incoming channels (Zagoruyko and Komodakis, 2017).
    """
    window = record.kernel**2 if isinstance(record, Conv) else 1
    fan_in = module.weight[0].numel()
    fan_out = window * len(module.weight)
    limit = sqrt(6 / fan_in) if record.initialization == "he" else sqrt(6 / (fan_in + fan_out))
    with torch.no_grad():
        module.weight.uniform_(-limit, limit, generator=generator)
        if module.bias is not None:
            module.bias.zero_()
        if isinstance(record, Conv) and record.initialization == "identity":
            copied, middle = range(min(module.weight.shape[:2])), (record.kernel - 1) // 2
            module.weight[: len(copied)] = 0
            module.weight[copied, copied, middle, middle] = 1
