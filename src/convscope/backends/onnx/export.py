"""Layer records and weights to a self-contained ONNX file.

The graph takes uint8 images (n, height, width, channels) and returns `features`, `logits` and `probabilities`, all
float32 (n, ...). Cast, scale, mean and transpose are part of the graph. Every value has the name of its layer; the
metadata hold the classes and the preprocessing. docs/model-file.md specifies the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from convscope.backends.onnx.graph import GraphBuilder, Weights, build_graph, output_sizes
from convscope.backends.onnx.metadata import (
    BATCH_AXIS,
    INPUT,
    IR_VERSION,
    LOGITS,
    METADATA_KEY,
    OPSET,
    PRODUCER,
    ModelMetadata,
    Rejection,
    digest_entry,
)
from convscope.backends.onnx.ood import STATISTICS, add_statistics, ood_layers, statistics_count
from convscope.backends.onnx.quantize import CalibrationGraphBuilder
from convscope.backends.onnx.quantized_graph import BUILDERS
from convscope.network.network import Network


class CalibrationModel(NamedTuple):
    """A graph for calibration.

    Attributes:
        content: The serialized graph.
        outputs: Its outputs, by the name of the point that is quantized.
        inputs: See `CalibrationGraphBuilder`.
    """

    content: bytes
    outputs: dict[str, str]
    inputs: dict[str, str | None]


def to_onnx(network: Network, weights: Weights, metadata: ModelMetadata) -> bytes:
    """Write a model file.

    Args:
        network: The layers.
        weights: Arrays by name, as returned by `backends.pytorch.models.get_weights`, or for the precision "int8" by
            `quantize.quantize`.
        metadata: Classes, preprocessing and so on, stored along with the graph.

    Returns:
        The serialized file; equal arguments give equal bytes.
    """
    graph = build_graph(network, weights, metadata, BUILDERS[metadata.precision])
    model = _to_model(graph, network, output_sizes(network, metadata))
    helper.set_model_props(model, {METADATA_KEY: metadata.model_dump_json()})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content + digest_entry(content)


def to_statistics_onnx(network: Network, weights: Weights, metadata: ModelMetadata) -> bytes:
    """A graph that computes the logits and what `evaluation.ood` fits; not a model file."""
    graph = build_graph(network, weights, metadata.model_copy(update={"rejection": Rejection()}))
    add_statistics(graph, network)
    layers = ood_layers(network)
    sizes = {LOGITS: network.classes, STATISTICS: statistics_count(layers) or 2 * network.input_shape[-1]}
    content: bytes = _to_model(graph, network, sizes).SerializeToString()
    return content


def to_calibration_onnx(network: Network, weights: Weights, metadata: ModelMetadata) -> CalibrationModel:
    """Write a float32 graph whose outputs are the values that an int8 model quantizes; not a model file.

    Args:
        network: The layers.
        weights: After `folding.fold_batch_norm`.
        metadata: The scale and mean of preprocessing.
    """
    graph = CalibrationGraphBuilder(weights)
    build_graph(network, weights, metadata, lambda _: graph)
    model = _to_model(graph, network, {})
    model.graph.output.extend(onnx.ValueInfoProto(name=value) for value in graph.values.values())
    return CalibrationModel(model.SerializeToString(), graph.values, graph.inputs)


def _to_model(graph: GraphBuilder, network: Network, sizes: Mapping[str, int]) -> onnx.ModelProto:
    """The graph with outputs of these sizes."""
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH_AXIS, size]) for name, size in sizes.items()
    ]
    inputs = [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [BATCH_AXIS, *network.input_shape])]
    nodes = [helper.make_node(node.operator, node.inputs, [node.output], **node.attributes) for node in graph.nodes]
    constants = [numpy_helper.from_array(np.array(array, order="C"), name) for name, array in graph.constants.items()]
    return helper.make_model(
        helper.make_graph(nodes, PRODUCER, inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
    )
