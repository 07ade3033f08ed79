"""The textbook of convolutional neural networks: every operation in plain NumPy, forward and backward.

The lesson, the specification of every faster kernel, and the oracle of their tests: written to be read, not to be fast.
A2 to A13 name the statements of the article that convscope grew out of.

Images and feature maps are (n, height, width, channels), kernels (height, width, channels / groups, filters), dense
weights (inputs, units), all float32 or float64; results have the same dtype. No argument is modified; one that does not
fit raises UsageError. `grad` is the loss's gradient with respect to a function's output; its `_backward` turns it into
the gradients with respect to the inputs, each shaped like its input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convscope.errors import UsageError

Floats = NDArray[np.floating[Any]]
Bias = Floats | None
Pad = str | int
Place = tuple[int, int, int]


class Term(NamedTuple):
    """One product of a convolution. Row and column may lie outside the image; the pixel is 0 there."""

    row: int
    column: int
    channel: int
    pixel: float
    weight: float
    product: float


def convolve(
    x: Floats, kernel: Floats, bias: Bias = None, stride: int = 1, pad: Pad = "valid", groups: int = 1
) -> Floats:
    """Slide a feature detector over the image, multiply element by element and sum: the feature map (A2).

    y[n, r, c, f] = bias[f] + the sum over i, j, k of x[n, r * stride + i, c * stride + j, k] * kernel[i, j, k, f]

    This is cross-correlation: the kernel is not flipped (Goodfellow et al., "Deep Learning", section 9.1).
    x: (n, h, w, c). kernel: (kh, kw, c / groups, filters). bias: (filters,). Result: (n, h', w', filters).
    pad: "valid" adds nothing, h' = (h - kh) // stride + 1; an int adds so many zeros on all four sides; "same" adds
    what gives h' = ceil(h / stride), the odd row or column at the bottom or right (TensorFlow; ONNX SAME_UPPER).
    groups: part g of the filters, of so many equal parts, sees only part g of the channels. The example is A3.

    >>> image = np.array([list(row) for row in ("11011", "10101", "11110", "00110", "11000")], float)
    >>> kernel = np.array([list(row) for row in ("101", "010", "110")], float)
    >>> convolve(image[None, :, :, None], kernel[:, :, None, None])[0, :, :, 0]
    array([[3., 5., 3.],
           [3., 2., 5.],
           [4., 4., 2.]])
    """
    padded = _convolution_input(x, kernel, bias, stride, pad, groups)
    maps = []
    for part, weights in zip(np.split(padded, groups, axis=-1), np.split(kernel, groups, axis=-1), strict=True):
        maps.append(sum(met @ weights[cell] for cell, met in _sweep(part, kernel.shape[:2], stride)))
    return np.concatenate(maps, axis=-1) + (0 if bias is None else bias)


def convolve_backward(
    grad: Floats, x: Floats, kernel: Floats, stride: int = 1, pad: Pad = "valid", groups: int = 1
) -> tuple[Floats, Floats, Floats]:
    """Gradients (dx, dkernel, dbias) of `convolve`; grad: (n, h', w', filters), the rest as there.

    Where pixel and weight met, the output is pixel * weight: the pixel's gradient gains grad * weight, the weight's
    gains grad * pixel. The bias was added to every cell: its gradient is the sum over all of them.

    >>> x, kernel = np.array([[3.0, 4.0]])[None, :, :, None], np.full((1, 1, 1, 1), 2.0)
    >>> dx, dkernel, dbias = convolve_backward(np.array([[1.0, 10.0]])[None, :, :, None], x, kernel)
    >>> dx.ravel(), dkernel.ravel(), dbias
    (array([ 2., 20.]), array([43.]), array([11.]))
    """
    padded, window = _convolution_input(x, kernel, None, stride, pad, groups), kernel.shape[:2]
    _expect_shape("grad", grad, (*_places(padded, window, stride), kernel.shape[3]))
    dpadded, dkernel = np.zeros_like(padded), np.zeros_like(kernel)
    parts = (np.split(array, groups, axis=-1) for array in (grad, padded, kernel, dpadded, dkernel))  # views
    for part_grad, part, weights, dpart, dweights in zip(*parts, strict=True):
        for (cell, met), (_, dmet) in zip(_sweep(part, window, stride), _sweep(dpart, window, stride), strict=True):
            dmet[...] += part_grad @ weights[cell].T
            dweights[cell] = np.einsum("nrck,nrcf->kf", met, part_grad)
    top, left = (_padding(x.shape[axis + 1], window[axis], stride, pad)[0] for axis in (0, 1))
    return dpadded[:, top : top + x.shape[1], left : left + x.shape[2]], dkernel, grad.sum(axis=(0, 1, 2))


def cell_terms(
    image: Floats, kernel: Floats, cell: Place, bias: Bias = None, stride: int = 1, pad: Pad = "valid", groups: int = 1
) -> tuple[list[Term], float, float]:
    """The arithmetic of one cell of `convolve` (A2): (terms, their sum, bias), and the cell is sum + bias.

    image: (h, w, c), one image. cell: (row, column, filter) of the output. Terms come in row, column, channel order, as
    Python floats; their rows and columns count in the image without padding, so that -1 and h are padding.

    >>> image = np.array([list(row) for row in ("11011", "10101", "11110", "00110", "11000")], float)
    >>> kernel = np.array([list(row) for row in ("101", "010", "110")], float)
    >>> terms, total, bias = cell_terms(image[:, :, None], kernel[:, :, None, None], (0, 0, 0))
    >>> " + ".join(f"{term.pixel:.0f}*{term.weight:.0f}" for term in terms), total, bias
    ('1*1 + 1*0 + 0*1 + 1*0 + 0*1 + 1*0 + 1*1 + 1*1 + 1*0', 3.0, 0.0)
    """
    padded = _convolution_input(image[None], kernel, bias, stride, pad, groups)
    _expect_inside(
        "cell (row, column, filter)", cell, (*_places(padded, kernel.shape[:2], stride)[1:], kernel.shape[3])
    )
    top, left = (_padding(image.shape[axis], kernel.shape[axis], stride, pad)[0] for axis in (0, 1))
    row, column, filter_ = cell
    first_channel = filter_ // (kernel.shape[3] // groups) * kernel.shape[2]
    terms = []
    for i, j, k in np.ndindex(kernel.shape[:3]):
        r, c, channel = row * stride + i, column * stride + j, first_channel + k  # in the padded image
        pixel, weight = float(padded[0, r, c, channel]), float(kernel[i, j, k, filter_])
        terms.append(Term(r - top, c - left, channel, pixel, weight, pixel * weight))
    return terms, sum(term.product for term in terms), 0.0 if bias is None else float(bias[filter_])


def relu(x: Floats) -> Floats:
    """Rectified linear unit (A4): what is negative becomes 0. Without it, many layers are no more than a linear one.

    >>> relu(np.array([-2.0, 0.0, 3.0]))
    array([0., 0., 3.])
    """
    return np.maximum(x, 0)


def relu_backward(grad: Floats, x: Floats) -> Floats:
    """Gradient of `relu`: `grad` where x is positive, else 0, also where x is exactly 0.

    >>> relu_backward(np.array([5.0, 5.0, 5.0]), np.array([-2.0, 0.0, 3.0]))
    array([0., 0., 5.])
    """
    _expect_shape("grad", grad, x.shape)
    return np.where(x > 0, grad, 0)


POOL_FUNCTIONS: dict[str, Callable[..., Floats]] = {"max": np.max, "min": np.min, "average": np.mean}


def pool(x: Floats, size: int, stride: int | None = None, kind: str = "max") -> Floats:
    """Keep one number of each size x size window, per channel: its "max", "min" or "average" (A5).

    x: (n, h, w, c). stride: `size` if None; windows overlap if it is smaller. Result: (n, h', w', c) with
    h' = (h - size) // stride + 1: rows and columns that fill no whole window are left out.

    >>> image = np.array([list(row) for row in ("3541", "2256", "4425", "1354")], float)[None, :, :, None]
    >>> for kind in ("max", "min", "average"):
    ...     print(pool(image, 2, kind=kind)[0, :, :, 0].tolist())
    [[5.0, 6.0], [4.0, 5.0]]
    [[2.0, 1.0], [1.0, 2.0]]
    [[3.0, 4.0], [3.0, 4.0]]
    """
    windows = _pool_windows(x, size, stride, kind)
    return POOL_FUNCTIONS[kind](windows, axis=0)


def pool_backward(grad: Floats, x: Floats, size: int, stride: int | None = None, kind: str = "max") -> Floats:
    """Gradient of `pool` with respect to x; grad: (n, h', w', c), the rest as there.

    Max and min give a window's gradient to the cell that won; of equal cells, to the first in row, column order, as
    PyTorch and TensorFlow do. Average shares it equally. Where windows overlap, the shares add up.

    >>> pool_backward(np.full((1, 1, 1, 1), 8.0), np.array([[1.0, 7.0], [7.0, 2.0]])[None, :, :, None], 2)[0, :, :, 0]
    array([[0., 8.],
           [0., 0.]])
    """
    windows = _pool_windows(x, size, stride, kind)
    _expect_shape("grad", grad, windows.shape[1:])
    winner = windows.argmin(axis=0) if kind == "min" else windows.argmax(axis=0)
    dx = np.zeros_like(x)
    for place, (_, dmet) in enumerate(_sweep(dx, (size, size), size if stride is None else stride)):
        dmet[...] += grad / size**2 if kind == "average" else np.where(winner == place, grad, 0)
    return dx


def flatten(x: Floats) -> Floats:
    """Turn the pooled maps (n, h, w, c) into vectors (n, h * w * c), in row, column, channel order (A7).

    >>> flatten(np.array([[[[1.0, 10.0], [2.0, 20.0]], [[3.0, 30.0], [4.0, 40.0]]]]))  # two maps of 2x2
    array([[ 1., 10.,  2., 20.,  3., 30.,  4., 40.]])
    """
    return x.reshape(len(x), math.prod(x.shape[1:]))


def flatten_backward(grad: Floats, shape: tuple[int, ...]) -> Floats:
    """Gradient of `flatten`: the same numbers, back in their cells. grad: (n, h * w * c). shape: (n, h, w, c).

    >>> flatten_backward(np.array([[1.0, 10.0, 2.0, 20.0]]), (1, 1, 2, 2)).tolist()
    [[[[1.0, 10.0], [2.0, 20.0]]]]
    """
    _expect_shape("grad", grad, (shape[0], math.prod(shape[1:])))
    return grad.reshape(shape)


def flatten_source(index: int, shape: Place) -> Place:
    """The map cell (row, column, channel) that entry `index` of the vector came from (A7). shape: (h, w, c).

    >>> flatten_source(0, (13, 13, 32)), flatten_source(33, (13, 13, 32)), flatten_source(5407, (13, 13, 32))
    ((0, 0, 0), (0, 1, 1), (12, 12, 31))
    """
    _expect_inside("index", (index,), (math.prod(shape),))
    row, column, channel = (int(place) for place in np.unravel_index(index, shape))
    return row, column, channel


def dense(x: Floats, weight: Floats, bias: Bias = None) -> Floats:
    """Fully connected layer (A8): (n, inputs) to (n, units); each unit weighs and sums all inputs and adds its bias.

    >>> dense(np.array([[1.0, 2.0]]), np.array([[10.0, 20.0], [30.0, 40.0]]), np.array([0.5, -0.5]))
    array([[70.5, 99.5]])
    """
    _expect_shape("x", x, (len(x), len(weight)), "flatten feature maps first")
    if bias is None:
        return x @ weight
    _expect_shape("bias", bias, weight.shape[1:])
    return x @ weight + bias


def dense_backward(grad: Floats, x: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Gradients (dx, dweight, dbias) of `dense`; grad: (n, units).

    >>> dx, dweight, dbias = dense_backward(np.array([[5.0]]), np.array([[1.0, 2.0]]), np.array([[10.0], [30.0]]))
    >>> dx, dweight.ravel(), dbias
    (array([[ 50., 150.]]), array([ 5., 10.]), array([5.]))
    """
    _expect_shape("grad", grad, (len(x), *weight.shape[1:]))
    return grad @ weight.T, x.T @ grad, grad.sum(axis=0)


def softmax(logits: Floats) -> Floats:
    """Probabilities over the last axis (A9): exp(logit) / sum of exp(logits); they sum to 1.

    >>> softmax(np.log(np.array([[1.0, 2.0, 5.0]]))).round(3)
    array([[0.125, 0.25 , 0.625]])
    """
    shares: Floats = np.exp(logits - logits.max(axis=-1, keepdims=True))  # same ratios, and exp cannot overflow
    shares /= shares.sum(axis=-1, keepdims=True)
    return shares


def cross_entropy(logits: Floats, targets: Floats) -> float:
    """Categorical cross-entropy in nats (A13): the mean over n images of -log(probability of the true class).

    logits: (n, classes) *before* softmax, so that no log of a probability that rounded to 0 is taken: a certain wrong
    answer costs its lead over the true logit, a finite number. targets: rows of `one_hot`, or any that sum to 1.

    >>> round(cross_entropy(np.log(np.array([[1.0, 2.0, 5.0]])), one_hot([2], 3)), 4)  # -log(0.625)
    0.47
    >>> cross_entropy(np.array([[0.0, 1000.0]]), one_hot([0], 2))
    1000.0
    """
    _expect_targets(logits, targets)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    costs = np.log(np.exp(shifted).sum(axis=-1, keepdims=True)) - shifted  # -log(probability) of every class
    return float((targets * costs).sum(axis=-1).mean())


def cross_entropy_backward(logits: Floats, targets: Floats) -> Floats:
    """Gradient of `cross_entropy` with respect to the logits: (softmax(logits) - targets) / n.

    >>> cross_entropy_backward(np.log(np.array([[1.0, 2.0, 5.0]])), one_hot([2], 3)).round(3)
    array([[ 0.125,  0.25 , -0.375]])
    """
    _expect_targets(logits, targets)
    return (softmax(logits) - targets) / len(logits)


def one_hot(labels: NDArray[np.integer[Any]] | list[int], classes: int) -> NDArray[np.float32]:
    """A row per label (n,), 1 in the label's column and 0 elsewhere (A11). Labels: 0 .. classes - 1.

    >>> one_hot([0, 2], 3)
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    labels = np.asarray(labels)
    _expect(labels.ndim == 1 and labels.dtype.kind in "iu", "whole labels (n,)", f"{labels.dtype} {labels.shape}")
    wrong = labels[(labels < 0) | (labels >= classes)]
    _expect(not wrong.size, f"labels from 0 to {classes - 1}", wrong[:1], "check the number of classes")
    return np.take(np.eye(classes, dtype=np.float32), labels, axis=0)


def he_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Weights uniform in +-sqrt(6 / fan_in), for a layer before ReLU (A12; He et al. 2015, arXiv:1502.01852).

    shape: (inputs, units) or (kh, kw, channels, filters); fan_in is inputs, or a kernel's kh * kw * channels.
    """
    limit = math.sqrt(6 / math.prod(shape[:-1]))
    return rng.uniform(-limit, limit, shape)


def glorot_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Weights uniform in +-sqrt(6 / (fan_in + fan_out)), Keras's default (A12; Glorot and Bengio 2010).

    shape: as in `he_uniform`; fan_out is units, or a kernel's kh * kw * filters.
    """
    limit = math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
    return rng.uniform(-limit, limit, shape)


def sgd_momentum(
    weight: Floats, velocity: Floats, gradient: Floats, learning_rate: float = 0.01, momentum: float = 0.9
) -> tuple[Floats, Floats]:
    """One step of gradient descent with momentum (A13) by Keras's rule; returns the new (weight, velocity).

    v = momentum * v - learning_rate * gradient, then w = w + v; the first v is 0.
    PyTorch keeps b = momentum * b + gradient and steps w = w - learning_rate * b. At one learning rate the paths are
    the same, v = -learning_rate * b. When the rate changes, PyTorch applies the new one to the old gradients in b too,
    Keras does not: multiplying b by old rate / new rate at the change makes PyTorch follow Keras.

    >>> weight, velocity = sgd_momentum(np.array([1.0]), np.array([0.0]), np.array([10.0]))
    >>> weight, velocity, *sgd_momentum(weight, velocity, np.array([10.0]))
    (array([0.9]), array([-0.1]), array([0.71]), array([-0.19]))
    """
    _expect_shape("velocity", velocity, weight.shape)
    _expect_shape("gradient", gradient, weight.shape)
    velocity = momentum * velocity - learning_rate * gradient
    return weight + velocity, velocity


def _places(padded: Floats, window: tuple[int, ...], stride: int) -> Place:
    """(n, h', w'): at how many rows and columns the window stands."""
    return len(padded), (padded.shape[1] - window[0]) // stride + 1, (padded.shape[2] - window[1]) // stride + 1


def _sweep(padded: Floats, window: tuple[int, ...], stride: int) -> Iterator[tuple[tuple[int, ...], Floats]]:
    """For each cell (i, j) of the window, the view (n, h', w', c) of the cells that it meets on its way."""
    _, height, width, _ = padded.shape
    for i, j in np.ndindex(window):
        yield (i, j), padded[:, i : height - window[0] + i + 1 : stride, j : width - window[1] + j + 1 : stride]


def _convolution_input(x: Floats, kernel: Floats, bias: Bias, stride: int, pad: Pad, groups: int) -> Floats:
    """x with its padding, once everything fits."""
    fits = kernel.ndim == 4 and kernel.dtype.kind == "f" and 0 not in kernel.shape
    _expect(fits, "a float kernel (height, width, channels / groups, filters)", f"{kernel.dtype} {kernel.shape}")
    _expect_whole("groups", groups, 1)
    padded, channels, filters = _padded(x, kernel.shape[:2], stride, pad), x.shape[-1], kernel.shape[3]
    fits = channels % groups == filters % groups == 0
    _expect(fits, f"groups that divide {channels} channels and {filters} filters", groups)
    _expect_shape("kernel", kernel, (*kernel.shape[:2], channels // groups, filters))
    if bias is not None:
        _expect_shape("bias", bias, (filters,))
    return padded


def _pool_windows(x: Floats, size: int, stride: int | None, kind: str) -> Floats:
    """(size * size, n, h', w', c): the cells of every window, in row, column order, on the first axis."""
    _expect_whole("size", size, 1)
    _expect(kind in POOL_FUNCTIONS, f"kind {', '.join(POOL_FUNCTIONS)}", repr(kind))
    stride = size if stride is None else stride
    return np.stack([met for _, met in _sweep(_padded(x, (size, size), stride, "valid"), (size, size), stride)])


def _padded(x: Floats, window: tuple[int, ...], stride: int, pad: Pad) -> Floats:
    got, hint = f"{x.dtype} of shape {x.shape}", "reshape, or convert with astype(np.float32)"
    _expect(x.ndim == 4 and x.dtype.kind == "f", "float images (n, height, width, channels)", got, hint)
    _expect_whole("stride", stride, 1)
    rows, columns = (_padding(x.shape[axis + 1], window[axis], stride, pad) for axis in (0, 1))
    padded = np.pad(x, ((0, 0), rows, columns, (0, 0)))
    fits, hint = min(_places(padded, window, stride)[1:]) > 0, "use a smaller window or more padding"
    _expect(fits, f"a window within the padded image of {padded.shape[1:3]} (height, width)", window, hint)
    return padded


def _padding(size: int, window: int, stride: int, pad: Pad) -> tuple[int, int]:
    """The zeros (before, after) one axis."""
    if pad == "valid":
        return 0, 0
    if pad == "same":
        missing = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
        return missing // 2, missing - missing // 2
    _expect_whole("pad valid, same or", pad, 0)
    return int(pad), int(pad)


def _expect(fits: bool, wanted: str, got: object, hint: str = "") -> None:
    if not fits:
        raise UsageError(f"expected {wanted}, got {got}" + (f"; {hint}" if hint else ""))


def _expect_inside(name: str, place: tuple[int, ...], shape: tuple[int, ...]) -> None:
    _expect(all(0 <= at < size for at, size in zip(place, shape, strict=True)), f"{name} from 0, below {shape}", place)


def _expect_whole(name: str, value: object, least: int) -> None:
    _expect(isinstance(value, int) and value >= least, f"{name} a whole number from {least}", repr(value))


def _expect_shape(name: str, array: Floats, shape: tuple[int, ...], hint: str = "") -> None:
    _expect(array.shape == shape, f"{name} of shape {shape}", array.shape, hint)


def _expect_targets(logits: Floats, targets: Floats) -> None:
    fits = logits.ndim == 2 and logits.shape == targets.shape and len(logits) > 0 and np.allclose(targets.sum(-1), 1)
    wanted = "logits and targets (n, classes), n at least 1, rows of targets that sum to 1"
    _expect(fits, wanted, f"{logits.shape} and {targets.shape}", "make targets with one_hot")
