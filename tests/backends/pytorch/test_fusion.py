"""Layers in kernels against the same layers one by one: values, gradients, modes, hooks, copies."""

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
from convscope.backends.pytorch.fusion import Fused, plan
from convscope.backends.pytorch.models import as_batch, build_model
from convscope.backends.pytorch.modules import MinPool2d
from convscope.network.build import parse_network
from helpers.kernels import needs_native, use_native_threads, without_native
from helpers.lines import ALL_PRESETS, ONE_BY_ONE, Line, lines, many, noise, trained

Values = dict[str, Tensor]
STILL = [word for word in ONE_BY_ONE if not word.startswith("dropout")]


def values(model: nn.Module, line: Line, dtype: torch.dtype = torch.float32, images: int = 6) -> Values:
    """The logits, every gradient of a fixed random sum of them, and what batch norms remember."""
    model = copy.deepcopy(model).to(dtype)
    x = as_batch((noise(line, images) / np.float32(127.5) - 1).astype(np.float32)).to(dtype)
    logits = model(x).to(dtype)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (logits * weights.to(dtype)).sum().backward()
    found = {"logits": logits.detach(), **dict(model.named_buffers())}
    found |= {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {name: tensor.double() for name, tensor in found.items()}


def far(found: Values, truth: Values) -> dict[str, float]:
    """The Euclidean distance of each tensor from the truth."""
    return {name: float((found[name] - truth[name]).norm()) for name in truth}


def not_to_rounding(model: nn.Module, line: Line) -> list[str]:
    """Which values are not as near to float64's as torch's own, up to a factor of 10 and 1e-5 of each tensor."""
    fused = values(model, line)
    with without_native():
        plain, truth = values(model, line), values(model, line, torch.float64)
    assert fused.keys() == plain.keys() == truth.keys()
    allowed, found = far(plain, truth), far(fused, truth)
    return [name for name in truth if found[name] > 10 * allowed[name] + 1e-5 * float(truth[name].norm()) + 1e-6]


@needs_native
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", ALL_PRESETS)
def test_every_presets_values_and_gradients_are_those_of_its_layers(name: str, training: bool) -> None:
    """In one of three networks: where two cells of a window are equal to rounding, either may get the gradient."""
    line = ALL_PRESETS[name]
    wrong = [not_to_rounding(trained(line, seed).train(training), line) for seed in range(3)]
    assert [] in wrong, wrong


@needs_native
@many
@given(lines(STILL), st.booleans())
def test_any_lines_values_and_gradients_are_those_of_its_layers(line: Line, training: bool) -> None:
    assert not_to_rounding(trained(line).train(training), line) == []


@needs_native
@pytest.mark.parametrize("name", ALL_PRESETS)
def test_in_bf16_it_is_as_near_to_the_truth_as_torch_is(name: str) -> None:
    """Rounded to 8 bits, deep gradients lie 10 % and more off, whoever computes them: the mean of four networks.

    What is as far off as it is large is nothing but noise, and counts as 1.
    """
    line, found, allowed = ALL_PRESETS[name], Counter[str](), Counter[str]()
    for seed in range(4):
        model = trained(line, seed).train()
        with torch.autocast("cpu", torch.bfloat16):
            fused = values(model, line, images=40)
            with without_native():
                plain = values(model, line, images=40)
        with without_native():
            truth = values(model, line, torch.float64, images=40)
        sizes = {name: float(tensor.norm()) + 1e-9 for name, tensor in truth.items()}
        found.update({name: min(1, distance / sizes[name]) / 4 for name, distance in far(fused, truth).items()})
        allowed.update({name: min(1, distance / sizes[name]) / 4 for name, distance in far(plain, truth).items()})
    for name in found:
        assert found[name] <= 2 * allowed[name] + 0.02, name


@needs_native
def test_the_kernels_do_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """No convolution, norm, activation, pool or dense layer of this network is called by itself."""

    def forbidden(*_: object) -> Tensor:
        pytest.fail("a layer was called by itself")

    model = build_model(
        parse_network("conv 4 3 pad same, relu, maxpool 2, batchnorm, gelu, avgpool 2, flatten, dense 5, relu")
    )
    for kind in (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.GELU, nn.MaxPool2d, nn.AvgPool2d, nn.Linear):
        monkeypatch.setattr(kind, "forward", forbidden)
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(
    ("line", "lengths"),
    [
        ("conv 4 3, relu, maxpool 2, flatten, dense 5, relu", [3, 1, 2, 1]),
        ("whiten 2, gelu, conv 8 3, maxpool 2, batchnorm, gelu, globalmax", [2, 1, 3, 1, 1]),
        ("conv 4 3, maxpool 2, relu, flatten", [2, 1, 1, 1]),  # the first stage pools last
        ("conv 4 3, relu, maxpool 5, flatten", [2, 1, 1, 1]),  # the first stage's windows end at 4
        ("conv 4 3 stride 2, batchnorm, relu, minpool 2, flatten", [1, 3, 1, 1]),
        ("conv 4 3, batchnorm, relu, avgpool 2, flatten", [1, 3, 1, 1]),
        ("conv 4 3 pad same, conv 8 3, maxpool 2, batchnorm, gelu, maxpool 2, flatten", [1, 2, 3, 1, 1]),
        ("maxpool 3 stride 2, relu, flatten", [1, 1, 1, 1]),  # windows that overlap
        ("dropout 0.5, residual(conv 4 3 pad same), flatten, dense 3, batchnorm, relu", [1, 1, 1, 1, 2, 1]),
    ],
)
def test_what_each_kernel_takes(line: str, lengths: list[int]) -> None:
    steps = plan(list(build_model(parse_network(line))))
    assert [last - first for first, last, _ in steps] == lengths
    assert [first for first, *_ in steps] == [sum(lengths[:i]) for i in range(len(lengths))]


def test_without_native_it_is_a_sequence() -> None:
    line = ALL_PRESETS["small"]
    model, x = trained(line), torch.rand(2, 1, 28, 28)
    with without_native():
        y = model(x)
    for layer in model:
        x = layer(x)
    assert torch.equal(x, y)


@pytest.mark.parametrize("name", ALL_PRESETS)
def test_what_no_kernel_takes_runs_in_torch(name: str) -> None:
    """Here float64; without an image there is nothing to do."""
    line = ALL_PRESETS[name]
    model = trained(line)
    found = values(model, line, torch.float64)
    with without_native():
        expected = values(model, line, torch.float64)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=1e-12)
    assert model(torch.zeros(0, 1, 28, 28)).shape == (0, 10)


# Hooks, copies and changes


HOOKS: dict[str, Callable[[nn.Module, list[nn.Module]], torch.utils.hooks.RemovableHandle]] = {
    "forward": lambda module, seen: module.register_forward_hook(lambda one, *_: seen.append(one)),
    "forward pre": lambda module, seen: module.register_forward_pre_hook(lambda one, *_: seen.append(one)),
    "backward": lambda module, seen: module.register_full_backward_hook(lambda one, *_: seen.append(one)),
    "backward pre": lambda module, seen: module.register_full_backward_pre_hook(lambda one, *_: seen.append(one)),
}


@pytest.mark.parametrize("kind", HOOKS)
def test_hooks_are_called_on_every_layer(kind: str) -> None:
    """Also inside blocks, and on the convolution behind an uneven pad."""
    text = "conv 4 2 pad same, relu, residual(conv 4 3 pad same, batchnorm, relu), maxpool 2, flatten, dense 3, relu"
    model = build_model(parse_network(text, (6, 6, 1), 2))
    names = [name for name, module in model.named_modules() if not list(module.children()) and "pad" not in name]
    for name in [name for name in names if "projection" not in name]:
        module, seen = model.get_submodule(name), list[nn.Module]()
        handle = HOOKS[kind](module, seen)
        model(torch.rand(3, 1, 6, 6, requires_grad=True)).sum().backward()
        handle.remove()
        assert seen == [module], name
        model(torch.rand(3, 1, 6, 6, requires_grad=True)).sum().backward()
        assert seen == [module], name


def test_a_copy_is_a_model_of_its_own() -> None:
    line = ALL_PRESETS["residual"]
    model, x = trained(line), torch.rand(2, 1, 28, 28)
    before = model(x)
    copied = copy.deepcopy(model)
    assert isinstance(copied, Fused)
    assert torch.equal(copied(x), before)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(0.5)
    assert torch.equal(model(x), before)
    assert not torch.equal(copied(x), before)
    copied.load_state_dict(model.state_dict())
    assert torch.equal(copied(x), before)


def test_state_is_named_as_in_a_sequence() -> None:
    model = trained(ALL_PRESETS["small"])
    model(torch.rand(2, 1, 28, 28))
    assert list(model.state_dict()) == list(nn.Sequential(OrderedDict(model.named_children())).state_dict())


def test_a_layer_that_is_replaced_counts_at_once() -> None:
    model = build_model(parse_network("conv 4 3, relu, maxpool 2, flatten", (6, 6, 1), 2))
    x = torch.rand(2, 1, 6, 6)
    before = model(x)
    for place, layer in ((2, MinPool2d(2, 2)), (1, nn.Sigmoid())):  # the kernel has the one, not the other
        model[place] = layer
        with without_native():
            expected = model(x)
        assert torch.allclose(model(x), expected, atol=1e-6)
        assert not torch.allclose(expected, before, atol=1e-3)


@pytest.fixture(params=[False, True], ids=["own threads", "torch's threads"])
def shared(request: pytest.FixtureRequest) -> Iterator[bool]:
    backend.share_torch_threads(request.param)
    yield request.param
    backend.share_torch_threads(False)


@needs_native
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_any_number_of_threads_gives_the_same_bits(precision: str, shared: bool) -> None:  # noqa: ARG001
    """Every kernel, forward and backward; the layers between them are torch's own, on one thread."""
    line = Line("conv 8 3, relu, maxpool 2, batchnorm, gelu, avgpool 2, flatten, dense 40, relu", (28, 28, 1), 10)
    model, results = trained(line).train(), []
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        for threads in (1, 2, 3, 4):
            with use_native_threads(threads):
                results.append({name: tensor.numpy().tobytes() for name, tensor in values(model, line).items()})
    assert results[0] == results[1] == results[2] == results[3]


@needs_native
def test_a_loss_that_is_no_number_is_no_number() -> None:
    model = trained(ALL_PRESETS["small"]).train()
    x = torch.rand(4, 1, 28, 28)
    x[1, 0, 5, 5] = torch.nan
    loss, _ = cross_entropy(model(x).float(), torch.zeros(4, dtype=torch.int64))
    assert torch.isnan(loss)
