"""A look inside: the arithmetic of any cell of any layer against the network, and attribution against its own sum."""

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
from convscope.backends.pytorch.models import as_batch, build_model, get_weights, set_weights
from convscope.errors import UsageError
from convscope.evaluation.explain import Cell, Step, attribution, cell, trace
from convscope.network.build import parse_network
from helpers.lines import ALL_PRESETS, Line, lines, many, noise, record, trained

Floats = NDArray[np.float32]
BLOCK = "residual(conv 8 3 stride 2 pad same, gelu)"
LINE = Line(f"conv 4 3 pad same, relu, {BLOCK}, maxpool 2, flatten, dropout 0.5", (8, 8, 1), 3)


def picture(line: Line, seed: int = 0) -> Floats:
    """One image as the network sees it."""
    images: Floats = record(line, seed).normalize(noise(line, 1, seed))
    image: Floats = images[0]
    return image


def steps_of(line: Line, seed: int = 0) -> dict[str, Step]:
    return trace(trained(line, seed), line.network, picture(line, seed))


def assert_cells_agree(line: Line, seed: int, cells: int) -> None:
    """Random cells of every layer, worked out from the layer's input alone, are what the network computed."""
    steps, rng = steps_of(line, seed), np.random.default_rng(seed)
    assert steps.keys() == {layer.name for layer in line.network.walk()}
    for name, step in steps.items():
        assert step.output.shape == step.layer.output_shape
        assert step.input.shape == step.layer.input_shape
        for place in rng.integers(0, step.output.shape, (cells, step.output.ndim)).tolist():
            found = cell(steps, name, tuple(place))
            assert found.agrees, found
            assert found.network == step.output[tuple(place)]
            assert (found.layer, found.place) == (name, tuple(place))
            wrong = 3e-5 * (1 + sum(abs(term.product) for term in found.terms) + abs(found.bias))
            assert not replace(found, network=found.network + wrong).agrees
            assert not replace(found, network=found.network - wrong).agrees


@many
@given(lines(), st.integers(0, 99))
def test_every_cell_of_any_line_agrees_with_the_network(line: Line, seed: int) -> None:
    assert_cells_agree(line, seed, cells=2)


@pytest.mark.parametrize("name", ALL_PRESETS)
def test_every_cell_of_every_preset_agrees_with_the_network(name: str) -> None:
    assert_cells_agree(ALL_PRESETS[name], seed=1, cells=3)


@many
@given(lines(), st.integers(0, 99))
def test_steps_end_in_the_network_s_answer_and_follow_each_other(line: Line, seed: int) -> None:
    steps = steps_of(line, seed)
    with torch.inference_mode():
        logits = trained(line, seed)(as_batch(picture(line, seed)[None]))
    np.testing.assert_allclose(steps["classifier"].output, logits[0].numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(steps["softmax"].output, logits.softmax(1)[0].numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(next(iter(steps.values())).input, picture(line, seed))
    for before, after in pairwise(line.network.layers):
        np.testing.assert_array_equal(steps[before.name].output, steps[after.name].input)


def test_a_cell_does_not_agree_when_the_network_computes_something_else() -> None:
    """The largest and the smallest slips that could happen: one weight, one input, one output off by a hundredth."""
    steps = steps_of(LINE)
    step, place = steps["conv1"], (3, 4, 1)
    assert cell(steps, "conv1", place).agrees
    for change in (
        replace(step, weights=step.weights | {"weight": step.weights["weight"] + np.float32(0.01)}),
        replace(step, weights=step.weights | {"bias": step.weights["bias"] + np.float32(0.01)}),
        replace(step, input=step.input + np.float32(0.01)),
        replace(step, output=step.output + np.float32(0.01)),
        replace(step, output=step.output * np.float32(np.nan)),
    ):
        assert not cell({"conv1": change}, "conv1", place).agrees


def test_a3_the_article_s_cell_term_by_term_in_a_torch_network() -> None:
    line = Line("conv 1 3, flatten", (5, 5, 1), 2)
    model = build_model(line.network).eval()
    kernel = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0]], np.float32)
    set_weights(model, get_weights(model) | {"conv1.weight": kernel[None, None]})
    image = np.array([list(row) for row in ("11011", "10101", "11110", "00110", "11000")], np.float32)
    steps = trace(model, line.network, image[:, :, None])
    assert steps["conv1"].output[:, :, 0].tolist() == [[3, 5, 3], [3, 2, 5], [4, 4, 2]]
    found = cell(steps, "conv1", (0, 1, 0))
    assert found.rule == "the sum of input x weight, plus bias"
    assert [(term.source, term.value, term.weight) for term in found.terms] == [
        (f"[{row},{column},0]", image[row, column], kernel[row, column - 1])
        for row in range(3) for column in range(1, 4)
    ]  # fmt: skip
    assert (found.value, found.network, found.bias) == (5, 5, 0)
    assert sum(term.product for term in found.terms) == 5


def test_a7_every_entry_of_the_vector_names_the_map_cell_it_came_from() -> None:
    line = Line("flatten", (2, 3, 4), 2)
    steps = steps_of(line)
    image = picture(line)
    for index in range(24):
        found = cell(steps, "flatten1", (index,))
        assert found.rule == "the same value, in the order row, column, channel"
        (term,) = found.terms
        place = reference.flatten_source(index, (2, 3, 4))
        assert (term.source, term.value) == (f"[{','.join(map(str, place))}]", image[place])


@pytest.mark.parametrize(
    ("layer", "rule", "expected"),
    [
        ("maxpool 2", "the largest value of the window", 4.0),
        ("minpool 2", "the smallest value of the window", -3.0),
        ("avgpool 2", "the mean of the window", 0.75),
        ("globalavg", "the mean of the map", 0.75),
        ("globalmax", "the largest value of the map", 4.0),
        ("relu", "the larger of 0 and the input", 0.0),
        ("gelu", "x times the normal distribution at x", -0.00404969409489031),  # scipy: -3 * norm.cdf(-3)
        ("tanh", "the hyperbolic tangent of the input", tanh(-3)),
        ("dropout 0.5", "the same value: dropout acts only while training", -3.0),
        ("residual(relu)", "what the block made, plus what went around it", -3.0),
    ],
)
def test_rules_worked_out_by_hand(layer: str, rule: str, expected: float) -> None:
    """On the 2x2 image -3 4 / 0 2, at its first cell."""
    end = "" if layer.startswith("global") else ", flatten"
    line = Line(layer + end, (2, 2, 1), 2)
    steps = trace(trained(line), line.network, np.array([[[-3], [4]], [[0], [2]]], np.float32))
    name = next(layer.name for layer in line.network.layers)
    found = cell(steps, name, (0,) * steps[name].output.ndim)
    assert found.rule == rule
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.bias == 0
    assert found.agrees


def test_a8_and_a9_a_dense_unit_and_its_share_worked_out_by_hand() -> None:
    line = Line("flatten", (1, 2, 1), 2)
    model = build_model(line.network).eval()
    weights = {"classifier.weight": np.array([[1, 2], [3, -1]]), "classifier.bias": np.array([0.5, 1])}
    set_weights(model, {name: values.astype(np.float32) for name, values in weights.items()})
    steps = trace(model, line.network, np.array([[[2], [4]]], np.float32))
    unit = cell(steps, "classifier", (1,))
    assert unit.rule == "the sum of input x weight, plus bias"
    assert [(term.source, term.value, term.weight) for term in unit.terms] == [("[0]", 2, 3), ("[1]", 4, -1)]
    assert (unit.bias, unit.value, unit.network) == (1, 3, 3)
    share = cell(steps, "softmax", (1,))
    assert share.rule == f"exp of its own score, {exp(-7.5):.6g}, divided by the sum of all"
    assert [(term.source, term.value) for term in share.terms] == [
        ("exp([0] - 10.5)", 1), ("exp([1] - 10.5)", exp(-7.5)),
    ]  # fmt: skip
    assert share.bias == 0
    assert share.value == pytest.approx(exp(-7.5) / (1 + exp(-7.5)), abs=1e-12)


def test_a_batch_norm_worked_out_by_hand() -> None:
    line = Line("batchnorm, flatten", (1, 1, 2), 2)
    model = build_model(line.network).eval()
    changed = {"weight": [1, 3], "bias": [0, 5], "running_mean": [0, 7], "running_var": [1, 4 - 1e-5]}
    made = {f"batchnorm1.{name}": np.array(values, np.float32) for name, values in changed.items()}
    set_weights(model, get_weights(model) | made)
    found = cell(trace(model, line.network, np.array([[[1, 11]]], np.float32)), "batchnorm1", (0, 0, 1))
    assert found.rule.startswith("(input - mean 7) / sqrt(variance 3.99999 + 1e-05) x weight 3 + bias 5")
    (term,) = found.terms
    assert (term.source, term.value) == ("[0,0,1]", 11)
    assert term.weight == pytest.approx(1.5)
    assert found.bias == pytest.approx(5 - 7 * 1.5)
    assert found.value == pytest.approx(found.network) == pytest.approx((11 - 7) / 2 * 3 + 5)


def test_padding_is_shown_as_zeros_outside_the_image() -> None:
    found = cell(steps_of(LINE), "conv1", (0, 0, 2))
    outside = [term for term in found.terms if "-1" in term.source]
    assert [term.source for term in outside] == ["[-1,-1,0]", "[-1,0,0]", "[-1,1,0]", "[0,-1,0]", "[1,-1,0]"]
    assert all(term.value == 0 for term in outside)


@pytest.mark.parametrize(
    ("layer", "place", "message"),
    [
        ("conv9", (0, 0, 0), "unknown layer 'conv9': this network has conv1, relu1, conv2, gelu1, "
         "residual1.projection, residual1, maxpool1, flatten1, dropout1, classifier, softmax"),
        ("conv1", (8, 0, 0), "conv1 has 8x8x4 cells, so give conv1,ROW,COLUMN,CHANNEL within them, counted from 0"),
        ("conv1", (0, 0, 4), "conv1 has 8x8x4 cells, so give conv1,ROW,COLUMN,CHANNEL within them, counted from 0"),
        ("conv1", (-1, 0, 0), "conv1 has 8x8x4 cells, so give conv1,ROW,COLUMN,CHANNEL within them, counted from 0"),
        ("conv1", (0,), "conv1 has 8x8x4 cells, so give conv1,ROW,COLUMN,CHANNEL within them, counted from 0"),
        ("softmax", (3,), "softmax has 3 cells, so give softmax,INDEX within them, counted from 0"),
        ("flatten1", (0, 0, 0), "flatten1 has 32 cells, so give flatten1,INDEX within them, counted from 0"),
    ],
)  # fmt: skip
def test_layers_and_places_that_are_not_there(layer: str, place: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        cell(steps_of(LINE), layer, place)


@pytest.mark.parametrize("name", ALL_PRESETS)
def test_attribution_adds_up_to_the_difference_of_the_logits(name: str) -> None:
    """Completeness (Sundararajan et al., 2017, proposition 1), within 0.5 % of all that spoke for and against."""
    line = ALL_PRESETS[name]
    model, image = trained(line, seed=1), picture(line)
    with torch.inference_mode():
        logits = model(as_batch(np.stack([image, np.zeros_like(image)])))
    for target in range(0, 10, 3):
        heat = attribution(model, image, target)
        assert heat.shape == line.input[:2]
        assert heat.dtype == np.float32
        difference = (logits[0, target] - logits[1, target]).item()
        assert heat.sum() == pytest.approx(difference, abs=5e-3 * abs(heat).sum().item())


def test_attribution_of_a_linear_network_is_weight_times_input() -> None:
    line = Line("flatten", (4, 5, 3), 6)
    model, image = trained(line), picture(line)
    weights = get_weights(model)["classifier.weight"].reshape(6, 4, 5, 3)
    np.testing.assert_allclose(attribution(model, image, 2), (weights[2] * image).sum(2), rtol=1e-4, atol=1e-5)


def state(model: nn.Module) -> dict[str, Any]:
    """All that looking must leave as it was."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "training": [module.training for module in model.modules()],
        "hooks": [len(getattr(module, name)) for module in model.modules() for name in hooks],
        "weights": {name: values.tobytes() for name, values in get_weights(model).items()},
        "gradients": [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()],
    }


def fail(*_: object) -> None:
    raise RuntimeError("half way")


Look = Callable[[nn.Sequential, Line, Floats], object]
LOOKS: dict[str, Look] = {
    "trace": lambda model, line, image: trace(model, line.network, image),
    "attribution": lambda model, _, image: attribution(model, image, 1),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", ALL_PRESETS)
def test_looking_changes_nothing(name: str, look: str) -> None:
    line = ALL_PRESETS[name]
    model, image = trained(line), picture(line)
    before, pixels = state(model), image.copy()
    LOOKS[look](model, line, image)
    assert state(model) == before
    assert not any(before["hooks"])
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", ALL_PRESETS)
def test_looking_changes_nothing_when_it_fails_either(name: str, look: str) -> None:
    """An image of other channels fails in the first layer; a layer that fails does so half way through."""
    line = ALL_PRESETS[name]
    model = trained(line)
    before = state(model)
    with pytest.raises(RuntimeError):
        LOOKS[look](model, line, np.zeros((28, 28, 5), np.float32))
    hook = model[-1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="half way"):
        LOOKS[look](model, line, picture(line))
    hook.remove()
    assert state(model) == before


def test_a_cell_is_a_plain_record() -> None:
    assert Cell("relu1", (0, 0, 0), "rule", (), 0.0, 1.0, 1.0).agrees


def test_a_cell_inside_a_block_may_be_called_as_in_the_weights_file() -> None:
    network = parse_network("residual(conv 2 3 pad same), flatten", (4, 4, 1), 2)
    steps = trace(build_model(network).eval(), network, np.ones((4, 4, 1), np.float32))
    assert cell(steps, "residual1.body.conv1", (1, 1, 0)) == cell(steps, "conv1", (1, 1, 0))
