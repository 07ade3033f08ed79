"""PyTorch models against reference.py: forward, gradients, initial weights, and the matrices of the article."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import prod, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from convscope import reference
from convscope.backends.pytorch.models import as_batch, build_model, get_weights, set_weights
from convscope.backends.pytorch.modules import WhiteningConv2d
from convscope.errors import UsageError
from convscope.network.activations import ACTIVATIONS
from convscope.network.build import parse_network, resize_network
from convscope.network.layers.base import Layer, Shape
from convscope.network.layers.convolution import Conv
from convscope.network.layers.dense import Dense, Flatten
from convscope.network.layers.elementwise import Activation
from convscope.network.layers.pooling import GlobalAvgPool, GlobalMaxPool, Pool
from convscope.network.layers.residual import Residual
from convscope.network.layers.squeeze_excite import SqueezeExcite
from convscope.reference import Floats
from helpers.networks import (
    PADDED_POOL_CASES,
    PRESET_CASES,
    NetworkCase,
    many_examples,
    module_records,
    network_cases,
    random_images,
    trained_model,
)

Backward = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Textbook:
    """A network composed of the functions of reference.py: every method returns an output and its backward function."""

    weights: dict[str, Floats]  # names and shapes as in PyTorch
    gradients: dict[str, Floats]  # filled by the backward functions

    def sequence(self, layers: tuple[Layer, ...], x: Floats, prefix: str = "") -> tuple[Floats, Backward]:
        backwards: list[Backward] = []
        for layer in layers:
            if layer.name != "softmax":
                x, back = self.layer(layer, x, prefix + layer.name)
                backwards.append(back)

        def backward(grad: Floats) -> Floats:
            for back in reversed(backwards):
                grad = back(grad)
            return grad

        return x, backward

    def layer(self, layer: Layer, x: Floats, name: str) -> tuple[Floats, Backward]:
        match layer:
            case Conv():
                return self.conv(layer, x, name)
            case Dense():
                return self.dense(x, name)
            case Pool():
                pad = layer.padding[0] if len(set(layer.padding)) == 1 else "same"
                window = layer.kernel_size, layer.stride, layer.kind, pad
                return reference.pool(x, *window), lambda grad: reference.pool_backward(grad, x, *window)
            case Activation():
                function = layer.function
                return function.forward(x), lambda grad: grad * function.derivative(x)
            case GlobalAvgPool():
                cells = x.shape[1] * x.shape[2]
                return x.mean((1, 2)), lambda grad: np.broadcast_to(grad[:, None, None] / cells, x.shape)
            case GlobalMaxPool():
                return self.global_max(x)
            case Flatten():
                return reference.flatten(x), lambda grad: reference.flatten_backward(grad, x.shape)
            case SqueezeExcite():
                return self.squeeze_excite(layer, x, name)
            case Residual():
                return self.residual(layer, x, name)
        raise AssertionError(layer)

    def conv(self, layer: Conv, x: Floats, name: str) -> tuple[Floats, Backward]:
        kernel, bias = self.weights[f"{name}.weight"].transpose(2, 3, 1, 0), self.weights.get(f"{name}.bias")
        pad = layer.padding[0] if len(set(layer.padding)) == 1 else "same"

        def backward(grad: Floats) -> Floats:
            dx, dkernel, dbias = reference.convolve_backward(grad, x, kernel, layer.stride, pad, layer.groups)
            if layer.initialization != "whiten":  # whose weights are frozen
                self.gradients[f"{name}.weight"] = dkernel.transpose(3, 2, 0, 1)
            if bias is not None:
                self.gradients[f"{name}.bias"] = dbias
            return dx

        return reference.convolve(x, kernel, bias, layer.stride, pad, layer.groups), backward

    def dense(self, x: Floats, name: str) -> tuple[Floats, Backward]:
        weight = self.weights[f"{name}.weight"].T

        def backward(grad: Floats) -> Floats:
            dx, dweight, self.gradients[f"{name}.bias"] = reference.dense_backward(grad, x, weight)
            self.gradients[f"{name}.weight"] = dweight.T
            return dx

        return reference.dense(x, weight, self.weights[f"{name}.bias"]), backward

    def global_max(self, x: Floats) -> tuple[Floats, Backward]:
        largest = x.max((1, 2), keepdims=True)
        share = (x == largest) / (x == largest).sum((1, 2), keepdims=True)  # equal values share the gradient
        return largest[:, 0, 0], lambda grad: grad[:, None, None] * share

    def squeeze_excite(self, layer: SqueezeExcite, x: Floats, name: str) -> tuple[Floats, Backward]:
        factors, back = self.sequence(layer.gate, x, name.removesuffix(layer.name))
        factors = factors[:, None, None]
        return x * factors, lambda grad: grad * factors + back((grad * x).sum((1, 2)))

    def residual(self, layer: Residual, x: Floats, name: str) -> tuple[Floats, Backward]:
        y, back = self.sequence(layer.body, x, f"{name}.body.")
        shortcut, shortcut_backward = self.sequence(layer.shortcut, x, f"{name}.shortcut.")
        if layer.projection:
            shortcut, shortcut_backward = self.conv(layer.projection, x, f"{name}.projection")
        return y + shortcut, lambda grad: back(grad) + shortcut_backward(grad)


def assert_equals_textbook(case: NetworkCase, seed: int) -> None:
    """Compares logits, loss, and the gradients of the input and all weights, in float64 to 1e-9."""
    model, rng = trained_model(case, seed).double(), np.random.default_rng(seed)
    images, labels = rng.normal(size=(3, *case.input_shape)), rng.integers(0, case.classes, 3)
    book = Textbook({name: values.copy() for name, values in get_weights(model).items()}, {})
    logits, backward = book.sequence(case.network.layers, images)
    targets = reference.one_hot(labels, case.classes).astype(np.float64)
    dx = backward(reference.cross_entropy_backward(logits, targets))

    batch = as_batch(images).requires_grad_()  # type: ignore[arg-type]  # float64 on purpose
    found = model(batch)
    loss = functional.cross_entropy(found, torch.from_numpy(labels))
    loss.backward()  # type: ignore[no-untyped-call]
    close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    close(found.detach().numpy(), logits)
    close(loss.item(), reference.cross_entropy(logits, targets))
    assert batch.grad is not None
    close(batch.grad.permute(0, 2, 3, 1).numpy(), dx)
    torch_gradients = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    trainable = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert torch_gradients.keys() == book.gradients.keys() == trainable
    for name, gradient in torch_gradients.items():
        close(gradient, book.gradients[name], err_msg=name)


@pytest.mark.slow
@many_examples
@given(network_cases(layers=[*ACTIVATIONS], ends=["flatten", "globalmax"]), st.integers(0, 99))
def test_a8_any_network_forward_and_backward_equal_the_textbook(case: NetworkCase, seed: int) -> None:
    assert_equals_textbook(case, seed)


@pytest.mark.parametrize(
    "pool", ["maxpool 2", "minpool 2", "avgpool 2", "minpool 3 stride 2", "maxpool 3 stride 2 pad 1"]
)
def test_a5_pools_train(pool: str) -> None:
    case = NetworkCase(f"conv 4 3, relu, {pool}, flatten", (8, 9, 2), 3)
    assert_equals_textbook(case, seed=1)
    model = build_model(case.network)
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    images, labels = as_batch((random_images(case, 12) / 255).astype(np.float32)), torch.arange(12) % 3
    losses = []
    for _ in range(60):
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("case", PADDED_POOL_CASES, ids=lambda case: case.architecture)
def test_padded_pool_equals_the_textbook(case: NetworkCase) -> None:
    assert_equals_textbook(case, seed=1)


def correlated(n: int, shape: Shape, seed: int = 0) -> Floats:
    """Images with correlated pixels and channels and a mean that is not 0."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, *shape)).cumsum(1).cumsum(2) / 2 + rng.normal(size=(n, *shape))
    return (images @ (np.eye(shape[2]) + 0.5) + 0.3).astype(np.float32)


def second_moments(images: Floats, kernel: int) -> Floats:
    """The mean product of every two values of a patch, in PyTorch's order channel, row, column."""
    patches = np.lib.stride_tricks.sliding_window_view(images.astype(np.float64), (kernel, kernel), (1, 2))
    rows = patches.reshape(-1, images.shape[3] * kernel * kernel)
    return rows.T @ rows / len(rows)


@pytest.mark.parametrize(("kernel", "shape"), [(1, (6, 7, 3)), (2, (6, 7, 3)), (3, (9, 8, 1)), (2, (5, 5, 4))])
def test_whitening_output_is_uncorrelated_with_variance_1(kernel: int, shape: Shape) -> None:
    """Also W' W is the inverse of the second moments (Mahalanobis), up to the variance floor."""
    images, half = correlated(300, shape), kernel * kernel * shape[2]
    whitening = WhiteningConv2d(shape[2], kernel)
    whitening.fit(as_batch(images))
    kernels = whitening.weight.detach().double().numpy().reshape(2 * half, half)
    np.testing.assert_array_equal(kernels[half:], -kernels[:half])
    moments = second_moments(images, kernel)
    least, *_, most = np.linalg.eigvalsh(moments)
    assert 0.2 < least < most / 5  # far from white, and above the variance floor
    covariance = kernels[:half] @ moments @ kernels[:half].T
    np.testing.assert_allclose(covariance, np.eye(half), rtol=0, atol=0.003)
    inverse = np.linalg.inv(moments + 5e-4 * np.eye(half))
    np.testing.assert_allclose(kernels[:half].T @ kernels[:half], inverse, rtol=0, atol=1e-3 * np.abs(inverse).max())
    made = whitening(as_batch(images)).detach().permute(0, 2, 3, 1).flatten(0, 2).double().numpy()
    identity = np.eye(half)
    np.testing.assert_allclose(made.T @ made / len(made), np.block([[identity, -identity], [-identity, identity]]),
                               rtol=0, atol=0.003)  # fmt: skip
    assert not whitening.weight.requires_grad


def test_whitening_directions_without_variance_are_not_amplified() -> None:
    """Gray images in three channels: a patch holds twelve values, only four of them different."""
    images = np.repeat(correlated(50, (6, 6, 1)), 3, axis=3)
    whitening = WhiteningConv2d(3, 2)
    whitening.fit(as_batch(images))
    kernels = whitening.weight.detach().flatten(1)
    assert kernels.norm(dim=1).max() == pytest.approx(5e-4**-0.5, rel=0.01)
    variances = whitening(as_batch(images)).detach().square().mean((0, 2, 3))[:12].sort().values
    assert variances[:8].max() < 1e-4
    assert variances[8:].min() > 0.9
    whitening.fit(torch.zeros(2, 3, 6, 6))
    assert whitening.weight.isfinite().all()


def test_whitening_is_the_only_frozen_layer() -> None:
    model = build_model(parse_network("whiten 2, batchnorm, relu, conv 4 3, globalmax, dense 5, relu", (6, 6, 3), 2))
    assert isinstance(model.get_submodule("whiten1"), WhiteningConv2d)
    assert [name for name, weight in model.named_parameters() if not weight.requires_grad] == ["whiten1.weight"]
    assert get_weights(model)["whiten1.weight"].shape == (24, 3, 2, 2)


def test_globalmax_equals_numpy() -> None:
    maps = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32) - 5
    model = build_model(parse_network("globalmax", (4, 5, 6), 2))
    np.testing.assert_array_equal(model[0](as_batch(maps)).numpy(), maps.max((1, 2)))


def matrix(text: str) -> Floats:
    return np.array([list(row) for row in text.split("/")], np.float32)


def first_layer_output(architecture: str, image: str, kernel: str | None = None) -> str:
    """The output of a network's first module for a matrix of digits."""
    pixels = matrix(image)
    model = build_model(parse_network(f"{architecture}, flatten", (*pixels.shape, 1), 2))
    if kernel is not None:
        weights = get_weights(model)
        set_weights(model, weights | {"conv1.weight": matrix(kernel)[None, None]})
    with torch.inference_mode():
        made = model[0](as_batch(pixels[None, :, :, None]))[0, 0]
    return "/".join("".join(f"{value:g}" for value in row) for row in made.tolist())


def test_a3_conv_matrix_of_the_article() -> None:
    image, kernel = "11011/10101/11110/00110/11000", "101/010/110"
    assert first_layer_output("conv 1 3", image, kernel) == "353/325/442"


@pytest.mark.parametrize(
    ("architecture", "expected"), [("maxpool 2", "56/45"), ("minpool 2", "21/12"), ("avgpool 2", "34/34")]
)
def test_a5_pool_matrix_of_the_article(architecture: str, expected: str) -> None:
    assert first_layer_output(architecture, "3541/2256/4425/1354") == expected


def test_a4_relu_sets_negative_values_to_0() -> None:
    pixels = np.array([[-2.0, 0.0, 3.0]], np.float32)
    model = build_model(parse_network("relu, flatten", (1, 3, 1), 2))
    assert model[0](as_batch(pixels[None, :, :, None])).flatten().tolist() == [0, 0, 3]


def test_a7_flatten_order_is_row_column_channel() -> None:
    maps = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    model = build_model(parse_network("flatten", (3, 4, 5), 2))
    np.testing.assert_array_equal(model[0](as_batch(maps)).numpy(), reference.flatten(maps))


def limits(record: Conv | Dense) -> tuple[float, float, float]:
    """He's and Glorot's bounds for a layer, and the one that it uses (A12 of the article)."""
    per_cell = record.kernel_size**2 if isinstance(record, Conv) else 1
    incoming = record.input_shape[-1] // (record.groups if isinstance(record, Conv) else 1)
    he, glorot = sqrt(6 / (per_cell * incoming)), sqrt(6 / (per_cell * (incoming + record.output_shape[-1])))
    return he, glorot, he if record.initialization == "he" else glorot


@pytest.mark.parametrize(
    "case",
    [
        *PRESET_CASES.values(),
        NetworkCase(
            "conv 64 5 groups 4, tanh, conv 64 4 pad same init he, globalavg, dense 200 init he", (9, 9, 16), 50
        ),
        NetworkCase(
            "residual(residual(conv 64 3 stride 2 pad same), relu, conv 32 4 pad same), globalavg", (9, 9, 16), 50
        ),
    ],
    ids=[*PRESET_CASES, "groups", "blocks in blocks"],
)
def test_a12_initial_weights_are_uniform_within_their_bounds_and_biases_are_zero(case: NetworkCase) -> None:
    model = build_model(case.network, seed=3)
    checked = 0
    for name, record in module_records(case.network.layers):
        if not isinstance(record, Conv | Dense):
            continue
        module = model.get_submodule(name)
        layer = next(m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear))
        he, glorot, limit = limits(record)
        weight = layer.weight.detach()
        assert layer.bias is None or not layer.bias.any()
        if record.initialization == "identity":  # the filters that copy no channel
            weight = weight[min(weight.shape[:2]) :]
            if not len(weight):
                continue
        gap = 12 / weight.numel()  # with probability 1 - e^-12 the largest of these draws is closer to the bound
        assert abs(he - glorot) > gap * limit  # the test can tell them apart
        assert limit * (1 - gap) < weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / sqrt(3), rel=4 / sqrt(weight.numel()))
        assert weight.mean().item() == pytest.approx(0, abs=4 * limit / sqrt(3 * weight.numel()))
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("channels", "filters"), [(3, 3), (3, 8), (8, 3), (1, 1)])
def test_init_identity_copies_channels(kernel: int, channels: int, filters: int) -> None:
    """The other filters are random."""
    architecture = f"conv {filters} {kernel} pad same init identity"
    images = np.random.default_rng(0).normal(size=(2, 6, 7, channels)).astype(np.float32)
    model = build_model(parse_network(f"{architecture}, flatten", (6, 7, channels), 2))
    copied = min(channels, filters)
    with torch.inference_mode():
        made = model[0](as_batch(images)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(made[..., :copied], images[..., :copied])
    others = next(values for name, values in get_weights(model).items() if name.startswith("conv1"))[copied:]
    assert (others != 0).all()


def test_a12_bounds_equal_the_textbook() -> None:
    (conv, _, _, _, dense, *_), rng = (
        parse_network("conv 32 3, relu, maxpool 2, flatten, dense 100, relu").layers,
        Biggest(),
    )
    assert isinstance(conv, Conv)
    assert isinstance(dense, Dense)
    assert limits(conv)[:2] == pytest.approx(
        (reference.he_uniform((3, 3, 1, 32), rng), reference.glorot_uniform((3, 3, 1, 32), rng))
    )
    assert limits(dense)[:2] == pytest.approx(
        (reference.he_uniform((5408, 100), rng), reference.glorot_uniform((5408, 100), rng))
    )


class Biggest(np.random.Generator):
    """A generator that always draws the upper bound."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low: float, high: float, size: Shape) -> float:  # type: ignore[override]
        assert low == -high
        assert prod(size) > 0
        return high


def test_build_model_memory_format_is_channels_last() -> None:
    kernel = build_model(parse_network("conv 4 3, flatten", (5, 5, 2), 2)).get_submodule("conv1").weight
    assert isinstance(kernel, torch.Tensor)
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not kernel.is_contiguous()


@pytest.mark.parametrize("name", PRESET_CASES)
def test_build_model_weights_depend_on_the_seed_alone(name: str) -> None:
    network = PRESET_CASES[name].network
    torch.manual_seed(1)
    one = get_weights(build_model(network, seed=5))
    torch.manual_seed(2)
    again, other = get_weights(build_model(network, seed=5)), get_weights(build_model(network, seed=6))
    for key, values in one.items():
        assert values.tobytes() == again[key].tobytes()
    assert any((values != other[key]).any() for key, values in one.items())


def test_build_model_layers_get_different_weights() -> None:
    weights = get_weights(
        build_model(parse_network("3 * (conv 2 3 pad same, relu), residual(conv 2 3 pad same), flatten", (6, 6, 2)))
    )
    kernels = [values for name, values in weights.items() if values.shape == (2, 2, 3, 3)]
    assert len(kernels) == 4
    for one, other in pairwise(kernels):
        assert (one != other).all()


@pytest.mark.parametrize(
    ("architecture", "without"),
    [
        ("conv 4 3, batchnorm, relu, conv 4 3, flatten", ["conv1"]),
        ("conv 4 4 pad same, batchnorm, flatten", ["conv1"]),
        ("residual(conv 4 3 pad same, batchnorm), flatten", ["residual1.body.conv1", "residual1.projection"]),
        ("conv 4 3, maxpool 2, batchnorm, flatten", ["conv1"]),
        ("conv 4 3, maxpool 2, relu, batchnorm, flatten", []),
    ],
)
def test_build_model_conv_before_batchnorm_has_no_bias(architecture: str, without: list[str]) -> None:
    modules = dict(build_model(parse_network(architecture)).named_modules())
    convolutions = {name: module for name, module in modules.items() if isinstance(module, nn.Conv2d)}
    assert [name for name, module in convolutions.items() if module.bias is None] == without


def test_build_model_too_many_parameters_raises() -> None:
    message = (
        "expected at most 1,000,000,000 parameters, 'flatten, dense 40000, dense 40000' has 1,600,520,010: pool more"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        build_model(parse_network("flatten, dense 40000, dense 40000", (1, 1, 1), 10))


def test_dropout_acts_only_during_training() -> None:
    model = build_model(parse_network("flatten, dropout 0.5", (4, 4, 1), 2))
    x = torch.ones(200, 1, 4, 4)
    torch.manual_seed(0)
    dropped = (model[1](model[0](x)) == 0).float().mean().item()
    assert dropped == pytest.approx(0.5, abs=0.05)
    assert (model.eval()[1](model[0](x)) == 1).all()


@pytest.mark.parametrize("name", PRESET_CASES)
def test_get_weights_copies_and_set_weights_restores(name: str) -> None:
    case = PRESET_CASES[name]
    source, target = trained_model(case, seed=1), build_model(case.network, seed=2).eval()
    weights = get_weights(source)
    set_weights(target, weights)
    images = as_batch((random_images(case, 2) / 255).astype(np.float32))
    expected = source(images)
    torch.testing.assert_close(target(images), expected, rtol=0, atol=0)
    for values in weights.values():
        assert values.flags.c_contiguous
        values.fill(0)
    torch.testing.assert_close(source(images), expected, rtol=0, atol=0)
    torch.testing.assert_close(target(images), expected, rtol=0, atol=0)


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_set_weights_of_another_network_raises(change: str) -> None:
    model = build_model(parse_network("conv 2 3, flatten", (5, 5, 1), 2))
    weights = get_weights(model)
    if change == "missing":
        del weights["conv1.bias"]
    else:
        weights["conv1.bias"] = np.zeros(3, np.float32)
    with pytest.raises(RuntimeError, match=r"conv1\.bias"):
        set_weights(model, weights)


def test_as_batch_is_a_view_in_channels_first_order() -> None:
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    batch = as_batch(images)
    assert batch.shape == (2, 5, 3, 4)
    assert batch[1, 4, 2, 3].item() == images[1, 2, 3, 4]
    images[1, 2, 3, 4] = 7
    assert batch[1, 4, 2, 3].item() == 7


@pytest.mark.slow
@many_examples
@given(network_cases(ends=("globalavg", "globalmax")), st.floats(0.3, 1))
def test_resized_network_fits_the_same_model(case: NetworkCase, scale: float) -> None:
    if small := resize_network(case.network, scale):
        height, width, channels = small.input_shape
        logits = build_model(case.network).eval()(torch.zeros(2, channels, height, width))
        assert logits.shape == (2, case.classes)
