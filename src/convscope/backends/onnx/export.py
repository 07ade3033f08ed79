"""Layer records and weights to a self-contained ONNX file.

The graph takes uint8 images (n, height, width, channels) and returns `features`, `logits` and `probabilities`, all
float32 (n, ...). Cast, scale, mean and transpose are part of the graph. Every value has the name of its layer; the
metadata hold the classes and the preprocessing. docs/model-file.md specifies the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from convscope.backends.onnx.graph import NCHW_TO_NHWC, GraphBuilder, Weights, build_graph, output_sizes
from convscope.backends.onnx.metadata import (
    BATCH_AXIS,
    FEATURES,
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
from convscope.backends.onnx.ood import STATISTICS, add_statistics, statistics_count
from convscope.backends.onnx.quantize import CalibrationGraphBuilder
from convscope.backends.onnx.quantized_graph import BUILDERS
from convscope.network.network import Network

MAPS = "maps"  # an output of `to_maps_onnx`


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
    model = _to_model(graph, [_images(network)], _vectors(output_sizes(network, metadata)))
    helper.set_model_props(model, {METADATA_KEY: metadata.model_dump_json()})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content + digest_entry(content)


def to_statistics_onnx(network: Network, weights: Weights, metadata: ModelMetadata) -> bytes:
    """A graph that computes the logits and what `evaluation.ood` fits; not a model file."""
    kind = metadata.rejection.ood_statistics
    graph = build_graph(network, weights, metadata.model_copy(update={"rejection": Rejection()}))
    add_statistics(graph, network, kind)
    sizes = {LOGITS: network.classes, STATISTICS: statistics_count(network, kind)}
    content: bytes = _to_model(graph, [_images(network)], _vectors(sizes)).SerializeToString()
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
    outputs = [onnx.ValueInfoProto(name=value) for value in graph.values.values()]
    model = _to_model(graph, [_images(network)], outputs)
    return CalibrationModel(model.SerializeToString(), graph.values, graph.inputs)


def to_maps_onnx(network: Network, weights: Weights, cut: int | None) -> bytes:
    """A graph of the layers before the classifier, for training only the last ones; not a model file.

    It takes normalized images, float32 (n, channels, height, width), and returns `FEATURES`, float32 (n, features),
    and with a cut `MAPS`, the output of the first layers, float16 (n, height, width, channels).

    Args:
        network: The layers.
        weights: Arrays by name.
        cut: How many of the network's layers compute the maps, all of them before the global pool.
    """
    graph, body = GraphBuilder(weights), network.layers[:-2]
    height, width, channels = network.input_shape
    images = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [BATCH_AXIS, channels, height, width])
    outputs = _vectors({FEATURES: network.layers[-2].input_shape[0]})
    value = graph.add_layers(body[:cut], INPUT, "")
    if cut:
        rows = graph.add_node("Transpose", "maps.rows", [value], perm=NCHW_TO_NHWC)
        graph.add_node("Cast", MAPS, [rows], to=TensorProto.FLOAT16)
        shape: list[str | int | None] = [BATCH_AXIS, *body[cut - 1].output_shape]
        outputs.append(helper.make_tensor_value_info(MAPS, TensorProto.FLOAT16, shape))
        value = graph.add_layers(body[cut:], value, "")
    graph.add_node("Identity", FEATURES, [value])
    content: bytes = _to_model(graph, [images], outputs).SerializeToString()
    return content


def _images(network: Network) -> onnx.ValueInfoProto:
    """The input of all graphs but `to_maps_onnx`: uint8 images."""
    return helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [BATCH_AXIS, *network.input_shape])


def _vectors(sizes: Mapping[str, int]) -> list[onnx.ValueInfoProto]:
    """Outputs of these sizes."""
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH_AXIS, size]) for name, size in sizes.items()]


def _to_model(
    graph: GraphBuilder, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    nodes = [helper.make_node(node.operator, node.inputs, [node.output], **node.attributes) for node in graph.nodes]
    constants = [numpy_helper.from_array(np.array(array, order="C"), name) for name, array in graph.constants.items()]
    return helper.make_model(
        helper.make_graph(nodes, PRODUCER, inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
    )
