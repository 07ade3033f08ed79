"""Layer records and weights to a self-contained ONNX file.

The graph takes uint8 images (n, height, width, channels) and returns `logits` and `probabilities`, both float32
(n, classes). Cast, scale, mean and transpose are part of the graph. Every node has the name of its layer; the metadata
holds the classes and the preprocessing. docs/model-file.md specifies the file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from convscope.backends.onnx.graph import Weights, build_graph
from convscope.backends.onnx.metadata import (
    BATCH_AXIS,
    INPUT,
    IR_VERSION,
    LOGITS,
    METADATA_KEY,
    OPSET,
    PROBABILITIES,
    PRODUCER,
    ModelMetadata,
    digest_entry,
)
from convscope.images.preprocessing import Preprocessing
from convscope.network.network import Network


def to_onnx(network: Network, weights: Weights, preprocessing: Preprocessing, classes: Sequence[str]) -> bytes:
    """Write a model file.

    Args:
        network: The layers.
        weights: Arrays by name, as returned by `backends.pytorch.models.get_weights`.
        preprocessing: The scale and mean of the graph's first nodes; stored as metadata.
        classes: Class names in the order of the outputs.

    Returns:
        The serialized file; equal arguments give equal bytes.
    """
    graph = build_graph(network, weights, preprocessing)
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH_AXIS, network.classes])
        for name in (LOGITS, PROBABILITIES)
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
    metadata = ModelMetadata(classes=tuple(classes), preprocessing=preprocessing, architecture=network.architecture)
    helper.set_model_props(model, {METADATA_KEY: metadata.model_dump_json()})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content + digest_entry(content)
