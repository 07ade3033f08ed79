"""The table of pooling functions: everything the grammar, the models, the model file and the explainer need to know."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

PoolKind = Literal["max", "min", "average"]


@dataclass(frozen=True, kw_only=True)
class PoolFunction:
    """What a window is reduced to, and its name in every backend.

    Attributes:
        keyword: Its word in the architecture language.
        kind: Its name in layer records, in `reference.POOL_FUNCTIONS` and in convscope-native.
        rule: The function in words, for `convscope explain --cell`.
        torch_module: Name of the class in `backends.pytorch.modules` or `torch.nn`.
        onnx_operator: Name of the ONNX operator.
        onnx_negated: Whether input and output of that operator are negated: the minimum is -max(-x).
        pad_value: What padding is filled with before pooling, so that it is never the result; an average is then
            corrected for the padding in its window.
    """

    keyword: str
    kind: PoolKind
    rule: str
    torch_module: str
    onnx_operator: str
    onnx_negated: bool = False
    pad_value: float


POOLS: dict[str, PoolFunction] = {
    "max": PoolFunction(
        keyword="maxpool",
        kind="max",
        rule="the largest value of the window",
        torch_module="MaxPool2d",
        onnx_operator="MaxPool",
        pad_value=-math.inf,
    ),
    "min": PoolFunction(
        keyword="minpool",
        kind="min",
        rule="the smallest value of the window",
        torch_module="MinPool2d",
        onnx_operator="MaxPool",
        onnx_negated=True,
        pad_value=math.inf,
    ),
    "average": PoolFunction(
        keyword="avgpool",
        kind="average",
        rule="the mean of the window",
        torch_module="AvgPool2d",
        onnx_operator="AveragePool",
        pad_value=0,
    ),
}
