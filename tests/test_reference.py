"""reference.py against the article, finite differences, PyTorch and ONNX Runtime.

All arguments are read-only arrays, so a function that modifies one of them fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch.nn import functional as F  # noqa: N812 (as in PyTorch's documentation)

from convscope import reference as ref
from convscope.errors import UsageError

Floats = ref.Floats
IMAGE = np.array([list(row) for row in ("11011", "10101", "11110", "00110", "11000")], float)
KERNEL = np.array([list(row) for row in ("101", "010", "110")], float)
POOLED = np.array([list(row) for row in ("3541", "2256", "4425", "1354")], float)
KINDS = ("max", "min", "average")
many_examples = settings(max_examples=60, deadline=None, derandomize=True)


def read_only(array: Any) -> Floats:
    result: Floats = np.asarray(array)
    result.flags.writeable = False
    return result


def normal(*shape: int, seed: int = 0) -> Floats:
    return read_only(np.random.default_rng([seed, *shape]).normal(size=shape))


def maps(matrix: Floats) -> Floats:
    """A matrix as one image with one channel."""
    return read_only(matrix[None, :, :, None])


def finite_differences(loss: Callable[[Floats], float], at: Floats, step: float = 1e-5) -> Floats:
    """Central finite differences of `loss`."""
    gradient = np.zeros_like(at)
    for cell in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[cell] += step
        down[cell] -= step
        gradient[cell] = (loss(up) - loss(down)) / (2 * step)
    return gradient


def assert_gradients(
    loss: Callable[..., float], arguments: Sequence[Floats], gradients: Sequence[Floats], step: float, atol: float
) -> None:
    """Compares the gradient with respect to each argument with finite differences of loss(*arguments)."""
    for position, gradient in enumerate(gradients):

        def along(at: Floats, position: int = position) -> float:
            return loss(*arguments[:position], at, *arguments[position + 1 :])

        np.testing.assert_allclose(gradient, finite_differences(along, arguments[position], step), atol=atol)


def channels_first(x: Floats) -> torch.Tensor:
    return torch.tensor(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), requires_grad=True)


def channels_last(x: torch.Tensor) -> Floats:
    return x.detach().numpy().transpose(0, 2, 3, 1)


class Case(NamedTuple):
    x: Floats
    kernel: Floats
    bias: Floats
    options: dict[str, Any]


@st.composite
def convolutions(draw: st.DrawFn, pads: tuple[str | int, ...] = ("valid", "same", 0, 1, 2)) -> Case:
    n, h, w, kh, kw = (draw(st.integers(1, top)) for top in (2, 7, 7, 5, 5))
    groups, channels, filters = (draw(st.integers(1, top)) for top in (3, 2, 2))
    options = {"stride": draw(st.integers(1, 3)), "pad": draw(st.sampled_from(pads)), "groups": groups}
    margin = 2 * options["pad"] if isinstance(options["pad"], int) else 0
    assume(options["pad"] == "same" or (kh <= h + margin and kw <= w + margin))
    x, kernel = normal(n, h, w, channels * groups), normal(kh, kw, channels, filters * groups, seed=1)
    return Case(x, kernel, normal(filters * groups, seed=2), options)


def test_a3_convolve_matrix_of_the_article() -> None:
    result = ref.convolve(maps(IMAGE), read_only(KERNEL[:, :, None, None]))
    assert result[0, :, :, 0].tolist() == [[3, 5, 3], [3, 2, 5], [4, 4, 2]]
    # a true convolution, which flips the kernel, gives another result
    assert result.tolist() != ref.convolve(maps(IMAGE), read_only(KERNEL[::-1, ::-1, None, None])).tolist()


def test_a2_cell_terms_of_the_article_sum_to_the_feature_map() -> None:
    for (row, column), expected in np.ndenumerate(np.array([[3, 5, 3], [3, 2, 5], [4, 4, 2]])):
        terms, total, bias = ref.cell_terms(IMAGE[:, :, None], KERNEL[:, :, None, None], (row, column, 0))
        assert (len(terms), total, bias) == (9, int(expected), 0)
        assert [term.pixel for term in terms] == IMAGE[row : row + 3, column : column + 3].ravel().tolist()
        assert [term.weight for term in terms] == KERNEL.ravel().tolist()


@pytest.mark.slow
@many_examples
@given(convolutions())
def test_a2_cell_terms_any_convolution_sum_to_the_cell(case: Case) -> None:
    y = ref.convolve(*case[:3], **case.options)
    h, w, _ = case.x.shape[1:]
    for n, *cell in np.ndindex(y.shape):
        terms, total, bias = ref.cell_terms(case.x[n], case.kernel, tuple(cell), case.bias, **case.options)
        assert total + bias == pytest.approx(y[n, *cell], abs=1e-12)
        assert total == pytest.approx(sum(term.pixel * term.weight for term in terms), abs=1e-12)
        for row, column, channel, pixel, weight, product in terms:
            assert pixel == (case.x[n, row, column, channel] if 0 <= row < h and 0 <= column < w else 0)
            assert product == pixel * weight


@many_examples
@given(convolutions(pads=("valid", 0, 1, 2)))
def test_convolve_and_backward_equal_pytorch(case: Case) -> None:
    options = {"stride": case.options["stride"], "groups": case.options["groups"]}
    options["padding"] = 0 if case.options["pad"] == "valid" else case.options["pad"]
    x, bias = channels_first(case.x), torch.tensor(case.bias, requires_grad=True)
    kernel = torch.tensor(np.ascontiguousarray(case.kernel.transpose(3, 2, 0, 1)), requires_grad=True)
    expected = F.conv2d(x, kernel, bias, **options)
    y = ref.convolve(*case[:3], **case.options)
    np.testing.assert_allclose(y, channels_last(expected), atol=1e-12)

    grad = normal(*y.shape, seed=3)
    dx, dkernel, dbias = ref.convolve_backward(grad, case.x, case.kernel, **case.options)
    gradients = torch.autograd.grad(expected, (x, kernel, bias), channels_first(grad))
    np.testing.assert_allclose(dx, channels_last(gradients[0]), atol=1e-12)
    np.testing.assert_allclose(dkernel, gradients[1].numpy().transpose(2, 3, 1, 0), atol=1e-12)
    np.testing.assert_allclose(dbias, gradients[2].numpy(), atol=1e-12)


@many_examples
@given(convolutions(pads=("same",)))
def test_convolve_pad_same_equals_onnx_same_upper(case: Case) -> None:
    stride, groups = case.options["stride"], case.options["groups"]
    names = ("x", "kernel", "bias")
    node = onnx.helper.make_node("Conv", names, ["y"], auto_pad="SAME_UPPER", strides=[stride, stride], group=groups)
    arrays = (case.x.transpose(0, 3, 1, 2), case.kernel.transpose(3, 2, 0, 1), case.bias)
    float32 = onnx.TensorProto.FLOAT
    inputs = [onnx.helper.make_tensor_value_info(name, float32, a.shape) for name, a in zip(names, arrays, strict=True)]
    graph = onnx.helper.make_graph(
        [node], "same", inputs, [onnx.helper.make_tensor_value_info("y", float32, [None] * 4)]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {name: a.astype(np.float32) for name, a in zip(names, arrays, strict=True)})
    y = ref.convolve(*case[:3], **case.options)
    assert y.shape[1:3] == tuple(-(-size // stride) for size in case.x.shape[1:3])
    np.testing.assert_allclose(y, expected.transpose(0, 2, 3, 1), atol=1e-4)  # ONNX Runtime sums in float32


@pytest.mark.slow
@many_examples
@given(convolutions())
def test_convolve_backward_equals_finite_differences(case: Case) -> None:
    x, kernel, bias, options = case
    grad = normal(*ref.convolve(x, kernel, bias, **options).shape, seed=3)
    gradients = ref.convolve_backward(grad, x, kernel, **options)

    def loss(x: Floats, kernel: Floats, bias: Floats) -> float:
        return float((grad * ref.convolve(x, kernel, bias, **options)).sum())

    # linear in each argument: a step of 1 has no truncation error
    assert_gradients(loss, (x, kernel, bias), gradients, step=1.0, atol=1e-10)


def test_a4_relu_and_backward() -> None:
    x = read_only(np.array([[-3.0, -0.5], [0.0, 2.0]]))
    assert ref.relu(x).tolist() == [[0, 0], [0, 2]]
    assert ref.relu_backward(read_only(np.full((2, 2), 7.0)), x).tolist() == [[0, 0], [0, 7]]
    x, grad = normal(50), normal(50, seed=1)
    expected = finite_differences(lambda at: float((grad * ref.relu(at)).sum()), x)
    np.testing.assert_allclose(ref.relu_backward(grad, x), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("max", [[5, 6], [4, 5]]), ("min", [[2, 1], [1, 2]]), ("average", [[3, 4], [3, 4]])],
)
def test_a5_pool_matrix_of_the_article(kind: str, expected: list[list[int]]) -> None:
    assert ref.pool(maps(POOLED), 2, kind=kind)[0, :, :, 0].tolist() == expected
    assert ref.pool(maps(POOLED), 2, stride=2, kind=kind)[0, :, :, 0].tolist() == expected


def torch_pool(x: torch.Tensor, size: int, stride: int | None, kind: str, pad: int) -> torch.Tensor:
    if kind == "average":
        return F.avg_pool2d(x, size, stride, pad, count_include_pad=False)
    return F.max_pool2d(x, size, stride, pad) if kind == "max" else -F.max_pool2d(-x, size, stride, pad)


@many_examples
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(3, 9), st.integers(3, 9), st.integers(1, 3)),
    size=st.integers(1, 3),
    stride=st.none() | st.integers(1, 4),
    kind=st.sampled_from(KINDS),
    pad=st.integers(0, 1),
    ties=st.booleans(),
)
def test_pool_and_backward_equal_pytorch_also_with_ties(
    shape: tuple[int, ...], size: int, stride: int | None, kind: str, pad: int, ties: bool
) -> None:
    pad = min(pad, size // 2)  # as PyTorch requires
    x = read_only(np.round(normal(*shape))) if ties else normal(*shape)
    torch_x = channels_first(x)
    expected = torch_pool(torch_x, size, stride, kind, pad)
    y = ref.pool(x, size, stride, kind, pad)
    np.testing.assert_allclose(y, channels_last(expected), atol=1e-14)
    grad = normal(*y.shape, seed=1)
    (dx,) = torch.autograd.grad(expected, torch_x, channels_first(grad))
    np.testing.assert_allclose(ref.pool_backward(grad, x, size, stride, kind, pad), channels_last(dx), atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pad", ["valid", "same", 1])
@pytest.mark.parametrize(("size", "stride"), [(2, None), (2, 1), (3, 2), (3, 1), (2, 3), (4, 2)])
def test_pool_backward_equals_finite_differences(kind: str, size: int, stride: int | None, pad: str | int) -> None:
    x = read_only(np.random.default_rng(0).permutation(2 * 5 * 6 * 2).reshape(2, 5, 6, 2).astype(float))  # no ties
    grad = normal(*ref.pool(x, size, stride, kind, pad).shape)
    expected = finite_differences(lambda at: float((grad * ref.pool(at, size, stride, kind, pad)).sum()), x, step=0.25)
    np.testing.assert_allclose(ref.pool_backward(grad, x, size, stride, kind, pad), expected, atol=1e-10)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("max", [[-3, -4], [-1, -2]]), ("min", [[-3, -5], [-6, -8]]), ("average", [[-3, -4.5], [-3.5, -5]])],
)
def test_pool_padding_is_never_the_result(kind: str, expected: list[list[float]]) -> None:
    x = maps(np.array([[-3.0, -4.0, -5.0], [-1.0, -2.0, -7.0], [-6.0, -8.0, -3.0]]))
    assert ref.pool(x, 2, kind=kind, pad=1)[0, :, :, 0].tolist() == expected


@pytest.mark.parametrize(("kind", "expected"), [("max", [[0, 8], [0, 0]]), ("min", [[8, 0], [0, 0]])])
def test_pool_backward_equal_values_first_cell_gets_the_gradient(kind: str, expected: list[list[int]]) -> None:
    x = maps(np.array([[1.0, 7.0], [7.0, 1.0]]))
    assert ref.pool_backward(read_only(np.full((1, 1, 1, 1), 8.0)), x, 2, kind=kind)[0, :, :, 0].tolist() == expected


def test_a7_flatten_order_is_row_column_channel_and_flatten_source_inverts_it() -> None:
    x = normal(3, 4, 5, 2)
    vectors = ref.flatten(x)
    assert vectors.shape == (3, 40)
    for index in range(40):
        assert vectors[:, index].tolist() == x[:, *ref.flatten_source(index, (4, 5, 2))].tolist()
    assert ref.flatten_source(1, (4, 5, 2)) == (0, 0, 1)  # the channel changes fastest,
    assert ref.flatten_source(2, (4, 5, 2)) == (0, 1, 0)  # then the column,
    assert ref.flatten_source(10, (4, 5, 2)) == (1, 0, 0)  # then the row
    assert ref.flatten_backward(vectors, x.shape).tolist() == x.tolist()
    assert ref.flatten(x[:0]).shape == (0, 40)


@pytest.mark.parametrize(("n", "inputs", "units"), [(1, 1, 1), (4, 3, 2), (2, 7, 5)])
def test_a8_dense_and_backward_equal_pytorch_and_finite_differences(n: int, inputs: int, units: int) -> None:
    x, weight, bias, grad = normal(n, inputs), normal(inputs, units), normal(units), normal(n, units, seed=1)
    tensors = [torch.tensor(array, requires_grad=True) for array in (x, weight, bias)]
    expected = F.linear(tensors[0], tensors[1].T, tensors[2])
    np.testing.assert_allclose(ref.dense(x, weight, bias), expected.detach().numpy(), atol=1e-13)
    np.testing.assert_allclose(ref.dense(x, weight), (expected - tensors[2]).detach().numpy(), atol=1e-13)
    gradients = ref.dense_backward(grad, x, weight)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, tensors, torch.tensor(grad)), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-13)

    def loss(x: Floats, weight: Floats, bias: Floats) -> float:
        return float((grad * ref.dense(x, weight, bias)).sum())

    assert_gradients(loss, (x, weight, bias), gradients, step=1.0, atol=1e-12)


@many_examples
@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12), st.floats(-1e4, 1e4))
def test_a9_softmax_sums_to_1_and_ignores_shifts(row: list[float], shift: float) -> None:
    logits = read_only([row, row[::-1]])
    probabilities = ref.softmax(logits)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(probabilities, ref.softmax(logits + shift), atol=1e-10)
    np.testing.assert_allclose(probabilities, torch.softmax(torch.tensor(logits), dim=1).numpy(), atol=1e-12)


@pytest.mark.parametrize(("dtype", "huge"), [(np.float32, 1e38), (np.float64, 1e300)])
def test_softmax_and_cross_entropy_huge_logits_are_finite(dtype: type[np.floating[Any]], huge: float) -> None:
    logits, targets = read_only(np.array([[huge, -huge, 0]], dtype)), read_only(ref.one_hot([1], 3))
    assert ref.softmax(logits).tolist() == [[1, 0, 0]]
    assert ref.cross_entropy(logits, targets) == pytest.approx(2 * huge, rel=1e-6)
    assert ref.cross_entropy_backward(logits, targets).tolist() == [[1, -1, 0]]
    assert repr(ref.cross_entropy(logits, read_only(ref.one_hot([0], 3)))) == "0.0"  # not -0.0


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a13_cross_entropy_and_backward_equal_pytorch(smoothing: float) -> None:
    logits, labels = read_only(3 * normal(6, 4)), np.array([0, 3, 1, 1, 2, 0])
    targets = read_only((1 - smoothing) * ref.one_hot(labels, 4).astype(float) + smoothing / 4)
    torch_logits = torch.tensor(logits, requires_grad=True)
    expected = F.cross_entropy(torch_logits, torch.tensor(labels), label_smoothing=smoothing)
    assert ref.cross_entropy(logits, targets) == pytest.approx(expected.item(), abs=1e-12)
    gradient = ref.cross_entropy_backward(logits, targets)
    np.testing.assert_allclose(gradient, torch.autograd.grad(expected, torch_logits)[0].numpy(), atol=1e-12)
    np.testing.assert_allclose(
        gradient, finite_differences(lambda at: ref.cross_entropy(at, targets), logits), atol=1e-9
    )


def test_a11_images_and_labels_of_the_article() -> None:
    pixels = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    images = pixels.reshape(-1, 28, 28, 1).astype(np.float32) / 255
    assert images.dtype == np.float32 and (images.min(), images.max()) == (0, 1)
    assert ref.convolve(images, np.ones((3, 3, 1, 1), np.float32)).shape == (2, 26, 26, 1)
    labels = ref.one_hot(np.arange(10)[::-1], 10)
    assert labels.dtype == np.float32
    assert labels.tolist() == np.fliplr(np.eye(10)).tolist()


ARTICLE_SHAPES = ((3, 3, 1, 32), (32,), (13 * 13 * 32, 100), (100,), (100, 10), (10,))


def test_a12_network_of_the_article_has_542230_parameters() -> None:
    assert sum(int(np.prod(shape)) for shape in ARTICLE_SHAPES) == 542_230
    kernel, bias, *_ = (normal(*shape) for shape in ARTICLE_SHAPES)
    feature_maps = ref.convolve(normal(1, 28, 28, 1), kernel, bias)
    pooled = ref.pool(feature_maps, 2)
    assert (feature_maps.shape, pooled.shape) == ((1, 26, 26, 32), (1, 13, 13, 32))
    assert ref.flatten(pooled).shape == (1, ARTICLE_SHAPES[2][0])


@pytest.mark.parametrize(
    ("initialize", "shape", "limit"),
    [
        (ref.he_uniform, (300, 500), (6 / 300) ** 0.5),
        (ref.he_uniform, (3, 5, 32, 256), (6 / (3 * 5 * 32)) ** 0.5),
        (ref.glorot_uniform, (300, 500), (6 / 800) ** 0.5),
        (ref.glorot_uniform, (3, 5, 32, 256), (6 / (3 * 5 * (32 + 256))) ** 0.5),
    ],
)
def test_a12_initializers_are_uniform_within_keras_limits(
    initialize: Callable[..., Floats], shape: tuple[int, ...], limit: float
) -> None:
    weight = initialize(shape, np.random.default_rng(7)) / limit
    assert weight.shape == shape
    assert 0.999 < weight.max() <= 1 and -1 <= weight.min() < -0.999
    # moments of the uniform distribution on -1..1, within 5 standard errors of 120,000 draws
    assert abs(weight.mean()) < 0.009 and weight.var() == pytest.approx(1 / 3, abs=0.005)
    assert (weight**4).mean() == pytest.approx(1 / 5, abs=0.005)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a13_sgd_momentum_rate_changes_equals_pytorch(momentum: float) -> None:
    weight, velocity = normal(4, 3), read_only(np.zeros((4, 3)))
    parameter = torch.nn.Parameter(torch.tensor(weight))
    optimizer = torch.optim.SGD([parameter], lr=0.01, momentum=momentum)
    for step, rate in enumerate([0.01] * 4 + [0.002] * 4):
        if rate != optimizer.param_groups[0]["lr"]:
            for state in optimizer.state.values():
                if momentum:
                    state["momentum_buffer"] *= optimizer.param_groups[0]["lr"] / rate  # see the docstring
            optimizer.param_groups[0]["lr"] = rate
        gradient = normal(4, 3, seed=step)
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        weight, velocity = map(read_only, ref.sgd_momentum(weight, velocity, gradient, rate, momentum))
        np.testing.assert_allclose(weight, parameter.detach().numpy(), atol=1e-14)


def forward_and_backward(x: Floats, targets: Floats, weights: list[Floats]) -> tuple[Floats, float, list[Floats]]:
    """conv, relu, maxpool 2, flatten, dense, relu, dense: (logits, loss, the gradient of every weight)."""
    kernel, bias, weight1, bias1, weight2, bias2 = weights
    convolved = ref.convolve(x, kernel, bias)
    mapped = ref.relu(convolved)
    pooled = ref.pool(mapped, 2)
    vectors = ref.flatten(pooled)
    hidden = ref.dense(vectors, weight1, bias1)
    active = ref.relu(hidden)
    logits = ref.dense(active, weight2, bias2)
    grad, *gradients2 = ref.dense_backward(ref.cross_entropy_backward(logits, targets), active, weight2)
    grad, *gradients1 = ref.dense_backward(ref.relu_backward(grad, hidden), vectors, weight1)
    grad = ref.pool_backward(ref.flatten_backward(grad, pooled.shape), mapped, 2)
    _, *gradients0 = ref.convolve_backward(ref.relu_backward(grad, convolved), x, kernel)
    return logits, ref.cross_entropy(logits, targets), [*gradients0, *gradients1, *gradients2]


def small_network(rng: np.random.Generator) -> list[Floats]:
    """4 filters 3x3 on 8x8 images, 3x3x4 pooled cells, 10 hidden units, 10 classes; biases zero, as in A12."""
    kernel, hidden = ref.he_uniform((3, 3, 1, 4), rng), ref.he_uniform((36, 10), rng)
    weights = kernel, np.zeros(4), hidden, np.zeros(10), ref.glorot_uniform((10, 10), rng), np.zeros(10)
    return [read_only(weight) for weight in weights]


def digits() -> tuple[Floats, Floats]:
    bunch = load_digits()
    return read_only(bunch.images[..., None] / 16), read_only(ref.one_hot(bunch.target, 10))


@pytest.mark.slow
def test_a8_gradients_of_a_whole_network_equal_finite_differences() -> None:
    x, targets = (
        normal(4, 8, 8, 1),
        ref.one_hot([3, 0, 9, 3], 10),
    )  # no ties, no zeros
    weights = [normal(*weight.shape) for weight in small_network(np.random.default_rng(0))]
    _, _, gradients = forward_and_backward(x, targets, weights)
    assert_gradients(
        lambda *at: forward_and_backward(x, targets, list(at))[1], weights, gradients, step=1e-6, atol=1e-7
    )


@pytest.mark.slow
def test_a8_small_network_of_the_article_trains() -> None:
    images, targets = digits()
    rng = np.random.default_rng(0)
    weights = small_network(rng)
    velocities = [np.zeros_like(weight) for weight in weights]
    losses = [forward_and_backward(images, targets, weights)[1]]
    for _ in range(15):
        for batch in np.array_split(rng.permutation(len(images)), 28):  # 64 images or 65
            _, _, gradients = forward_and_backward(images[batch], targets[batch], weights)
            steps = map(ref.sgd_momentum, weights, velocities, gradients, [0.05] * 6)
            weights, velocities = map(list, zip(*steps, strict=True))
        logits, loss, _ = forward_and_backward(images, targets, weights)
        losses.append(loss)
    accuracy = (logits.argmax(axis=1) == targets.argmax(axis=1)).mean()
    assert losses[-1] < losses[3] < losses[1] < losses[0]
    assert accuracy > 0.95  # 0.978 with this seed, 0.91 to 0.98 with others; chance is 0.1


def all_results(dtype: Any) -> dict[str, Any]:
    x, kernel, bias = (normal(*shape).astype(dtype) for shape in ((2, 5, 5, 2), (3, 3, 1, 4), (4,)))
    v, weight = normal(3, 4).astype(dtype), normal(4, 4).astype(dtype)
    y, targets = ref.convolve(x, kernel, bias, 1, "same", 2), ref.one_hot([0, 1, 3], 4)
    pools = {kind: ref.pool(x, 2, kind=kind) for kind in KINDS}
    return {
        "convolve": y,
        "convolve_backward": ref.convolve_backward(y, x, kernel, 1, "same", 2),
        "relu": ref.relu(x),
        "relu_backward": ref.relu_backward(x, x),
        "pool": tuple(pools.values()),
        "pool_backward": tuple(ref.pool_backward(pools[kind], x, 2, kind=kind) for kind in KINDS),
        "flatten": ref.flatten(x),
        "flatten_backward": ref.flatten_backward(ref.flatten(x), x.shape),
        "dense": ref.dense(v, weight, bias),
        "dense_backward": ref.dense_backward(v, v, weight),
        "softmax": ref.softmax(v),
        "cross_entropy_backward": ref.cross_entropy_backward(v, targets),
        "sgd_momentum": ref.sgd_momentum(v, v, v, 0.01, 0.9),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", all_results(np.float64))
def test_functions_keep_the_dtype(name: str, dtype: Any) -> None:
    result = all_results(dtype)[name]
    assert {array.dtype for array in (result if isinstance(result, tuple) else (result,))} == {np.dtype(dtype)}


X, K = normal(1, 4, 4, 2), normal(3, 3, 2, 2)
WRONG_ARGUMENTS: dict[str, tuple[Callable[[], object], str]] = {
    "large kernel": (lambda: ref.convolve(X, normal(5, 3, 2, 2)), r"within the padded image of \(4, 4\).*got \(5, 3\)"),
    "large kernel, padded": (lambda: ref.convolve(X, normal(9, 9, 2, 2), pad=1), r"of \(6, 6\).*or more padding"),
    "large pool": (lambda: ref.pool(X, 5), r"within the padded image of \(4, 4\)"),
    "groups": (lambda: ref.convolve(X, K, groups=3), "groups that divide 2 channels and 2 filters, got 3"),
    "groups of filters": (lambda: ref.convolve(X, normal(3, 3, 1, 3), groups=2), "2 channels and 3 filters, got 2"),
    "no groups": (lambda: ref.convolve(X, K, groups=0), "groups a whole number from 1, got 0"),
    "kernel channels": (lambda: ref.convolve(X, K, groups=2), r"kernel of shape \(3, 3, 1, 2\), got \(3, 3, 2, 2\)"),
    "kernel shape": (lambda: ref.convolve(X, KERNEL), r"float kernel \(height.*got float64 \(3, 3\)"),
    "kernel dtype": (lambda: ref.convolve(X, K.astype(int)), "float kernel.*got int64"),
    "empty kernel": (lambda: ref.convolve(X, K[:0]), r"got float64 \(0, 3, 2, 2\)"),
    "bias": (lambda: ref.convolve(X, K, normal(1)), r"bias of shape \(2,\), got \(1,\)"),
    "stride": (lambda: ref.convolve(X, K, stride=0), "stride a whole number from 1, got 0"),
    "half stride": (lambda: ref.pool(X, 2, stride=0.5), "got 0.5"),  # type: ignore[arg-type]
    "pool stride": (lambda: ref.pool(X, 2, stride=0), "stride a whole number from 1, got 0"),
    "pad word": (lambda: ref.convolve(X, K, pad="full"), "pad valid, same or a whole number from 0, got 'full'"),
    "negative pad": (lambda: ref.convolve(X, K, pad=-1), "from 0, got -1"),
    "kind": (lambda: ref.pool(X, 2, kind="median"), "kind max, min, average, got 'median'"),
    "pool pad": (lambda: ref.pool(X, 2, pad=2), "pad less than the window's size 2, got 2"),
    "size": (lambda: ref.pool(X, 0), "size a whole number from 1, got 0"),
    "bytes": (
        lambda: ref.convolve(X.astype(np.uint8), K),
        r"float images .*got uint8 of shape \(1, 4, 4, 2\); .*astype",
    ),
    "one image": (lambda: ref.pool(X[0], 2), r"float images .*got float64 of shape \(4, 4, 2\); reshape"),
    "convolve grad": (lambda: ref.convolve_backward(X, X, K), r"grad of shape \(1, 2, 2, 2\), got \(1, 4, 4, 2\)"),
    "pool grad": (lambda: ref.pool_backward(X, X, 2), r"grad of shape \(1, 2, 2, 2\), got"),
    "pool kind": (lambda: ref.pool_backward(X, X, 2, kind="mean"), "kind max, min, average, got 'mean'"),
    "relu grad": (lambda: ref.relu_backward(X[0], X), r"grad of shape \(1, 4, 4, 2\)"),
    "flat grad": (lambda: ref.flatten_backward(X, X.shape), r"grad of shape \(1, 32\)"),
    "cell": (lambda: ref.cell_terms(X[0], K, (0, 2, 0)), r"cell \(row, column, filter\) from 0, below \(2, 2, 2\)"),
    "index": (lambda: ref.flatten_source(32, (4, 4, 2)), r"index from 0, below \(32,\), got \(32,\)"),
    "negative index": (lambda: ref.flatten_source(-1, (4, 4, 2)), r"got \(-1,\)"),
    "maps into dense": (lambda: ref.dense(X, normal(32, 3)), r"x of shape \(1, 32\), got .*; flatten feature maps"),
    "dense bias": (lambda: ref.dense(normal(2, 3), normal(3, 4), normal(1)), r"bias of shape \(4,\), got \(1,\)"),
    "dense grad": (lambda: ref.dense_backward(normal(1, 4), normal(2, 3), normal(3, 4)), r"grad of shape \(2, 4\)"),
    "class numbers": (lambda: ref.cross_entropy(normal(2, 3), np.array([0.0, 1.0])), "make targets with one_hot"),
    "no images": (lambda: ref.cross_entropy(normal(0, 3), normal(0, 3)), "n at least 1"),
    "sums": (lambda: ref.cross_entropy_backward(normal(2, 2), np.ones((2, 2))), "rows of targets that sum to 1"),
    "label": (lambda: ref.one_hot([0, 3], 3), r"labels from 0 to 2, got \[3\]; check the number of classes"),
    "negative label": (lambda: ref.one_hot([-1], 3), r"got \[-1\]"),
    "column of labels": (lambda: ref.one_hot(np.array([[1]]), 3), r"whole labels \(n,\), got int64 \(1, 1\)"),
    "half label": (lambda: ref.one_hot([0.5], 3), "got float64"),  # type: ignore[list-item]
    "velocity": (lambda: ref.sgd_momentum(K, K[:1], K), "velocity of shape"),
    "gradient": (lambda: ref.sgd_momentum(K, K, K[:1]), "gradient of shape"),
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_functions_wrong_arguments_raise_usage_error(name: str) -> None:
    call, message = WRONG_ARGUMENTS[name]
    with pytest.raises(UsageError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
