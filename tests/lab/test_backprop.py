"""Gradients of the page's networks, and steps of learning, against torch and the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from convscope import reference
from convscope.backends.onnx.read import read_model_file
from convscope.backends.pytorch.models import as_batch, get_weights
from convscope.deploy.int8 import to_int8
from convscope.network.activations import ACTIVATIONS
from helpers.lab_page import NodePage, PageError, decode, encode
from helpers.model_files import export
from helpers.networks import ALL_CASES, NetworkCase, random_images, random_preprocessing, trained_model

MAX_RELATIVE = 1e-5  # of the largest gradient of an array
LABEL = 1


def random_model(case: NetworkCase) -> torch.nn.Sequential:
    """A model whose convolutions are random, also where training begins with copies: then no maximum is a tie."""
    model = trained_model(case)
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        if weight.dim() == 4:
            weight.data += torch.randn(weight.shape, generator=generator) * (0.5 / weight[0].numel()) ** 0.5
    return model


def model_file(case: NetworkCase) -> bytes:
    classes = [f"class {i}" for i in range(case.classes)]
    return export(case.network, get_weights(random_model(case)), random_preprocessing(case), classes)


def backpropagate(node: NodePage, images: NDArray[np.uint8], label: int = LABEL) -> Any:
    found = node.ask("backpropagate", shape=images.shape, data=encode(images.tobytes()), label=label)
    for one in found["arrays"]:
        for key in ("gradient", "value"):
            one[key] = decode(one[key]).reshape(one[key]["shape"])
    return found


def autograd(case: NetworkCase, images: NDArray[np.uint8]) -> tuple[float, dict[str, NDArray[np.float64]]]:
    """Loss and gradients by parameter, by torch."""
    model = random_model(case).double()
    inputs = as_batch(random_preprocessing(case).normalize(images)).double()
    loss = torch.nn.functional.cross_entropy(model(inputs), torch.tensor([LABEL]))
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    found = {name: one.grad.numpy() for name, one in model.named_parameters() if one.grad is not None}
    return float(loss.detach()), found


CASES = ALL_CASES | {
    f"weights before {kind}": NetworkCase(f"conv 8 3, batchnorm, {kind}, conv 4 3, {kind}, flatten", (9, 8, 3), 4)
    for kind in ACTIVATIONS
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_every_weight_agree_with_autograd(node: NodePage, name: str) -> None:
    case = CASES[name]
    images = random_images(case, 1)
    node.load(model_file(case))
    found, (loss, expected) = backpropagate(node, images), autograd(case, images)
    assert found["loss"] == pytest.approx(loss, rel=1e-4)
    assert {one["name"] for one in found["arrays"]} >= set(expected)  # training leaves some as they are
    for one in [one for one in found["arrays"] if one["name"] in expected]:
        grad, largest = expected[one["name"]], np.abs(expected[one["name"]]).max(initial=1e-6)
        np.testing.assert_allclose(one["gradient"], grad, rtol=0, atol=MAX_RELATIVE * largest, err_msg=one["name"])
        weight = one["weight"]
        at = tuple(one["index"])
        assert weight["gradient"] == one["gradient"][at]
        assert weight["value"] == one["value"][at]
        assert sum(term["product"] for term in weight["terms"]) == pytest.approx(weight["gradient"], abs=1e-9)


def test_steps_are_those_of_the_reference(node: NodePage) -> None:
    case = ALL_CASES["article"]
    images = random_images(case, 1)
    node.load(model_file(case))
    first = backpropagate(node, images)
    weights = {one["name"]: one["value"].astype(np.float64) for one in first["arrays"]}
    velocities = {name: np.zeros_like(value) for name, value in weights.items()}
    found = first
    for _ in range(3):
        for one in found["arrays"]:
            weights[one["name"]], velocities[one["name"]] = reference.sgd_momentum(
                weights[one["name"]], velocities[one["name"]], one["gradient"], 0.01, 0.9
            )
        node.ask("step", rate=0.01, momentum=0.9, one=None)
        found = backpropagate(node, images)
        for one in found["arrays"]:
            np.testing.assert_allclose(one["value"], weights[one["name"]], rtol=1e-5, atol=1e-7)
    assert found["loss"] < first["loss"]
    node.ask("reset")
    assert backpropagate(node, images)["loss"] == first["loss"]


def test_step_of_one_weight_changes_no_other(node: NodePage) -> None:
    case = ALL_CASES["article"]
    images = random_images(case, 1)
    node.load(model_file(case))
    before = backpropagate(node, images)
    index = [3, 0, 1, 2]
    node.ask("step", rate=0.5, momentum=0, one={"name": "conv1.weight", "index": index})
    after = backpropagate(node, images)
    for old, new in zip(before["arrays"], after["arrays"], strict=True):
        changed = np.argwhere(old["value"] != new["value"]).tolist()
        assert changed == ([index] if old["name"] == "conv1.weight" else [])
    expected = before["arrays"][0]["value"][tuple(index)] - 0.5 * before["arrays"][0]["gradient"][tuple(index)]
    assert after["arrays"][0]["value"][tuple(index)] == pytest.approx(expected, rel=1e-6)


def test_int8_network_says_that_it_does_not_learn(node: NodePage, tmp_path: Path) -> None:
    case = ALL_CASES["article"]
    (tmp_path / "model.onnx").write_bytes(model_file(case))
    node.load(to_int8(read_model_file(tmp_path / "model.onnx"), random_images(case, 20)))
    with pytest.raises(PageError, match="does not learn: open the float32 file"):
        backpropagate(node, random_images(case, 1))
