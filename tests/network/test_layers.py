"""Layer records against the shapes, parameters and operation counts of their PyTorch modules."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from torch.utils.flop_counter import FlopCounterMode

from convscope.backends.pytorch.models import as_batch
from convscope.network.build import parse_network
from convscope.network.layers.base import inference_bytes, shape_text
from convscope.network.layers.elementwise import BatchNorm
from convscope.network.layers.residual import Residual
from helpers.networks import ALL_CASES, NetworkCase, many_examples, module_records, network_cases, trained_model

ARCHITECTURE = "conv 4 3 pad same, residual(conv 8 3 pad same), flatten"


def assert_records_match_torch(case: NetworkCase) -> None:
    """Compares every record, those inside blocks included."""
    network, model = case.network, trained_model(case)
    records = dict(module_records(network.layers))
    assert {record.name for record in records.values()} == {layer.name for layer in network.walk()} - {"softmax"}
    root = type(model).__name__
    seen: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Any:
        return lambda _, __, output: seen.update({name: tuple(output.shape)})

    for name in records:
        model.get_submodule(name).register_forward_hook(note(name))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        logits = model(as_batch(np.zeros((1, *case.input_shape), np.float32)))
    flops = counter.get_flop_counts()  # two per multiply-add; batch norms are not counted

    def multiply_adds(name: str) -> int:
        norms = [path for path, record in records.items() if isinstance(record, BatchNorm)]
        inside = [prod(seen[path]) for path in norms if f"{root}.{path}.".startswith(f"{name}.")]
        return int(sum(flops.get(name, {}).values())) // 2 + sum(inside)

    for name, record in records.items():
        assert seen[name] == (1, *record.output_shape[-1:], *record.output_shape[:-1])
        assert sum(p.numel() for p in model.get_submodule(name).parameters()) == record.parameters
        assert multiply_adds(f"{root}.{name}") == record.multiply_adds
    assert logits.shape == (1, case.classes)
    assert sum(p.numel() for p in model.parameters()) == network.parameters
    assert multiply_adds(root) == network.multiply_adds
    assert 4 * sum(map(prod, seen.values())) + 4 * case.classes == network.activation_bytes


@pytest.mark.slow
@many_examples
@given(network_cases())
def test_a6_records_of_any_network_match_torch(case: NetworkCase) -> None:
    assert_records_match_torch(case)


@pytest.mark.parametrize("name", ALL_CASES)
def test_a6_records_of_every_layer_and_preset_match_torch(name: str) -> None:
    assert_records_match_torch(ALL_CASES[name])


def test_costs_of_a_block_include_its_projection() -> None:
    block = parse_network(ARCHITECTURE, (6, 6, 1), 3).layers[1]
    assert isinstance(block, Residual)  # a convolution with bias, a 1x1 projection without bias, three outputs of 6x6x8
    assert block.parameters == 4 * 9 * 8 + 8 + 4 * 8
    assert block.multiply_adds == 36 * 8 * (4 * 9 + 4)
    assert block.activation_bytes == 3 * 36 * 8 * 4


def test_repr_html_shows_the_table() -> None:
    assert parse_network("globalavg", (40, 40, 1), 3)._repr_html_() == (
        "<p>6 parameters, 3 multiply-adds per image</p><table>"
        "<tr><th>layer</th><th>source</th><th>output</th><th>parameters</th><th>multiply-adds</th></tr>"
        "<tr><td>globalavg1</td><td>globalavg</td><td>1</td><td>0</td><td>0</td></tr>"
        "<tr><td>classifier</td><td>dense 3</td><td>3</td><td>6</td><td>3</td></tr>"
        "<tr><td>softmax</td><td>softmax</td><td>3</td><td>0</td><td>0</td></tr></table>"
    )


def test_walk_blocks_yields_the_layers_inside() -> None:
    network = parse_network("residual(relu, residual(conv 2 1)), flatten", (2, 2, 1), 2)
    names = ["residual1", "relu1", "residual2", "conv1", "residual2.projection", "residual1.projection",
             "flatten1", "classifier", "softmax"]  # fmt: skip
    assert [layer.name for layer in network.walk()] == names


def test_records_assignment_raises() -> None:
    network = parse_network(ARCHITECTURE)
    for layer in network.walk():
        with pytest.raises(FrozenInstanceError):
            layer.output_shape = (1,)  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        network.classes = 3  # type: ignore[misc]


def test_shape_text_joins_with_x() -> None:
    assert [shape_text(shape) for shape in ((26, 26, 32), (100,))] == ["26x26x32", "100"]


def test_inference_bytes_are_the_largest_input_and_output_at_once() -> None:
    plain = parse_network("conv 8 3 pad same, relu, maxpool 2, flatten", (16, 16, 1))
    assert inference_bytes(plain.layers) == 4 * 2 * 16 * 16 * 8  # relu's input and output
    block = parse_network("conv 8 3 pad same, residual(conv 8 3 pad same, relu), globalavg", (16, 16, 1))
    assert inference_bytes(block.layers) == 4 * 4 * 16 * 16 * 8  # and those of the block
    assert inference_bytes(()) == 0
