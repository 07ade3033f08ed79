"""Fused layers against the same layers one by one: values, gradients, modes, hooks, copies."""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from convscope.backends.native import backend
from convscope.backends.native.step import cross_entropy
from convscope.backends.pytorch.fusion import FusedSequential, leaves_work_to_torch, plan_fusion
from convscope.backends.pytorch.models import as_batch, build_model
from convscope.backends.pytorch.modules import MinPool2d
from convscope.network.build import parse_network
from helpers.kernels import needs_native, use_native_threads, without_native
from helpers.networks import (
    ALL_CASES,
    ELEMENTWISE,
    PRESET_CASES,
    NetworkCase,
    many_examples,
    network_cases,
    random_images,
    trained_model,
)

Values = dict[str, Tensor]
DETERMINISTIC = [layer for layer in ELEMENTWISE if not layer.startswith("dropout")]
ZERO_BUT_FOR_ROUNDING = 1e-9  # of gradients in float64
DETERMINISTIC_CASES = [name for name in ALL_CASES if name != "layer dropout"]


def values(model: nn.Module, case: NetworkCase, dtype: torch.dtype = torch.float32, images: int = 6) -> Values:
    """The logits, the gradients of a fixed random sum of them, and the batch statistics."""
    model = copy.deepcopy(model).to(dtype)
    x = as_batch((random_images(case, images) / np.float32(127.5) - 1).astype(np.float32)).to(dtype)
    logits = model(x).to(dtype)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (logits * weights.to(dtype)).sum().backward()
    found = {"logits": logits.detach(), **dict(model.named_buffers())}
    found |= {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {name: tensor.double() for name, tensor in found.items()}


def distances(found: Values, exact: Values) -> dict[str, float]:
    """Euclidean distance of each tensor from the exact one."""
    return {name: float((found[name] - exact[name]).norm()) for name in exact}


def inexact_values(model: nn.Module, case: NetworkCase) -> list[str]:
    """Names of the tensors that differ from float64 by over 10 times torch's error and 1e-5 of their size.

    Some gradients are zero but for rounding, such as that of a shift that the next batch normalization subtracts. What
    is left of their sum depends on its terms, so they are measured by the largest tensor.
    """
    fused = values(model, case)
    with without_native():
        plain, truth = values(model, case), values(model, case, torch.float64)
    assert fused.keys() == plain.keys() == truth.keys()
    allowed, found = distances(plain, truth), distances(fused, truth)
    sizes = {name: float(tensor.norm()) for name, tensor in truth.items()}
    sizes = {name: size if size > ZERO_BUT_FOR_ROUNDING else max(sizes.values()) for name, size in sizes.items()}
    return [name for name in truth if found[name] > 10 * allowed[name] + 1e-5 * sizes[name] + 1e-6]


@pytest.mark.slow
@needs_native
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", DETERMINISTIC_CASES)
def test_fused_layers_and_presets_values_and_gradients_are_exact(name: str, training: bool) -> None:
    """For one of three seeds: if two values of a window are equal up to rounding, either may get the gradient."""
    case = ALL_CASES[name]
    wrong = [inexact_values(trained_model(case, seed).train(training), case) for seed in range(3)]
    assert [] in wrong, wrong


@pytest.mark.slow
@needs_native
@many_examples
@given(network_cases(DETERMINISTIC), st.booleans())
def test_fused_any_network_values_and_gradients_are_exact(case: NetworkCase, training: bool) -> None:
    assert inexact_values(trained_model(case).train(training), case) == []


@pytest.mark.slow
@needs_native
@pytest.mark.parametrize("name", PRESET_CASES)
def test_fused_bf16_is_as_exact_as_torch(name: str) -> None:
    """Deep gradients in bf16 are off by 10 % and more in any implementation: compares means over four networks.

    Relative errors above 1 are noise and count as 1.
    """
    case, found, allowed = PRESET_CASES[name], Counter[str](), Counter[str]()
    for seed in range(4):
        model = trained_model(case, seed).train()
        with torch.autocast("cpu", torch.bfloat16):
            fused = values(model, case, images=40)
            with without_native():
                plain = values(model, case, images=40)
        with without_native():
            truth = values(model, case, torch.float64, images=40)
        sizes = {name: float(tensor.norm()) + 1e-9 for name, tensor in truth.items()}
        found.update({name: min(1, distance / sizes[name]) / 4 for name, distance in distances(fused, truth).items()})
        allowed.update({name: min(1, distance / sizes[name]) / 4 for name, distance in distances(plain, truth).items()})
    for name in found:
        assert found[name] <= 2 * allowed[name] + 0.02, name


@needs_native
def test_fused_modules_are_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """All modules of this network that have a kernel."""

    def forbidden(*_: object) -> Tensor:
        pytest.fail("a fused module was called")

    model = build_model(
        parse_network("conv 4 3 pad same, relu, maxpool 2, batchnorm, gelu, avgpool 2, flatten, dense 5, relu")
    )
    for kind in (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.GELU, nn.MaxPool2d, nn.AvgPool2d, nn.Linear):
        monkeypatch.setattr(kind, "forward", forbidden)
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(
    ("architecture", "spans"),
    [
        ("conv 4 3, relu, maxpool 2, flatten, dense 5, relu", [(0, 3), (4, 6), (6, 7)]),
        ("whiten 2, gelu, conv 8 3, maxpool 2, batchnorm, gelu, globalmax", [(0, 2), (3, 6), (7, 8)]),
        ("conv 4 3, maxpool 2, relu, flatten", [(0, 2), (2, 3), (4, 5)]),  # the stem's kernel pools last
        ("conv 4 3, relu, maxpool 5, flatten", [(0, 2), (2, 3), (4, 5)]),  # windows of the stem's kernel end at 4
        ("conv 4 3 stride 2, batchnorm, relu, minpool 2, flatten", [(1, 4), (5, 6)]),
        ("conv 4 3, batchnorm, relu, avgpool 2, flatten", [(0, 1), (1, 4), (5, 6)]),
        (
            "conv 4 3 pad same, conv 8 3, maxpool 2, batchnorm, gelu, maxpool 2, flatten",
            [(0, 1), (1, 3), (3, 6), (7, 8)],
        ),
        ("maxpool 3 stride 2, relu, flatten", [(1, 2), (3, 4)]),  # windows that overlap
        ("dropout 0.5, residual(conv 4 3 pad same), flatten, dense 3, batchnorm, relu", [(3, 4), (4, 6), (6, 7)]),
    ],
)
def test_plan_fusion_finds_the_longest_runs(architecture: str, spans: list[tuple[int, int]]) -> None:
    runs = plan_fusion(parse_network(architecture).layers[:-1])
    assert [(run.first, run.last) for run in runs] == spans


def test_fused_without_native_equals_sequential() -> None:
    case = PRESET_CASES["small"]
    model, x = trained_model(case), torch.rand(2, 1, 28, 28)
    with without_native():
        y = model(x)
    for layer in model:
        x = layer(x)
    assert torch.equal(x, y)


@pytest.mark.parametrize("name", PRESET_CASES)
def test_fused_float64_and_empty_batches_run_in_torch(name: str) -> None:
    """The kernels take neither."""
    case = PRESET_CASES[name]
    model = trained_model(case)
    found = values(model, case, torch.float64)
    with without_native():
        expected = values(model, case, torch.float64)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=1e-12)
    assert model(torch.zeros(0, 1, 28, 28)).shape == (0, 10)


HOOKS: dict[str, Callable[[nn.Module, list[nn.Module]], torch.utils.hooks.RemovableHandle]] = {
    "forward": lambda module, seen: module.register_forward_hook(lambda one, *_: seen.append(one)),
    "forward pre": lambda module, seen: module.register_forward_pre_hook(lambda one, *_: seen.append(one)),
    "backward": lambda module, seen: module.register_full_backward_hook(lambda one, *_: seen.append(one)),
    "backward pre": lambda module, seen: module.register_full_backward_pre_hook(lambda one, *_: seen.append(one)),
}


@pytest.mark.parametrize("kind", HOOKS)
def test_hook_on_any_layer_is_called(kind: str) -> None:
    """Also inside blocks, and on a Conv2dSame."""
    text = "conv 4 2 pad same, relu, residual(conv 4 3 pad same, batchnorm, relu), maxpool 2, flatten, dense 3, relu"
    model = build_model(parse_network(text, (6, 6, 1), 2))
    names = [name for name, module in model.named_modules() if not list(module.children())]
    for name in [name for name in names if "projection" not in name]:
        module, seen = model.get_submodule(name), list[nn.Module]()
        handle = HOOKS[kind](module, seen)
        model(torch.rand(3, 1, 6, 6, requires_grad=True)).sum().backward()
        handle.remove()
        assert seen == [module], name
        model(torch.rand(3, 1, 6, 6, requires_grad=True)).sum().backward()
        assert seen == [module], name


def test_deepcopy_is_independent() -> None:
    case = PRESET_CASES["residual"]
    model, x = trained_model(case), torch.rand(2, 1, 28, 28)
    before = model(x)
    copied = copy.deepcopy(model)
    assert isinstance(copied, FusedSequential)
    assert torch.equal(copied(x), before)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(0.5)
    assert torch.equal(model(x), before)
    assert not torch.equal(copied(x), before)
    copied.load_state_dict(model.state_dict())
    assert torch.equal(copied(x), before)


def test_state_dict_names_equal_those_of_sequential() -> None:
    model = trained_model(PRESET_CASES["small"])
    model(torch.rand(2, 1, 28, 28))
    assert list(model.state_dict()) == list(nn.Sequential(OrderedDict(model.named_children())).state_dict())


def test_replaced_module_is_used() -> None:
    model = build_model(parse_network("conv 4 3, relu, maxpool 2, flatten", (6, 6, 1), 2))
    x = torch.rand(2, 1, 6, 6)
    before = model(x)
    for place, layer in ((2, MinPool2d(2, 2)), (1, nn.Sigmoid())):
        model[place] = layer
        with without_native():
            expected = model(x)
        assert torch.allclose(model(x), expected, atol=1e-6)
        assert not torch.allclose(expected, before, atol=1e-3)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("conv 4 3, relu, maxpool 2, flatten", False),
        ("conv 4 3, relu, conv 4 3, flatten", True),
        ("conv 4 3 stride 2, flatten", True),
        ("conv 4 3, maxpool 3 stride 2, flatten", True),
        ("residual(conv 1 3 pad same), flatten", True),
        ("flatten, dense 5, relu", False),
    ],
)
def test_leaves_work_to_torch_of_network_and_model_agree(architecture: str, expected: bool) -> None:
    network = parse_network(architecture)
    assert leaves_work_to_torch(network) == leaves_work_to_torch(build_model(network)) == expected


def test_leaves_work_to_torch_of_another_module_is_true() -> None:
    assert leaves_work_to_torch(nn.Sequential(nn.ReLU()))


@pytest.fixture(params=[False, True], ids=["own threads", "torch's threads"])
def shared(request: pytest.FixtureRequest) -> Iterator[bool]:
    backend.share_torch_threads(request.param)
    yield request.param
    backend.share_torch_threads(False)


@needs_native
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_fused_any_number_of_threads_is_bit_identical(precision: str, shared: bool) -> None:  # noqa: ARG001
    """All kernels, forward and backward; the layers between them run in torch, on one thread."""
    case = NetworkCase(
        "conv 8 3, relu, maxpool 2, batchnorm, gelu, avgpool 2, flatten, dense 40, relu", (28, 28, 1), 10
    )
    model, results = trained_model(case).train(), []
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        for threads in (1, 2, 3, 4):
            with use_native_threads(threads):
                results.append({name: tensor.numpy().tobytes() for name, tensor in values(model, case).items()})
    assert results[0] == results[1] == results[2] == results[3]


@needs_native
def test_loss_of_nan_is_nan() -> None:
    model = trained_model(PRESET_CASES["small"]).train()
    x = torch.rand(4, 1, 28, 28)
    x[1, 0, 5, 5] = torch.nan
    loss, _ = cross_entropy(model(x).float(), torch.zeros(4, dtype=torch.int64))
    assert torch.isnan(loss)
