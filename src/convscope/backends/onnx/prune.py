"""A model file without what only its `ood_score` needs: runtimes compute all nodes, whatever they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from convscope.backends.onnx.metadata import OOD_SCORE
from convscope.backends.onnx.ood import PREFIX
from convscope.backends.onnx.protobuf import Value, read_fields, write_field

GRAPH = 7  # field of ModelProto
NAME_FIELDS = {1: 2, 5: 8, 12: 1}  # fields of GraphProto (node, initializer, output), and where their names are


def without_ood_score(content: bytes) -> bytes:
    """Remove the output `ood_score`, its nodes and its constants.

    Args:
        content: A model file that `read_model_file` has accepted.

    Returns:
        A serialized ONNX model for a runtime; not a model file, since its checksum is wrong.
    """
    fields = read_fields(memoryview(content))
    return b"".join(write_field(number, _prune(value) if number == GRAPH else value) for number, value in fields)


def _prune(graph: Value) -> bytes:
    assert isinstance(graph, memoryview)
    return b"".join(write_field(number, value) for number, value in read_fields(graph) if not _is_ood(number, value))


def _is_ood(number: int, part: Value) -> bool:
    if number not in NAME_FIELDS:
        return False
    return any(name == OOD_SCORE or name.startswith(PREFIX) for name in _names(part, NAME_FIELDS[number]))


def _names(part: Value, field: int) -> Iterator[str]:
    assert isinstance(part, memoryview)
    for number, value in read_fields(part):
        if number == field and isinstance(value, memoryview):
            yield bytes(value).decode()
