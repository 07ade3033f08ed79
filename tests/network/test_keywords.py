"""Adding a layer: a row of the keyword table, a PyTorch module and an ONNX node are enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from convscope.backends.onnx.graph import LAYER_WRITERS, GraphBuilder
from convscope.backends.pytorch.models import LAYER_MODULES, as_batch, build_model, get_weights
from convscope.errors import ArchitectureError
from convscope.evaluation.explain import explain_cell
from convscope.evaluation.trace import trace
from convscope.network.build import parse_network
from convscope.network.keywords import KEYWORDS
from convscope.network.layers.base import Layer
from convscope.network.layers.context import Keyword, LayerContext
from helpers.model_files import export
from helpers.networks import NetworkCase, random_images, random_preprocessing

CASE = NetworkCase("conv 4 3 pad same, relu, upsample 3, batchnorm, globalmax", (4, 5, 3), 2)


@dataclass(frozen=True, kw_only=True)
class Upsample(Layer):
    """Repeats every cell `factor` times in both directions."""

    factor: int


def build(context: LayerContext) -> Upsample:
    height, width, channels = context.input_shape
    factor = context.value(0)
    return Upsample(**context.fields((height * factor, width * factor, channels)), factor=factor)


def write(graph: GraphBuilder, layer: Upsample, value: str, name: str) -> str:
    scales = graph.add_constant(f"{name}.scales", np.array([1, 1, layer.factor, layer.factor], np.float32))
    return graph.add_node("Resize", name, [value, "", scales], mode="nearest", nearest_mode="floor",
                          coordinate_transformation_mode="asymmetric")  # fmt: skip


@pytest.fixture
def _upsample(monkeypatch: pytest.MonkeyPatch) -> None:
    keyword = Keyword(example="upsample 2", values=("factor",), input="maps", build=build)
    monkeypatch.setitem(KEYWORDS, "upsample", keyword)
    monkeypatch.setitem(LAYER_MODULES, Upsample, lambda layer: nn.Upsample(scale_factor=layer.factor))
    monkeypatch.setitem(LAYER_WRITERS, Upsample, write)


@pytest.mark.usefixtures("_upsample")
def test_new_layer_with_three_entries_works_in_every_backend() -> None:
    network, images = CASE.network, random_images(CASE, 3)
    assert [layer.name for layer in network.layers if isinstance(layer, Upsample)] == ["upsample1"]
    assert network.layers[3].output_shape == (12, 15, 4)
    assert network.layers[0].initialization == "he"  # type: ignore[attr-defined]
    model, preprocessing = build_model(network).eval(), random_preprocessing(CASE)
    pixels = preprocessing.normalize(images)
    with torch.inference_mode():
        expected = model(as_batch(pixels)).numpy()
    content = export(network, get_weights(model), preprocessing, ["ant", "bee"])
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images})
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    traces = trace(model, network, pixels[0])
    assert explain_cell(traces, "upsample1", (0, 0, 0)).value == traces["relu1"].output[0, 0, 0]


@pytest.mark.usefixtures("_upsample")
def test_new_layer_appears_in_error_messages() -> None:
    with pytest.raises(ArchitectureError, match=r"'upsample' lacks the factor: write it as in 'upsample 2'"):
        parse_network("upsample")
    with pytest.raises(ArchitectureError, match=r"did you mean 'upsample'\?"):
        parse_network("upsampel 2")
