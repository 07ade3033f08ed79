"""The table of activation functions: everything the grammar, the models, the model file and the explainer need to know.

To add an activation, add a row to `ACTIVATIONS`; its key becomes a keyword of the architecture language. The kernels
fuse it if native/src/activation.h has a row of the same name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from convscope import reference
from convscope.reference import Floats

NEGATIVE_SLOPE = 0.01  # of leaky ReLU (Maas et al., 2013); PyTorch's default


@dataclass(frozen=True, kw_only=True)
class ActivationFunction:
    """An elementwise function and its name in every backend.

    Attributes:
        forward: f(x) in NumPy, of x's shape and dtype.
        derivative: f'(x) in NumPy, of x's shape and dtype.
        rule: f(x) in words, for `convscope explain --cell`.
        torch_module: Name of the class in `torch.nn`.
        torch_arguments: Keyword arguments of that class.
        onnx_operator: Name of the ONNX operator.
        onnx_attributes: Attributes of that operator.
        onnx_constants: Numbers that it reads after x, by name.
        onnx_gated: Whether f(x) is x times its result.
        initialization: Rule for the initial weights of the layer before it: "he" if f cuts off negative values.
    """

    forward: Callable[[Floats], Floats]
    derivative: Callable[[Floats], Floats]
    rule: str
    torch_module: str
    torch_arguments: Mapping[str, float] = field(default_factory=dict)
    onnx_operator: str
    onnx_attributes: Mapping[str, Any] = field(default_factory=dict)
    onnx_constants: Mapping[str, float] = field(default_factory=dict)
    onnx_gated: bool = False
    initialization: Literal["he", "glorot"]


def gelu(x: Floats) -> Floats:
    """Gaussian error linear unit, exact (Hendrycks and Gimpel, 2016): x times the normal distribution function at x.

    >>> gelu(np.array([-3.0, 0.0, 3.0])).round(4)
    array([-0.004,  0.   ,  2.996])
    """
    return x * _normal_distribution(x)


def gelu_derivative(x: Floats) -> Floats:
    """Derivative of `gelu` at x.

    >>> gelu_derivative(np.array([-3.0, 0.0, 3.0])).round(4)
    array([-0.0119,  0.5   ,  1.0119])
    """
    density = np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi)
    return _normal_distribution(x) + x * density


def _normal_distribution(x: Floats) -> Floats:
    erf = np.vectorize(math.erf, otypes=[x.dtype])(x / math.sqrt(2))
    return np.asarray((1 + erf) / 2, x.dtype)


def sigmoid(x: Floats) -> Floats:
    """Logistic function: 1 / (1 + exp(-x)).

    >>> sigmoid(np.array([-3.0, 0.0, 3.0])).round(4)
    array([0.0474, 0.5   , 0.9526])
    """
    return np.asarray((1 + np.tanh(x / 2)) / 2, x.dtype)  # the same, but exp cannot overflow


def sigmoid_derivative(x: Floats) -> Floats:
    """Derivative of `sigmoid` at x.

    >>> sigmoid_derivative(np.array([-3.0, 0.0, 3.0])).round(4)
    array([0.0452, 0.25  , 0.0452])
    """
    return sigmoid(x) * (1 - sigmoid(x))


def silu(x: Floats) -> Floats:
    """Sigmoid linear unit (Elfwing et al., 2017; swish of Ramachandran et al., 2017): x times the sigmoid of x.

    >>> silu(np.array([-3.0, 0.0, 3.0])).round(4)
    array([-0.1423,  0.    ,  2.8577])
    """
    return x * sigmoid(x)


def silu_derivative(x: Floats) -> Floats:
    """Derivative of `silu` at x.

    >>> silu_derivative(np.array([-3.0, 0.0, 3.0])).round(4)
    array([-0.0881,  0.5   ,  1.0881])
    """
    gate = sigmoid(x)
    return gate * (1 + x * (1 - gate))


def hardsigmoid(x: Floats) -> Floats:
    """`sigmoid` with straight lines (Howard et al., 2019): min(max(x + 3, 0), 6) / 6.

    >>> hardsigmoid(np.array([-4.0, -1.5, 0.0, 4.0]))
    array([0.  , 0.25, 0.5 , 1.  ])
    """
    return np.asarray(np.clip(x + 3, 0, 6) / 6, x.dtype)


def hardsigmoid_derivative(x: Floats) -> Floats:
    """Derivative of `hardsigmoid` at x.

    >>> hardsigmoid_derivative(np.array([-4.0, 0.0, 4.0])).round(4)
    array([0.    , 0.1667, 0.    ])
    """
    return np.where(np.abs(x) < 3, 1 / 6, 0).astype(x.dtype)


def hardswish(x: Floats) -> Floats:
    """`silu` with `hardsigmoid` for the sigmoid (Howard et al., 2019): x * min(max(x + 3, 0), 6) / 6.

    >>> hardswish(np.array([-3.0, -1.5, 0.0, 1.5, 3.0]))
    array([-0.   , -0.375,  0.   ,  1.125,  3.   ])
    """
    return np.asarray(x * hardsigmoid(x), x.dtype)


def hardswish_derivative(x: Floats) -> Floats:
    """Derivative of `hardswish` at x.

    >>> hardswish_derivative(np.array([-4.0, 0.0, 4.0]))
    array([0. , 0.5, 1. ])
    """
    return np.select([x <= -3, x < 3], [np.zeros_like(x), x / 3 + 0.5], np.ones_like(x))


ACTIVATIONS: dict[str, ActivationFunction] = {
    "relu": ActivationFunction(
        forward=reference.relu,
        derivative=lambda x: reference.relu_backward(np.ones_like(x), x),
        rule="max(0, input)",
        torch_module="ReLU",
        onnx_operator="Relu",
        initialization="he",
    ),
    "leakyrelu": ActivationFunction(
        forward=lambda x: np.where(x > 0, x, NEGATIVE_SLOPE * x).astype(x.dtype),
        derivative=lambda x: np.where(x > 0, 1, NEGATIVE_SLOPE).astype(x.dtype),
        rule=f"the input if it is positive, else the input x {NEGATIVE_SLOPE:g}",
        torch_module="LeakyReLU",
        torch_arguments={"negative_slope": NEGATIVE_SLOPE},
        onnx_operator="LeakyRelu",
        onnx_attributes={"alpha": NEGATIVE_SLOPE},
        initialization="he",
    ),
    "relu6": ActivationFunction(
        forward=lambda x: np.clip(x, 0, 6),
        derivative=lambda x: np.where((x > 0) & (x < 6), 1, 0).astype(x.dtype),
        rule="min(max(0, input), 6)",
        torch_module="ReLU6",
        onnx_operator="Clip",
        onnx_constants={"min": 0, "max": 6},
        initialization="he",
    ),
    "gelu": ActivationFunction(
        forward=gelu,
        derivative=gelu_derivative,
        rule="the input times the normal distribution function at the input",
        torch_module="GELU",
        onnx_operator="Gelu",
        initialization="he",
    ),
    "silu": ActivationFunction(
        forward=silu,
        derivative=silu_derivative,
        rule="the input times the sigmoid of the input",
        torch_module="SiLU",
        onnx_operator="Sigmoid",
        onnx_gated=True,
        initialization="he",
    ),
    "hardswish": ActivationFunction(
        forward=hardswish,
        derivative=hardswish_derivative,
        rule="the input x min(max(0, input + 3), 6) / 6",
        torch_module="Hardswish",
        onnx_operator="HardSwish",
        initialization="he",
    ),
    "sigmoid": ActivationFunction(
        forward=sigmoid,
        derivative=sigmoid_derivative,
        rule="1 / (1 + exp(-input))",
        torch_module="Sigmoid",
        onnx_operator="Sigmoid",
        initialization="glorot",
    ),
    "hardsigmoid": ActivationFunction(
        forward=hardsigmoid,
        derivative=hardsigmoid_derivative,
        rule="min(max(0, input + 3), 6) / 6",
        torch_module="Hardsigmoid",
        onnx_operator="HardSigmoid",
        onnx_attributes={"alpha": 1 / 6, "beta": 0.5},
        initialization="glorot",
    ),
    "tanh": ActivationFunction(
        forward=np.tanh,
        derivative=lambda x: 1 - np.square(np.tanh(x)),
        rule="the hyperbolic tangent of the input",
        torch_module="Tanh",
        onnx_operator="Tanh",
        initialization="glorot",
    ),
}
