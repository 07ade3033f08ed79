"""The torch models against the textbook: forward, the whole gradient, the first weights, and the article's matrices."""

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
from convscope.backends.pytorch.modules import Whitening
from convscope.errors import UsageError
from convscope.network.build import parse_network, resize_network
from convscope.network.layers import Activation, Conv, Dense, Flatten, GlobalMaxPool, Layer, Pool, Residual, Shape
from convscope.reference import Floats
from helpers.lines import ALL_PRESETS, Line, lines, many, modules_of, noise, trained

Backward = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Textbook:
    """A network composed of reference.py's operations: each layer gives its output and how to go back through it."""

    weights: dict[str, Floats]  # named and shaped as in torch
    gradients: dict[str, Floats]  # filled on the way back

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
                window = layer.size, layer.stride, layer.kind
                return reference.pool(x, *window), lambda grad: reference.pool_backward(grad, x, *window)
            case Activation():
                return reference.relu(x), lambda grad: reference.relu_backward(grad, x)
            case GlobalMaxPool():
                return self.global_max(x)
            case Flatten():
                return reference.flatten(x), lambda grad: reference.flatten_backward(grad, x.shape)
            case Residual():
                return self.residual(layer, x, name)
        raise AssertionError(layer)

    def conv(self, layer: Conv, x: Floats, name: str) -> tuple[Floats, Backward]:
        stored = f"{name}.conv" if f"{name}.conv.weight" in self.weights else name
        kernel, bias = self.weights[f"{stored}.weight"].transpose(2, 3, 1, 0), self.weights.get(f"{stored}.bias")
        pad = layer.padding[0] if len(set(layer.padding)) == 1 else "same"

        def backward(grad: Floats) -> Floats:
            dx, dkernel, dbias = reference.convolve_backward(grad, x, kernel, layer.stride, pad, layer.groups)
            if layer.initialization != "whiten":  # which training leaves alone
                self.gradients[f"{stored}.weight"] = dkernel.transpose(3, 2, 0, 1)
            if bias is not None:
                self.gradients[f"{stored}.bias"] = dbias
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
        share = (x == largest) / (x == largest).sum((1, 2), keepdims=True)  # where there are several, each a part
        return largest[:, 0, 0], lambda grad: grad[:, None, None] * share

    def residual(self, layer: Residual, x: Floats, name: str) -> tuple[Floats, Backward]:
        y, back = self.sequence(layer.body, x, f"{name}.body.")
        if layer.projection is None:
            return x + y, lambda grad: grad + back(grad)
        around, back_around = self.conv(layer.projection, x, f"{name}.projection")
        return y + around, lambda grad: back(grad) + back_around(grad)


def assert_textbook(line: Line, seed: int) -> None:
    """Logits, loss, and the gradients of the input and of every weight, in float64 to 1e-9."""
    model, rng = trained(line, seed).double(), np.random.default_rng(seed)
    images, labels = rng.normal(size=(3, *line.input)), rng.integers(0, line.classes, 3)
    book = Textbook({name: values.copy() for name, values in get_weights(model).items()}, {})
    logits, backward = book.sequence(line.network.layers, images)
    targets = reference.one_hot(labels, line.classes).astype(np.float64)
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


@many
@given(lines(words=["relu"], ends=["flatten", "globalmax"]), st.integers(0, 99))
def test_a8_forward_and_backward_of_any_line_equal_the_textbook(line: Line, seed: int) -> None:
    assert_textbook(line, seed)


@pytest.mark.parametrize("pool", ["maxpool 2", "minpool 2", "avgpool 2", "minpool 3 stride 2"])
def test_a5_all_three_kinds_of_pooling_train(pool: str) -> None:
    line = Line(f"conv 4 3, relu, {pool}, flatten", (8, 9, 2), 3)
    assert_textbook(line, seed=1)
    model = build_model(line.network)
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    images, labels = as_batch((noise(line, 12) / 255).astype(np.float32)), torch.arange(12) % 3
    losses = []
    for _ in range(60):
        loss = functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def correlated(n: int, shape: Shape, seed: int = 0) -> Floats:
    """Images whose neighboring pixels and channels have much in common, and a mean that is not 0."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, *shape)).cumsum(1).cumsum(2) / 2 + rng.normal(size=(n, *shape))
    return (images @ (np.eye(shape[2]) + 0.5) + 0.3).astype(np.float32)


def second_moments(images: Floats, kernel: int) -> Floats:
    """The mean product of each two numbers of a patch, both in torch's order channel, row, column."""
    patches = np.lib.stride_tricks.sliding_window_view(images.astype(np.float64), (kernel, kernel), (1, 2))
    rows = patches.reshape(-1, images.shape[3] * kernel * kernel)
    return rows.T @ rows / len(rows)


@pytest.mark.parametrize(("kernel", "shape"), [(1, (6, 7, 3)), (2, (6, 7, 3)), (3, (9, 8, 1)), (2, (5, 5, 4))])
def test_whitened_patches_are_uncorrelated_numbers_of_variance_one(kernel: int, shape: Shape) -> None:
    """And W' W is the inverse of their second moments (Mahalanobis), but for the little that keeps noise away."""
    images, half = correlated(300, shape), kernel * kernel * shape[2]
    whitening = Whitening(shape[2], kernel)
    whitening.learn(as_batch(images))
    kernels = whitening.weight.detach().double().numpy().reshape(2 * half, half)
    np.testing.assert_array_equal(kernels[half:], -kernels[:half])
    moments = second_moments(images, kernel)
    least, *_, most = np.linalg.eigvalsh(moments)
    assert 0.2 < least < most / 5  # far from white, and more than the little that keeps noise away
    covariance = kernels[:half] @ moments @ kernels[:half].T
    np.testing.assert_allclose(covariance, np.eye(half), rtol=0, atol=0.003)
    inverse = np.linalg.inv(moments + 5e-4 * np.eye(half))
    np.testing.assert_allclose(kernels[:half].T @ kernels[:half], inverse, rtol=0, atol=1e-3 * np.abs(inverse).max())
    made = whitening(as_batch(images)).detach().permute(0, 2, 3, 1).flatten(0, 2).double().numpy()
    identity = np.eye(half)
    np.testing.assert_allclose(made.T @ made / len(made), np.block([[identity, -identity], [-identity, identity]]),
                               rtol=0, atol=0.003)  # fmt: skip
    assert not whitening.weight.requires_grad


def test_whitening_makes_no_noise_of_directions_without_variance() -> None:
    """Gray pictures in three channels: of four numbers of a patch twelve are given, and eight directions are empty."""
    images = np.repeat(correlated(50, (6, 6, 1)), 3, axis=3)
    whitening = Whitening(3, 2)
    whitening.learn(as_batch(images))
    kernels = whitening.weight.detach().flatten(1)
    assert kernels.norm(dim=1).max() == pytest.approx(5e-4**-0.5, rel=0.01)
    variances = whitening(as_batch(images)).detach().square().mean((0, 2, 3))[:12].sort().values
    assert variances[:8].max() < 1e-4
    assert variances[8:].min() > 0.9
    whitening.learn(torch.zeros(2, 3, 6, 6))
    assert whitening.weight.isfinite().all()


def test_of_all_layers_whitening_alone_is_frozen() -> None:
    model = build_model(parse_network("whiten 2, batchnorm, relu, conv 4 3, globalmax, dense 5, relu", (6, 6, 3), 2))
    assert isinstance(model.get_submodule("whiten1"), Whitening)
    assert [name for name, weight in model.named_parameters() if not weight.requires_grad] == ["whiten1.weight"]
    assert get_weights(model)["whiten1.weight"].shape == (24, 3, 2, 2)


def test_the_largest_value_of_each_map_through_torch() -> None:
    maps = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32) - 5
    model = build_model(parse_network("globalmax", (4, 5, 6), 2))
    np.testing.assert_array_equal(model[0](as_batch(maps)).numpy(), maps.max((1, 2)))


def matrix(text: str) -> Floats:
    return np.array([list(row) for row in text.split("/")], np.float32)


def through_first_layer(line: str, image: str, kernel: str | None = None) -> str:
    """A matrix of digits through the first torch layer of a network made from a line."""
    pixels = matrix(image)
    model = build_model(parse_network(f"{line}, flatten", (*pixels.shape, 1), 2))
    if kernel is not None:
        weights = get_weights(model)
        set_weights(model, weights | {"conv1.weight": matrix(kernel)[None, None]})
    with torch.inference_mode():
        made = model[0](as_batch(pixels[None, :, :, None]))[0, 0]
    return "/".join("".join(f"{value:g}" for value in row) for row in made.tolist())


def test_a3_the_article_s_matrix_through_a_torch_convolution() -> None:
    image, kernel = "11011/10101/11110/00110/11000", "101/010/110"
    assert through_first_layer("conv 1 3", image, kernel) == "353/325/442"


@pytest.mark.parametrize(("line", "expected"), [("maxpool 2", "56/45"), ("minpool 2", "21/12"), ("avgpool 2", "34/34")])
def test_a5_the_article_s_matrix_through_torch_pooling(line: str, expected: str) -> None:
    assert through_first_layer(line, "3541/2256/4425/1354") == expected


def test_a4_relu_through_torch() -> None:
    pixels = np.array([[-2.0, 0.0, 3.0]], np.float32)
    model = build_model(parse_network("relu, flatten", (1, 3, 1), 2))
    assert model[0](as_batch(pixels[None, :, :, None])).flatten().tolist() == [0, 0, 3]


def test_a7_torch_flattens_row_by_row_column_by_column_channel_by_channel() -> None:
    maps = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    model = build_model(parse_network("flatten", (3, 4, 5), 2))
    np.testing.assert_array_equal(model[0](as_batch(maps)).numpy(), reference.flatten(maps))


def limits(record: Conv | Dense) -> tuple[float, float, float]:
    """He's and Glorot's bounds for the record, and the record's own by the article's A12."""
    per_cell = record.kernel**2 if isinstance(record, Conv) else 1
    incoming = record.input_shape[-1] // (record.groups if isinstance(record, Conv) else 1)
    he, glorot = sqrt(6 / (per_cell * incoming)), sqrt(6 / (per_cell * (incoming + record.output_shape[-1])))
    return he, glorot, he if record.initialization == "he" else glorot


@pytest.mark.parametrize(
    "line",
    [
        *ALL_PRESETS.values(),
        Line("conv 64 5 groups 4, tanh, conv 64 4 pad same init he, globalavg, dense 200 init he", (9, 9, 16), 50),
        Line("residual(residual(conv 64 3 stride 2 pad same), relu, conv 32 4 pad same), globalavg", (9, 9, 16), 50),
    ],
    ids=[*ALL_PRESETS, "groups", "blocks in blocks"],
)
def test_a12_first_weights_fill_their_bounds_evenly_and_biases_are_zero(line: Line) -> None:
    model = build_model(line.network, seed=3)
    checked = 0
    for name, record in modules_of(line.network.layers):
        if not isinstance(record, Conv | Dense):
            continue
        module = model.get_submodule(name)
        layer = next(m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear))
        he, glorot, limit = limits(record)
        weight = layer.weight.detach()
        assert layer.bias is None or not layer.bias.any()
        if record.initialization == "identity":  # the filters that copy nothing, where there are any
            weight = weight[min(weight.shape[:2]) :]
            if not len(weight):
                continue
        gap = 12 / weight.numel()  # the largest of so many even draws lies closer to the bound, but for 1 in e^12
        assert abs(he - glorot) > gap * limit  # so that one cannot pass for the other
        assert limit * (1 - gap) < weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / sqrt(3), rel=4 / sqrt(weight.numel()))
        assert weight.mean().item() == pytest.approx(0, abs=4 * limit / sqrt(3 * weight.numel()))
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("channels", "filters"), [(3, 3), (3, 8), (8, 3), (1, 1)])
def test_an_identity_hands_on_as_many_channels_as_it_can(kernel: int, channels: int, filters: int) -> None:
    """And the filters that are left are as any others, so that no two are alike."""
    line = f"conv {filters} {kernel} pad same init identity"
    images = np.random.default_rng(0).normal(size=(2, 6, 7, channels)).astype(np.float32)
    model = build_model(parse_network(f"{line}, flatten", (6, 7, channels), 2))
    copied = min(channels, filters)
    with torch.inference_mode():
        made = model[0](as_batch(images)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(made[..., :copied], images[..., :copied])
    others = next(values for name, values in get_weights(model).items() if name.startswith("conv1"))[copied:]
    assert (others != 0).all()


def test_a12_bounds_are_those_of_the_textbook() -> None:
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
    """A generator whose every draw is the upper bound."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low: float, high: float, size: Shape) -> float:  # type: ignore[override]
        assert low == -high
        assert prod(size) > 0
        return high


def test_convolutions_lie_channels_last_in_memory() -> None:
    kernel = build_model(parse_network("conv 4 3, flatten", (5, 5, 2), 2)).get_submodule("conv1").weight
    assert isinstance(kernel, torch.Tensor)
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not kernel.is_contiguous()


@pytest.mark.parametrize("name", ALL_PRESETS)
def test_the_seed_alone_decides_the_weights(name: str) -> None:
    network = ALL_PRESETS[name].network
    torch.manual_seed(1)
    one = get_weights(build_model(network, seed=5))
    torch.manual_seed(2)
    again, other = get_weights(build_model(network, seed=5)), get_weights(build_model(network, seed=6))
    for key, values in one.items():
        assert values.tobytes() == again[key].tobytes()
    assert any((values != other[key]).any() for key, values in one.items())


def test_no_two_layers_start_alike() -> None:
    weights = get_weights(
        build_model(parse_network("3 * (conv 2 3 pad same, relu), residual(conv 2 3 pad same), flatten", (6, 6, 2)))
    )
    kernels = [values for name, values in weights.items() if values.shape == (2, 2, 3, 3)]
    assert len(kernels) == 4
    for one, other in pairwise(kernels):
        assert (one != other).all()


@pytest.mark.parametrize(
    ("line", "without"),
    [
        ("conv 4 3, batchnorm, relu, conv 4 3, flatten", ["conv1"]),
        ("conv 4 4 pad same, batchnorm, flatten", ["conv1.conv"]),
        ("residual(conv 4 3 pad same, batchnorm), flatten", ["residual1.body.conv1", "residual1.projection"]),
        ("conv 4 3, maxpool 2, batchnorm, flatten", ["conv1"]),
        ("conv 4 3, maxpool 2, relu, batchnorm, flatten", []),
    ],
)
def test_a_convolution_before_batchnorm_has_no_bias(line: str, without: list[str]) -> None:
    modules = dict(build_model(parse_network(line)).named_modules())
    convolutions = {name: module for name, module in modules.items() if isinstance(module, nn.Conv2d)}
    assert [name for name, module in convolutions.items() if module.bias is None] == without


def test_a_network_that_no_memory_holds_is_refused() -> None:
    message = "'flatten, dense 40000, dense 40000' has 1,600,520,010 parameters, and 1,000,000,000 are the most: pool"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        build_model(parse_network("flatten, dense 40000, dense 40000", (1, 1, 1), 10))


def test_dropout_acts_only_while_training() -> None:
    model = build_model(parse_network("flatten, dropout 0.5", (4, 4, 1), 2))
    x = torch.ones(200, 1, 4, 4)
    torch.manual_seed(0)
    dropped = (model[1](model[0](x)) == 0).float().mean().item()
    assert dropped == pytest.approx(0.5, abs=0.05)
    assert (model.eval()[1](model[0](x)) == 1).all()


@pytest.mark.parametrize("name", ALL_PRESETS)
def test_weights_of_are_copies_that_set_weights_puts_back(name: str) -> None:
    line = ALL_PRESETS[name]
    source, target = trained(line, seed=1), build_model(line.network, seed=2).eval()
    weights = get_weights(source)
    set_weights(target, weights)
    images = as_batch((noise(line, 2) / 255).astype(np.float32))
    expected = source(images)
    torch.testing.assert_close(target(images), expected, rtol=0, atol=0)
    for values in weights.values():
        assert values.flags.c_contiguous
        values.fill(0)
    torch.testing.assert_close(source(images), expected, rtol=0, atol=0)
    torch.testing.assert_close(target(images), expected, rtol=0, atol=0)


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_weights_of_another_network_are_refused(change: str) -> None:
    model = build_model(parse_network("conv 2 3, flatten", (5, 5, 1), 2))
    weights = get_weights(model)
    if change == "missing":
        del weights["conv1.bias"]
    else:
        weights["conv1.bias"] = np.zeros(3, np.float32)
    with pytest.raises(RuntimeError, match=r"conv1\.bias"):
        set_weights(model, weights)


def test_batches_are_views_in_torch_s_order() -> None:
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    batch = as_batch(images)
    assert batch.shape == (2, 5, 3, 4)
    assert batch[1, 4, 2, 3].item() == images[1, 2, 3, 4]
    images[1, 2, 3, 4] = 7
    assert batch[1, 4, 2, 3].item() == 7


@many
@given(lines(ends=("globalavg", "globalmax")), st.floats(0.3, 1))
def test_a_network_that_fits_smaller_images_takes_them(line: Line, share: float) -> None:
    if small := resize_network(line.network, share):
        height, width, channels = small.input_shape
        scores = build_model(line.network).eval()(torch.zeros(2, channels, height, width))
        assert scores.shape == (2, line.classes)
