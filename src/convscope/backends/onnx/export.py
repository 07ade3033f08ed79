"""Layer records and weights to a self-contained ONNX file.

The graph takes uint8 images (n, height, width, channels) and returns `features`, `logits` and `probabilities`, all
float32 (n, ...). Cast, scale, mean and transpose are part of the graph. Every node has the name of its layer; the
metadata hold the classes and the preprocessing. docs/model-file.md specifies the file.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from convscope.backends.onnx.graph import Weights, build_graph, output_sizes
from convscope.backends.onnx.metadata import (
    BATCH_AXIS,
    INPUT,
    IR_VERSION,
    METADATA_KEY,
    OPSET,
    PRODUCER,
    ModelMetadata,
    digest_entry,
)
from convscope.network.network import Network


def to_onnx(network: Network, weights: Weights, metadata: ModelMetadata) -> bytes:
    """Write a model file.

    Args:
        network: The layers.
        weights: Arrays by name, as returned by `backends.pytorch.models.get_weights`.
        metadata: Classes, preprocessing and so on, stored along with the graph.

    Returns:
        The serialized file; equal arguments give equal bytes.
    """
    graph = build_graph(network, weights, metadata)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH_AXIS, size])
        for name, size in output_sizes(network).items()
    ]
    inputs = [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [BATCH_AXIS, *network.input_shape])]
    nodes = [
        helper.make_node(node.operator, node.inputs, [node.output], name=node.name, **node.attributes)
        for node in graph.nodes
    ]
    constants = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in graph.constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, PRODUCER, inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
    )
    helper.set_model_props(model, {METADATA_KEY: metadata.model_dump_json()})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content + digest_entry(content)
