"""Channel attention: `squeeze`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convscope.network.activations import ACTIVATIONS
from convscope.network.grammar import Option
from convscope.network.layers.base import Layer
from convscope.network.layers.context import Keyword, LayerContext
from convscope.network.layers.dense import Dense
from convscope.network.layers.elementwise import Activation
from convscope.network.layers.pooling import GlobalAvgPool

GATES = "sigmoid", "hardsigmoid"  # activations from 0 to 1


@dataclass(frozen=True, kw_only=True)
class SqueezeExcite(Layer):
    """Multiplies each feature map by a factor from 0 to 1 that depends on all of them (Hu et al., 2018).

    Attributes:
        gate: Computes the factors from the maps: global average, dense, activation, dense, gate function.
    """

    gate: tuple[Layer, ...]

    @property
    def children(self) -> tuple[Layer, ...]:
        return self.gate


def _squeeze(context: LayerContext) -> SqueezeExcite:
    units, channels = context.value(0), context.input_shape[-1]
    activation, gate = context.word("act", "relu"), context.word("gate", "sigmoid")
    layers: list[Layer] = []

    def add(layer: type[Layer], part: str, size: int, **fields: Any) -> None:
        name, source = f"{context.name}.{part}", f"dense {size}" if layer is Dense else part
        shape = layers[-1].output_shape if layers else context.input_shape
        layers.append(layer(name=name, source=source, input_shape=shape, output_shape=(size,), **fields))

    add(GlobalAvgPool, "globalavg", channels)
    add(Dense, "reduce", units, units=units, initialization=ACTIVATIONS[activation].initialization)
    add(Activation, activation, units, kind=activation)
    add(Dense, "expand", channels, units=channels, initialization=ACTIVATIONS[gate].initialization)
    add(Activation, gate, channels, kind=gate)
    return SqueezeExcite(**context.fields(), gate=tuple(layers))


SQUEEZE_EXCITE_KEYWORDS = {
    "squeeze": Keyword(
        example="squeeze 8",
        values=("number of units",),
        options={"act": Option(tuple(name for name in ACTIVATIONS if name not in GATES)), "gate": Option(GATES)},
        input="maps",
        build=_squeeze,
    ),
}
