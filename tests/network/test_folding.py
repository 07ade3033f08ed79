"""Folding batch normalization: the folded network computes the same features, and no normalization is left."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from convscope.backends.pytorch.models import build_model, get_weights, set_weights
from convscope.network.build import parse_network
from convscope.network.folding import feature_tensors, fold_features
from convscope.network.network import Network
from helpers.networks import ALL_CASES, NetworkCase, trained_model

CASES = {
    **ALL_CASES,
    "blocks": NetworkCase(
        "conv 4 3, batchnorm, relu, residual(conv 6 3 stride 2 pad same, batchnorm eps 0.01, relu, conv 6 1, "
        "batchnorm), 2 * (residual(conv 6 1, batchnorm)), relu, globalavg, dropout 0.3",
        (9, 8, 3),
        5,
    ),
    "shortcut": NetworkCase(
        "residual(conv 6 3 stride 2 pad 1, batchnorm, relu, conv 6 1, shortcut(avgpool 3 stride 2 pad 1, conv 6 1, "
        "batchnorm eps 0.1, batchnorm)), residual(conv 6 1, shortcut(batchnorm)), globalavg",
        (9, 8, 3),
        5,
    ),
    "dense": NetworkCase("flatten, dense 7, dropout 0.2, batchnorm, relu", (4, 4, 1), 3),
    "behind a pool": NetworkCase("conv 4 3, batchnorm, conv 4 3, maxpool 2, batchnorm, flatten", (9, 8, 3), 3),
    "before and behind a pool": NetworkCase("conv 4 3, batchnorm, maxpool 2, batchnorm, flatten", (9, 8, 3), 3),
    "end of a block": NetworkCase("residual(conv 3 1, batchnorm), batchnorm, globalavg", (4, 4, 3), 3),
    "twice": NetworkCase("conv 4 3, batchnorm eps 0.1, batchnorm, relu, globalmax", (9, 8, 3), 3),
}


def features(network: Network, weights: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The input of the classifier for five random images."""
    model = build_model(network).eval()
    set_weights(model, {name: weights.get(name, array) for name, array in get_weights(model).items()})
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(5, *network.input_shape)).astype(np.float32))
    values = values.permute(0, 3, 1, 2)
    with torch.inference_mode():
        for name, module in model.named_children():
            values = values if name == "classifier" else module(values)
    return values.numpy()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_fold_features_computes_the_same_features(case: NetworkCase) -> None:
    network, weights = case.network, get_weights(trained_model(case))
    architecture, folded = fold_features(network, weights)
    expected = features(network, weights)
    found = features(parse_network(architecture, case.input_shape, case.classes), folded)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1, abs(expected).max()))
    assert {name: array.shape for name, array in folded.items()} == feature_tensors(architecture, case.input_shape)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("blocks", "conv 4 3, relu, residual(conv 6 3 stride 2 pad same, relu, conv 6 1), residual(conv 6 1), "
         "residual(conv 6 1), relu, globalavg"),
        ("shortcut", "residual(conv 6 3 stride 2 pad 1, relu, conv 6 1, shortcut(avgpool 3 stride 2 pad 1, conv 6 1)), "
         "residual(conv 6 1, shortcut(batchnorm)), globalavg"),
        ("dense", "flatten, dense 7, dropout 0.2, relu"),
        ("behind a pool", "conv 4 3, conv 4 3, maxpool 2, batchnorm, flatten"),
        ("before and behind a pool", "conv 4 3, batchnorm, maxpool 2, batchnorm, flatten"),
        ("end of a block", "residual(conv 3 1, batchnorm), batchnorm, globalavg"),
        ("twice", "conv 4 3, relu, globalmax"),
    ],
)  # fmt: skip
def test_fold_features_drops_what_is_folded_and_the_last_dropout(name: str, left: str) -> None:
    case = CASES[name]
    assert fold_features(case.network, get_weights(trained_model(case)))[0] == left


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_network_tensors_are_those_of_the_model_in_its_order(case: NetworkCase) -> None:
    model = build_model(case.network)
    expected = [(name, array.shape) for name, array in get_weights(model).items()]
    assert list(case.network.tensors.items()) == expected
