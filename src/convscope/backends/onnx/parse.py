"""The content of an ONNX file, parsed strictly: whatever convscope does not write is a ValueError.

The numbers of fields are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convscope.backends.onnx.graph import Node
from convscope.backends.onnx.metadata import FLOAT, FLOAT16, INT8, INT32, INT64, UINT8
from convscope.backends.onnx.protobuf import Value, read_fields

DTYPES: dict[int, np.dtype[Any]] = {
    FLOAT: np.dtype("<f4"), UINT8: np.dtype("u1"), INT8: np.dtype("i1"), INT32: np.dtype("<i4"), INT64: np.dtype("<i8"),
    FLOAT16: np.dtype("<f2"),
}  # fmt: skip
MAX_DIMENSIONS, MAX_DIMENSION = 4, 2**31


class Port(NamedTuple):
    """An input or output of the graph: name, ONNX's number of its type, and sides, where a name stands for any."""

    name: str
    kind: int
    shape: tuple[int | str, ...]


@dataclass
class ParsedGraph:
    """Everything that a graph consists of."""

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)


@dataclass
class ParsedModel:
    """The parts of a file. `opsets` and `metadata` are pairs of a name with a version or text."""

    graphs: list[memoryview] = field(default_factory=list)
    metadata: list[tuple[bytes, bytes]] = field(default_factory=list)
    opsets: list[tuple[bytes, int]] = field(default_factory=list)
    ir_versions: list[Value] = field(default_factory=list)
    producers: list[bytes] = field(default_factory=list)
    other_fields: int = 0


def parse_model(content: bytes) -> ParsedModel:
    """Parse a file without looking into its graph. Raises ValueError if it is no ONNX file."""
    model = ParsedModel()
    for number, value in read_fields(memoryview(content)):
        if number == 1:
            model.ir_versions.append(value)
        elif number == 2:
            model.producers.append(bytes(_message(value)))
        elif number == 7:
            model.graphs.append(_message(value))
        elif number == 8:
            model.opsets.append(_opset(_message(value)))
        elif number == 14:
            entry = dict(read_fields(_message(value)))
            model.metadata.append((bytes(_message(entry.get(1))), bytes(_message(entry.get(2)))))
        else:
            model.other_fields += 1
    if not model.graphs:
        raise ValueError("it has no graph")
    return model


def parse_graph(message: memoryview) -> ParsedGraph:
    """Parse a graph. Raises ValueError, with the reason, if it has parts that convscope does not write."""
    graph = ParsedGraph()
    for number, value in read_fields(message):
        part = _message(value)
        if number == 1:
            graph.nodes.append(_node(part))
        elif number == 5:
            name, array = _constant(part)
            if name in graph.constants:
                raise ValueError(f"the weights {name!r} appear twice")
            graph.constants[name] = array
        elif number == 11:
            graph.inputs.append(_port(part))
        elif number == 12:
            graph.outputs.append(_port(part))
        elif number != 2:  # the graph's name
            raise ValueError("its graph has parts that convscope does not write")
    return graph


def _node(message: memoryview) -> Node:
    inputs: list[str] = []
    outputs: list[str] = []
    operator = ""
    attributes = {}
    for number, value in read_fields(message):
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 4:
            operator = _text(value)
        elif number == 5:
            name, attribute = _attribute(_message(value))
            attributes[name] = attribute
        else:
            raise ValueError("one of its nodes has parts that convscope does not write")
    if len(outputs) != 1:
        raise ValueError(f"one of its nodes has {len(outputs)} outputs")
    return Node(operator, tuple(inputs), outputs[0], attributes)


def _attribute(message: memoryview) -> tuple[str, Any]:
    """Name and value: a number, a text, or a list of integers."""
    name = ""
    numbers: list[Any] = []
    single: list[Any] = []
    for number, value in read_fields(message):
        if number == 1:
            name = _text(value)
        elif number in {2, 3}:  # float, integer
            single.append(value)
        elif number == 4:
            single.append(_text(value))
        elif number == 8:
            numbers.append(value)
        elif number != 20:  # the type, which follows from the value
            raise ValueError("a node has an attribute that convscope does not write")
    return name, single[0] if len(single) == 1 and not numbers else numbers


def _constant(message: memoryview) -> tuple[str, NDArray[Any]]:
    """Name and values of an array that is stored in the file itself."""
    name, kind, raw = "", 0, memoryview(b"")
    shape: list[int] = []
    for number, value in read_fields(message):
        if number in {13, 14}:
            raise ValueError("its weights are in another file (external data), which convscope does not read")
        if number == 1:
            shape.append(_integer(value))
        elif number == 2:
            kind = _integer(value)
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = _message(value)
        else:
            raise ValueError("its weights are stored in a way that convscope does not write")
    too_large = len(shape) > MAX_DIMENSIONS or max(shape, default=0) > MAX_DIMENSION
    dtype = DTYPES.get(kind)
    if too_large or dtype is None or len(raw) != dtype.itemsize * prod(shape):
        raise ValueError(f"its weights {name!r} are not of a type that convscope writes, or not of the size they claim")
    return name, np.frombuffer(raw, dtype).reshape(shape)


def _port(message: memoryview) -> Port:
    name, kind = "", 0
    shape: list[int | str] = []
    for number, value in read_fields(message):
        if number == 1:
            name = _text(value)
        elif number == 2:
            tensor = dict(read_fields(_message(dict(read_fields(_message(value))).get(1))))
            kind = _integer(tensor.get(1))
            for _, dimension in read_fields(_message(tensor.get(2))):
                side = dict(read_fields(_message(dimension)))
                shape.append(_integer(side[1]) if 1 in side else _text(side.get(2)))
        else:
            raise ValueError(f"its input or output {name!r} has parts that convscope does not write")
    return Port(name, kind, tuple(shape))


def _opset(message: memoryview) -> tuple[bytes, int]:
    values = dict(read_fields(message))
    return bytes(_message(values.get(1, memoryview(b"")))), _integer(values.get(2))


def _message(value: Value | None) -> memoryview:
    if not isinstance(value, memoryview):
        raise ValueError("a part is missing")
    return value


def _integer(value: Value | None) -> int:
    if not isinstance(value, int):
        raise ValueError("a number is missing")
    return value


def _text(value: Value | None) -> str:
    return bytes(_message(value)).decode()
