"""Reading a model file, which may come from anyone, before onnxruntime does.

A file is accepted if its checksum is right and its graph is, node for node, the one that `build_graph` makes of its own
metadata. So it holds no other operators, subgraphs or functions, refers to no other file, and cannot contradict its
metadata. Only the weights are free, and they must be finite.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from convscope._files import kind_of
from convscope._records import validation_reason
from convscope.backends.onnx.graph import Node, Weights, build_graph, output_sizes
from convscope.backends.onnx.metadata import (
    BATCH_AXIS,
    FLOAT,
    INPUT,
    IR_VERSION,
    METADATA_KEY,
    OPSET,
    PRODUCER,
    UINT8,
    ModelMetadata,
    digest_entry,
)
from convscope.backends.onnx.parse import ParsedGraph, ParsedModel, Port, parse_graph, parse_model
from convscope.backends.onnx.quantized_graph import BUILDERS
from convscope.errors import ArchitectureError, ModelFileError
from convscope.network.build import parse_network
from convscope.network.network import Network

MAX_BYTES = 2**31 - 1  # the limit of protobuf
ADVICE = "restore it from a copy, or train again"


@dataclass(frozen=True)
class ModelFile:
    """A verified model file.

    Attributes:
        metadata: Classes, preprocessing and architecture.
        content: All bytes of the file.
        constants: The weights and those of preprocessing, by name.
    """

    metadata: ModelMetadata
    content: bytes
    constants: Weights


def read_model_file(path: Path) -> ModelFile:
    """Read and verify a model file.

    Raises:
        ModelFileError: It cannot be read, is damaged, was altered, was written by another program or version, or
            contains weights that are not finite.
    """
    content = _read_content(path)
    try:
        model = parse_model(content)
    except ValueError as error:
        raise ModelFileError(f"{path} is not a readable ONNX file: {ADVICE}") from error
    text = next((text for key, text in model.metadata if key == METADATA_KEY.encode()), None)
    if text is None:
        raise ModelFileError(
            f"{path} was not written by convscope: its metadata has no {METADATA_KEY!r} entry; "
            "use a model.onnx from a run folder, or name a JSON file that describes it, see docs/foreign-models.md"
        )
    if not _has_valid_digest(content):
        raise ModelFileError(f"{path} was altered: its content does not match its checksum; {ADVICE}")
    try:
        metadata = ModelMetadata.model_validate_json(text)
    except ValidationError as error:
        raise ModelFileError(
            f"{path} has metadata that this version of convscope cannot read ({validation_reason(error)}): "
            "train again, or update convscope"
        ) from error
    try:
        _check_model(model)
        graph = parse_graph(model.graphs[0])
        _check_graph(graph, metadata)
    except (ValueError, ArchitectureError) as error:
        raise ModelFileError(f"{path} cannot be used: {error}; {ADVICE}") from error
    return ModelFile(metadata, content, graph.constants)


def _read_content(path: Path) -> bytes:
    kind = kind_of(path, ModelFileError)
    if kind != "file":
        problem = "does not exist" if kind == "missing" else "is not a file"
        raise ModelFileError(f"expected a run folder or a model.onnx, but {path} {problem}: train a model first")
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ModelFileError(f"{path} has {size / 1e9:.1f} GB, but an ONNX file has at most 2.1 GB: {ADVICE}")
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}): {ADVICE}") from error


def _has_valid_digest(content: bytes) -> bool:
    size = len(digest_entry(b""))
    return digest_entry(memoryview(content)[:-size]) == content[-size:]


def _check_model(model: ParsedModel) -> None:
    """Raise ValueError unless everything around the graph is as convscope writes it."""
    versions = (model.ir_versions, model.opsets, model.producers)
    if versions != ([IR_VERSION], [(b"", OPSET)], [PRODUCER.encode()]) or model.other_fields:
        raise ValueError("its header is not one that convscope writes")
    if len(model.graphs) > 1 or len(model.metadata) > 2:
        raise ValueError("it has more graphs or metadata than convscope writes")


def _check_graph(graph: ParsedGraph, metadata: ModelMetadata) -> None:
    """Raise ValueError or ArchitectureError unless the graph is the one that the metadata describe."""
    network = parse_network(metadata.architecture, metadata.input_shape, len(metadata.classes))
    expected = build_graph(network, graph.constants, metadata, BUILDERS[metadata.precision])
    for node, wanted in zip(graph.nodes, expected.nodes, strict=False):
        if node != _as_read(wanted):
            raise ValueError(f"its node {wanted.output!r} is not the one that its metadata describe: {wanted.operator}")
    if len(graph.nodes) != len(expected.nodes) or graph.constants.keys() != expected.constants.keys():
        raise ValueError("its graph has other nodes or weights than its metadata describe")
    for name, array in expected.constants.items():
        if not np.isfinite(graph.constants[name]).all():
            raise ValueError(f"its weights {name!r} are not all finite numbers, as after a training that diverged")
        if not np.array_equal(array, graph.constants[name]):
            raise ValueError(f"its constant {name!r} is not the one that its metadata describe")
    if (graph.inputs, graph.outputs) != _ports(network, metadata):
        raise ValueError("its inputs or outputs are not those that its metadata describe")


def _ports(network: Network, metadata: ModelMetadata) -> tuple[list[Port], list[Port]]:
    """The inputs and outputs that a file must have."""
    inputs = [Port(INPUT, UINT8, (BATCH_AXIS, *metadata.input_shape))]
    return inputs, [Port(name, FLOAT, (BATCH_AXIS, size)) for name, size in output_sizes(network, metadata).items()]


def _as_read(node: Node) -> Node:
    """The node as it is after writing and reading: float attributes are float32, tuples are lists."""

    def read(value: object) -> object:
        if isinstance(value, float):
            return float(np.float32(value))
        return list(value) if isinstance(value, tuple) else value

    return node._replace(attributes={name: read(value) for name, value in node.attributes.items()})
