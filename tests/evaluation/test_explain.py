"""The arithmetic of any value of any layer against the model, and attributions against the logits they add up to."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import exp, tanh
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from convscope import reference
from convscope.backends.onnx.metadata import TemperatureScaling
from convscope.backends.pytorch.models import as_batch, build_model, get_weights, set_weights
from convscope.errors import UsageError
from convscope.evaluation.attribution import integrated_gradients
from convscope.evaluation.explain import LAYER_ARITHMETIC, explain_cell
from convscope.evaluation.trace import LayerTrace, trace
from convscope.network.build import parse_network
from convscope.network.layers.elementwise import Activation
from helpers.networks import (
    ALL_CASES,
    PADDED_POOL_CASES,
    PRESET_CASES,
    NetworkCase,
    many_examples,
    network_cases,
    random_images,
    random_preprocessing,
    trained_model,
)

Floats = NDArray[np.float32]
BLOCK = "residual(conv 8 3 stride 2 pad same, gelu)"
CASE = NetworkCase(f"conv 4 3 pad same, relu, {BLOCK}, maxpool 2, flatten, dropout 0.5", (8, 8, 1), 3)


def random_image(case: NetworkCase, seed: int = 0) -> Floats:
    """One preprocessed image."""
    images: Floats = random_preprocessing(case, seed).normalize(random_images(case, 1, seed))
    image: Floats = images[0]
    return image


def traces_of(case: NetworkCase, seed: int = 0) -> dict[str, LayerTrace]:
    return trace(trained_model(case, seed), case.network, random_image(case, seed))


def assert_cells_agree(case: NetworkCase, seed: int, cells: int) -> None:
    """Compares random cells of every layer, recomputed from the layer's input alone, with the model."""
    traces, rng = traces_of(case, seed), np.random.default_rng(seed)
    assert traces.keys() == {layer.name for layer in case.network.walk()}
    for name, traced in traces.items():
        assert traced.output.shape == traced.layer.output_shape
        assert traced.input.shape == traced.layer.input_shape
        for index in rng.integers(0, traced.output.shape, (cells, traced.output.ndim)).tolist():
            found = explain_cell(traces, name, tuple(index))
            assert found.agrees, found
            assert found.model_value == traced.output[tuple(index)]
            assert (found.layer, found.index) == (name, tuple(index))
            assert found.terms
            wrong = 3e-5 * (1 + sum(abs(term.product) for term in found.terms) + abs(found.bias))
            assert not found.model_copy(update={"model_value": found.model_value + wrong}).agrees
            assert not found.model_copy(update={"model_value": found.model_value - wrong}).agrees


@pytest.mark.slow
@many_examples
@given(network_cases(), st.integers(0, 99))
def test_explain_cell_any_network_agrees_with_the_model(case: NetworkCase, seed: int) -> None:
    assert_cells_agree(case, seed, cells=2)


@pytest.mark.parametrize("case", PADDED_POOL_CASES, ids=lambda case: case.architecture)
def test_explain_cell_padded_pool_agrees_with_the_model(case: NetworkCase) -> None:
    assert_cells_agree(case, seed=1, cells=10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_CASES)
def test_explain_cell_every_layer_and_preset_agrees_with_the_model(name: str) -> None:
    assert_cells_agree(ALL_CASES[name], seed=1, cells=3)


@pytest.mark.slow
@many_examples
@given(network_cases(), st.integers(0, 99))
def test_trace_any_network_is_a_chain_from_the_image_to_the_probabilities(case: NetworkCase, seed: int) -> None:
    traces = traces_of(case, seed)
    with torch.inference_mode():
        logits = trained_model(case, seed)(as_batch(random_image(case, seed)[None]))
    np.testing.assert_allclose(traces["classifier"].output, logits[0].numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(traces["softmax"].output, logits.softmax(1)[0].numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(next(iter(traces.values())).input, random_image(case, seed))
    for before, after in pairwise(case.network.layers):
        np.testing.assert_array_equal(traces[before.name].output, traces[after.name].input)


def test_agrees_after_a_small_error_is_false() -> None:
    """Weights, biases, inputs or outputs are off by a hundredth, or the output is NaN."""
    traces = traces_of(CASE)
    traced, index = traces["conv1"], (3, 4, 1)
    assert explain_cell(traces, "conv1", index).agrees
    for change in (
        replace(traced, weights=traced.weights | {"weight": traced.weights["weight"] + np.float32(0.01)}),
        replace(traced, weights=traced.weights | {"bias": traced.weights["bias"] + np.float32(0.01)}),
        replace(traced, input=traced.input + np.float32(0.01)),
        replace(traced, output=traced.output + np.float32(0.01)),
        replace(traced, output=traced.output * np.float32(np.nan)),
    ):
        assert not explain_cell({"conv1": change}, "conv1", index).agrees


def test_a3_explain_cell_of_the_article_has_its_terms() -> None:
    case = NetworkCase("conv 1 3, flatten", (5, 5, 1), 2)
    model = build_model(case.network).eval()
    kernel = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0]], np.float32)
    set_weights(model, get_weights(model) | {"conv1.weight": kernel[None, None]})
    image = np.array([list(row) for row in ("11011", "10101", "11110", "00110", "11000")], np.float32)
    traces = trace(model, case.network, image[:, :, None])
    assert traces["conv1"].output[:, :, 0].tolist() == [[3, 5, 3], [3, 2, 5], [4, 4, 2]]
    found = explain_cell(traces, "conv1", (0, 1, 0))
    assert found.rule == "the sum of input x weight, plus bias"
    assert [(term.source, term.value, term.weight) for term in found.terms] == [
        (f"[{row},{column},0]", image[row, column], kernel[row, column - 1])
        for row in range(3) for column in range(1, 4)
    ]  # fmt: skip
    assert (found.value, found.model_value, found.bias) == (5, 5, 0)
    assert sum(term.product for term in found.terms) == 5


def test_a7_explain_cell_of_flatten_names_the_source() -> None:
    case = NetworkCase("flatten", (2, 3, 4), 2)
    traces = traces_of(case)
    image = random_image(case)
    for index in range(24):
        found = explain_cell(traces, "flatten1", (index,))
        assert found.rule == "the same value, in row, column, channel order"
        (term,) = found.terms
        source = reference.flatten_source(index, (2, 3, 4))
        assert (term.source, term.value) == (f"[{','.join(map(str, source))}]", image[source])


@pytest.mark.parametrize(
    ("layer", "rule", "expected"),
    [
        ("maxpool 2", "the largest value of the window", 4.0),
        ("minpool 2", "the smallest value of the window", -3.0),
        ("avgpool 2", "the mean of the window", 0.75),
        ("maxpool 2 pad 1", "the largest value of the window", -3.0),
        ("avgpool 2 stride 1 pad 1", "the mean of the window", -3.0),
        ("globalavg", "the mean of the feature map", 0.75),
        ("globalmax", "the largest value of the feature map", 4.0),
        ("relu", "max(0, input)", 0.0),
        (
            "gelu",
            "the input times the normal distribution function at the input",
            -0.00404969409489031,
        ),  # scipy: -3 * norm.cdf(-3)
        ("tanh", "the hyperbolic tangent of the input", tanh(-3)),
        ("dropout 0.5", "the same value: dropout acts only during training", -3.0),
        ("residual(relu)", "the output of the body, plus the shortcut", -3.0),
    ],
)
def test_explain_cell_rule_and_value_equal_those_computed_by_hand(layer: str, rule: str, expected: float) -> None:
    """At the first cell of the 2x2 image -3 4 / 0 2."""
    end = "" if layer.startswith("global") else ", flatten"
    case = NetworkCase(layer + end, (2, 2, 1), 2)
    traces = trace(trained_model(case), case.network, np.array([[[-3], [4]], [[0], [2]]], np.float32))
    name = next(layer.name for layer in case.network.layers)
    found = explain_cell(traces, name, (0,) * traces[name].output.ndim)
    assert found.rule == rule
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.bias == 0
    assert found.agrees


def test_a8_a9_explain_cell_of_dense_and_softmax_equals_those_computed_by_hand() -> None:
    case = NetworkCase("flatten", (1, 2, 1), 2)
    model = build_model(case.network).eval()
    weights = {"classifier.weight": np.array([[1, 2], [3, -1]]), "classifier.bias": np.array([0.5, 1])}
    set_weights(model, {name: values.astype(np.float32) for name, values in weights.items()})
    traces = trace(model, case.network, np.array([[[2], [4]]], np.float32))
    unit = explain_cell(traces, "classifier", (1,))
    assert unit.rule == "the sum of input x weight, plus bias"
    assert [(term.source, term.value, term.weight) for term in unit.terms] == [("[0]", 2, 3), ("[1]", 4, -1)]
    assert (unit.bias, unit.value, unit.model_value) == (1, 3, 3)
    share = explain_cell(traces, "softmax", (1,))
    assert share.rule == f"exp of its own logit, {exp(-7.5):.6g}, divided by the sum of all"
    assert [(term.source, term.value) for term in share.terms] == [
        ("exp([0] - 10.5)", 1), ("exp([1] - 10.5)", exp(-7.5)),
    ]  # fmt: skip
    assert share.bias == 0
    assert share.value == pytest.approx(exp(-7.5) / (1 + exp(-7.5)), abs=1e-12)
    calibrated = trace(model, case.network, np.array([[[2], [4]]], np.float32), TemperatureScaling(temperature=2))
    share = explain_cell(calibrated, "softmax", (1,))
    assert [term.source for term in share.terms] == ["exp([0] / 2 - 5.25)", "exp([1] / 2 - 5.25)"]
    assert share.value == pytest.approx(exp(-3.75) / (1 + exp(-3.75)))
    assert share.agrees
    calibration = TemperatureScaling(temperature=2, exponent=0.5)
    share = explain_cell(trace(model, case.network, np.array([[[2], [4]]], np.float32), calibration), "softmax", (1,))
    assert [term.source for term in share.terms] == ["exp(-(10.5 - [0])**0.5 / 2)", "exp(-(10.5 - [1])**0.5 / 2)"]
    assert share.value == pytest.approx(exp(-(7.5**0.5) / 2) / (1 + exp(-(7.5**0.5) / 2)))
    assert share.agrees


def test_explain_cell_of_batchnorm_equals_that_computed_by_hand() -> None:
    case = NetworkCase("batchnorm, flatten", (1, 1, 2), 2)
    model = build_model(case.network).eval()
    changed = {"weight": [1, 3], "bias": [0, 5], "running_mean": [0, 7], "running_var": [1, 4 - 1e-5]}
    made = {f"batchnorm1.{name}": np.array(values, np.float32) for name, values in changed.items()}
    set_weights(model, get_weights(model) | made)
    found = explain_cell(trace(model, case.network, np.array([[[1, 11]]], np.float32)), "batchnorm1", (0, 0, 1))
    assert found.rule.startswith("(input - mean 7) / sqrt(variance 3.99999 + 1e-05) x weight 3 + bias 5")
    (term,) = found.terms
    assert (term.source, term.value) == ("[0,0,1]", 11)
    assert term.weight == pytest.approx(1.5)
    assert found.bias == pytest.approx(5 - 7 * 1.5)
    assert found.value == pytest.approx(found.model_value) == pytest.approx((11 - 7) / 2 * 3 + 5)


def test_explain_cell_padding_is_zeros_outside_the_image() -> None:
    found = explain_cell(traces_of(CASE), "conv1", (0, 0, 2))
    outside = [term for term in found.terms if "-1" in term.source]
    assert [term.source for term in outside] == ["[-1,-1,0]", "[-1,0,0]", "[-1,1,0]", "[0,-1,0]", "[1,-1,0]"]
    assert all(term.value == 0 for term in outside)


@pytest.mark.parametrize(
    ("layer", "index", "message"),
    [
        ("conv9", (0, 0, 0), "unknown layer 'conv9': layers are conv1, relu1, conv2, gelu1, "
         "residual1.projection, residual1, maxpool1, flatten1, dropout1, classifier, softmax"),
        ("conv1", (8, 0, 0), "expected conv1,ROW,COLUMN,CHANNEL within 8x8x4, counted from 0, got conv1,8,0,0"),
        ("conv1", (0, 0, 4), "expected conv1,ROW,COLUMN,CHANNEL within 8x8x4, counted from 0, got conv1,0,0,4"),
        ("conv1", (-1, 0, 0), "expected conv1,ROW,COLUMN,CHANNEL within 8x8x4, counted from 0, got conv1,-1,0,0"),
        ("conv1", (0,), "expected conv1,ROW,COLUMN,CHANNEL within 8x8x4, counted from 0, got conv1,0"),
        ("softmax", (3,), "expected softmax,INDEX within 3, counted from 0, got softmax,3"),
        ("flatten1", (0, 0, 0), "expected flatten1,INDEX within 32, counted from 0, got flatten1,0,0,0"),
    ],
)  # fmt: skip
def test_explain_cell_unknown_layer_or_index_raises(layer: str, index: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        explain_cell(traces_of(CASE), layer, index)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESET_CASES)
def test_integrated_gradients_add_up_to_the_difference_of_the_logits(name: str) -> None:
    """Completeness (Sundararajan et al., 2017, proposition 1), within 0.5 % of the sum of absolute values."""
    case = PRESET_CASES[name]
    model, image = trained_model(case, seed=1), random_image(case)
    with torch.inference_mode():
        logits = model(as_batch(np.stack([image, np.zeros_like(image)])))
    for target in range(0, 10, 3):
        heat = integrated_gradients(model, image, target)
        assert heat.shape == case.input_shape[:2]
        assert heat.dtype == np.float32
        difference = (logits[0, target] - logits[1, target]).item()
        assert heat.sum() == pytest.approx(difference, abs=5e-3 * abs(heat).sum().item())


def test_integrated_gradients_of_a_linear_network_are_weight_times_input() -> None:
    case = NetworkCase("flatten", (4, 5, 3), 6)
    model, image = trained_model(case), random_image(case)
    weights = get_weights(model)["classifier.weight"].reshape(6, 4, 5, 3)
    np.testing.assert_allclose(integrated_gradients(model, image, 2), (weights[2] * image).sum(2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pixels", [1, 5 * 64, 2**18])
def test_integrated_gradients_do_not_depend_on_the_steps_computed_at_once(
    pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = trained_model(CASE), random_image(CASE)
    monkeypatch.setattr("convscope.evaluation.attribution.BATCH_PIXELS", 32 * 64)
    expected = integrated_gradients(model, image, 1)
    monkeypatch.setattr("convscope.evaluation.attribution.BATCH_PIXELS", pixels)
    np.testing.assert_allclose(integrated_gradients(model, image, 1), expected, rtol=1e-4, atol=1e-6)


def state(model: nn.Module) -> dict[str, Any]:
    """Everything that must stay unchanged."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "training": [module.training for module in model.modules()],
        "hooks": [len(getattr(module, name)) for module in model.modules() for name in hooks],
        "weights": {name: values.tobytes() for name, values in get_weights(model).items()},
        "gradients": [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()],
    }


def fail(*_: object) -> None:
    raise RuntimeError("failed on purpose")


Explainer = Callable[[nn.Sequential, NetworkCase, Floats], object]
EXPLAINERS: dict[str, Explainer] = {
    "trace": lambda model, case, image: trace(model, case.network, image),
    "integrated gradients": lambda model, _, image: integrated_gradients(model, image, 1),
}


@pytest.mark.parametrize("explainer", EXPLAINERS)
@pytest.mark.parametrize("name", PRESET_CASES)
def test_explainer_leaves_the_model_unchanged(name: str, explainer: str) -> None:
    case = PRESET_CASES[name]
    model, image = trained_model(case), random_image(case)
    before, pixels = state(model), image.copy()
    EXPLAINERS[explainer](model, case, image)
    assert state(model) == before
    assert not any(before["hooks"])
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize("explainer", EXPLAINERS)
@pytest.mark.parametrize("name", PRESET_CASES)
def test_explainer_that_fails_leaves_the_model_unchanged(name: str, explainer: str) -> None:
    """An image with other channels fails in the first layer, the hook in the last."""
    case = PRESET_CASES[name]
    model = trained_model(case)
    before = state(model)
    with pytest.raises(RuntimeError):
        EXPLAINERS[explainer](model, case, np.zeros((28, 28, 5), np.float32))
    hook = model[-1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="failed on purpose"):
        EXPLAINERS[explainer](model, case, random_image(case))
    hook.remove()
    assert state(model) == before


def test_explain_cell_layer_without_arithmetic_shows_the_result_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(LAYER_ARITHMETIC, Activation)
    traces = traces_of(CASE)
    found = explain_cell(traces, "relu1", (0, 0, 0))
    assert (found.terms, found.bias) == ((), 0)
    assert found.value == found.model_value == traces["relu1"].output[0, 0, 0]
    assert found.rule == "the result of the model; its arithmetic is not available"


def test_cell_explanation_json_holds_products_and_agreement() -> None:
    found = explain_cell(traces_of(CASE), "conv1", (1, 1, 0))
    values = found.model_dump(mode="json")
    assert list(values) == ["layer", "index", "rule", "terms", "bias", "value", "model_value", "agrees"]
    assert values["terms"][0] == {
        "source": "[0,0,0]",
        "value": found.terms[0].value,
        "weight": found.terms[0].weight,
        "product": found.terms[0].product,
    }


def test_explain_cell_path_of_a_layer_inside_a_block_is_accepted() -> None:
    network = parse_network("residual(conv 2 3 pad same), flatten", (4, 4, 1), 2)
    traces = trace(build_model(network).eval(), network, np.ones((4, 4, 1), np.float32))
    assert explain_cell(traces, "residual1.body.conv1", (1, 1, 0)) == explain_cell(traces, "conv1", (1, 1, 0))
