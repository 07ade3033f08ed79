"""The arithmetic of activations in the page: its named numbers lead to the value, and the value is the function's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from convscope.images.read import encode_png
from helpers.lab_page import NodePage, encode


class Case(NamedTuple):
    """A node, what it computes of a number of channel c, and the names of its steps."""

    operator: str
    expected: Any
    steps: tuple[str, ...]
    attributes: Mapping[str, Any] = MappingProxyType({})
    constants: tuple[Any, ...] = ()


SLOPES = (0.1, 0.2, 0.3)
CASES = (
    Case("Clip", lambda x, _: min(max(x, 0), 6), ("low", "high"), {}, (0.0, 6.0)),
    Case("Elu", lambda x, _: x if x > 0 else 1.5 * math.expm1(x), ("alpha",), {"alpha": 1.5}),
    Case("Gelu", lambda x, _: x * (1 + math.erf(x / 2**0.5)) / 2, ("(1 + erf(input / √2)) / 2",)),
    Case(
        "Gelu",
        lambda x, _: x * (1 + math.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2,
        ("(1 + tanh(√(2/π) (input + 0.044715 input³))) / 2",),
        {"approximate": "tanh"},
    ),
    Case(
        "HardSigmoid", lambda x, _: min(max(0.3 * x + 0.4, 0), 1),
        ("alpha", "beta", "alpha x input + beta"), {"alpha": 0.3, "beta": 0.4},
    ),
    Case("HardSwish", lambda x, _: x * min(max(x / 6 + 0.5, 0), 1), ("input / 6 + 0.5, from 0 to 1",)),
    Case("LeakyRelu", lambda x, _: x if x > 0 else 0.05 * x, ("slope",), {"alpha": 0.05}),
    Case("PRelu", lambda x, c: x if x > 0 else SLOPES[c] * x, ("slope",), {}, (np.reshape(SLOPES, (3, 1, 1)),)),
    Case("Relu", lambda x, _: max(x, 0), ()),
    Case("Sigmoid", lambda x, _: 1 / (1 + math.exp(-x)), ()),
    Case("Softplus", lambda x, _: math.log1p(math.exp(x)), ("1 + e^input",)),
    Case("Tanh", lambda x, _: math.tanh(x), ("t",)),
    Case("Mul", lambda x, c: SLOPES[c] * x, (), {}, (np.reshape(SLOPES, (3, 1, 1)),)),
    Case("SiLU", lambda x, _: x / (1 + math.exp(-x)), ()),
)  # fmt: skip


def model_of(case: Case) -> bytes:
    """A model without our metadata: values from -7 to 7, the function, and a global average."""
    values = {"weight": 14 * np.eye(3).reshape(3, 3, 1, 1), "bias": np.full(3, -7)}
    values |= {f"constant{i}": one for i, one in enumerate(case.constants)}
    nodes = [helper.make_node("Conv", ["image", "weight", "bias"], ["x"], "conv")]
    if case.operator == "SiLU":
        nodes += [
            helper.make_node("Sigmoid", ["x"], ["gate"], "y.gate"),
            helper.make_node("Mul", ["x", "gate"], ["y"], "y"),
        ]
    else:
        inputs = ["x", *(name for name in values if name.startswith("constant"))]
        nodes.append(helper.make_node(case.operator, inputs, ["y"], "y", **case.attributes))
    nodes += [helper.make_node("GlobalAveragePool", ["y"], ["mean"]), helper.make_node("Flatten", ["mean"], ["answer"])]
    graph = helper.make_graph(
        nodes, "graph", [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, (1, 3))],
        [helper.make_tensor(name, TensorProto.FLOAT, np.shape(one), np.ravel(one)) for name, one in values.items()],
    )  # fmt: skip
    model: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    ).SerializeToString()
    onnx.checker.check_model(onnx.load_from_string(model))
    return model


@pytest.mark.parametrize("case", CASES, ids=[f"{case.operator}{len(case.attributes)}" for case in CASES])
def test_cell_of_an_activation_has_the_steps_to_its_value(node: NodePage, case: Case) -> None:
    node.ask("open", model=encode(model_of(case)))
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    node.ask("classify", file=encode(encode_png(image)))
    cells = [cell for cell in node.ask("cells", count=40) if cell["name"] == "y"]
    assert len(cells) == 40
    for cell in cells:
        channel, row, column = cell["cell"]
        x = 14 * int(image[row, column, channel]) / 255 - 7
        assert cell["value"] == pytest.approx(case.expected(x, channel), rel=1e-5, abs=1e-6)
        names, numbers = zip(*cell.get("parts", [("input", x)]), strict=True)
        assert names == ("input", *case.steps)
        assert numbers[0] == pytest.approx(x, abs=1e-5)
        assert last_step(case, cell, numbers) == pytest.approx(cell["value"], rel=1e-5, abs=1e-6)


def last_step(case: Case, cell: dict[str, Any], numbers: tuple[float, ...]) -> float:
    """The value that the shown numbers give."""
    if operation := cell.get("operation"):
        _, first, sign, second = operation
        return float(first / second if sign == "/" else first * second)
    last: float = numbers[-1]
    match case.operator:
        case "Softplus":
            return math.log(last)
        case "HardSigmoid":
            return min(max(last, 0), 1)
        case "Clip":
            return min(max(numbers[0], numbers[1]), numbers[2])
    return max(numbers[0], 0)
