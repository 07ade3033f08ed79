"""What is refused in an ONNX file before onnxruntime sees it: references to other files, and operators of others."""

from __future__ import annotations

from convscope.backends.onnx.protobuf import Value, read_fields

STANDARD_DOMAINS = (b"", b"ai.onnx", b"ai.onnx.ml")
MAX_DEPTH = 32  # of messages in messages: graphs in nodes in graphs

# Fields with messages in them, by onnx.proto: kind of message -> number of the field -> kind of the message inside.
INNER: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "opset": {},
}
DOMAIN_FIELDS = {"opset": 1, "node": 7}
EXTERNAL_DATA, DATA_LOCATION, TRAINING = 13, 14, 20


def check_standard(content: bytes) -> None:
    """Raise ValueError, with the reason, if the file refers to other files or uses operators that are not standard."""
    _check(memoryview(content), "model", 0)


def _check(message: memoryview, kind: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError("its graphs are nested too deeply")
    for number, value in read_fields(message):
        if kind == "tensor" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value)):
            raise ValueError("its weights are in another file (external data): store them in the file itself")
        if kind == "model" and number == TRAINING:
            raise ValueError("it contains a training graph")
        if number == DOMAIN_FIELDS.get(kind):
            _check_domain(value)
        if (inner := INNER[kind].get(number)) is not None:
            if not isinstance(value, memoryview):
                raise ValueError("it is not a readable ONNX file")
            _check(value, inner, depth + 1)


def _check_domain(value: Value) -> None:
    domain = bytes(value) if isinstance(value, memoryview) else b"?"
    if domain not in STANDARD_DOMAINS:
        raise ValueError(f"it uses operators of {domain[:50].decode(errors='replace')!r}, which are not standard")
