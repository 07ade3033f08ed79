"""Convolutional neural networks in plain NumPy: every operation, forward and backward.

This is the lesson, the specification of all faster kernels, and the oracle of their tests: written to be read, not to
be fast. A2 to A13 are statements of the article that convscope is based on.

Conventions for all functions:

- Images and feature maps are (n, height, width, channels), kernels (height, width, channels / groups, filters), weights
  of dense layers (inputs, units).
- Arrays are float32 or float64; results have the dtype of the arguments. Arguments are never modified.
- `grad` is the gradient of the loss with respect to a function's output; its `_backward` function returns the gradients
  with respect to the inputs, each with the shape of its input.
- Arguments that do not fit raise UsageError.
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
Index3 = tuple[int, int, int]


class Term(NamedTuple):
    """One product of a convolution. Row and column may be outside the image, where the pixel is 0."""

    row: int
    column: int
    channel: int
    pixel: float
    weight: float
    product: float


def convolve(
    x: Floats, kernel: Floats, bias: Bias = None, stride: int = 1, pad: Pad = "valid", groups: int = 1
) -> Floats:
    """Slide kernels over images; multiply element by element and sum: the feature maps (A2).

    y[n, r, c, f] = bias[f] + sum over i, j, k of x[n, r * stride + i, c * stride + j, k] * kernel[i, j, k, f]

    This is cross-correlation: the kernel is not flipped (Goodfellow et al., "Deep Learning", section 9.1).

    Args:
        x: (n, h, w, c).
        kernel: (kh, kw, c / groups, filters).
        bias: (filters,).
        stride: Step between windows, in both directions.
        pad: "valid" adds no zeros; an int adds that many zeros on all four sides; "same" adds zeros so that
            h' = ceil(h / stride), an odd row or column at the bottom or right (TensorFlow; ONNX SAME_UPPER).
        groups: Number of equal parts of the channels and filters; part g of the filters sees only part g of the
            channels.

    Returns:
        (n, h', w', filters); without padding h' = (h - kh) // stride + 1.

    The example is A3:

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
        maps.append(sum(seen @ weights[cell] for cell, seen in _slide(part, kernel.shape[:2], stride)))
    return np.concatenate(maps, axis=-1) + (0 if bias is None else bias)


def convolve_backward(
    grad: Floats, x: Floats, kernel: Floats, stride: int = 1, pad: Pad = "valid", groups: int = 1
) -> tuple[Floats, Floats, Floats]:
    """Gradient of `convolve`.

    Each output is a sum of pixel * weight: the pixel's gradient gains grad * weight, the weight's gradient gains
    grad * pixel. The bias is added to every cell, so its gradient is the sum over all cells.

    Args:
        grad: (n, h', w', filters).
        x: As in `convolve`.
        kernel: As in `convolve`.
        stride: As in `convolve`.
        pad: As in `convolve`.
        groups: As in `convolve`.

    Returns:
        (dx, dkernel, dbias).

    >>> x, kernel = np.array([[3.0, 4.0]])[None, :, :, None], np.full((1, 1, 1, 1), 2.0)
    >>> dx, dkernel, dbias = convolve_backward(np.array([[1.0, 10.0]])[None, :, :, None], x, kernel)
    >>> dx.ravel(), dkernel.ravel(), dbias
    (array([ 2., 20.]), array([43.]), array([11.]))
    """
    padded, window = _convolution_input(x, kernel, None, stride, pad, groups), kernel.shape[:2]
    _expect_shape("grad", grad, (*_output_shape(padded, window, stride), kernel.shape[3]))
    dpadded, dkernel = np.zeros_like(padded), np.zeros_like(kernel)
    groups_of = (np.split(array, groups, axis=-1) for array in (grad, padded, kernel, dpadded, dkernel))  # views
    for part_grad, part, weights, dpart, dweights in zip(*groups_of, strict=True):
        for (cell, seen), (_, dseen) in zip(_slide(part, window, stride), _slide(dpart, window, stride), strict=True):
            dseen[...] += part_grad @ weights[cell].T
            dweights[cell] = np.einsum("nrck,nrcf->kf", seen, part_grad)
    top, left = (_padding(x.shape[axis + 1], window[axis], stride, pad)[0] for axis in (0, 1))
    return dpadded[:, top : top + x.shape[1], left : left + x.shape[2]], dkernel, grad.sum(axis=(0, 1, 2))


def cell_terms(
    image: Floats, kernel: Floats, cell: Index3, bias: Bias = None, stride: int = 1, pad: Pad = "valid", groups: int = 1
) -> tuple[list[Term], float, float]:
    """The arithmetic of one output value of `convolve` (A2).

    Args:
        image: (h, w, c), one image.
        kernel: As in `convolve`.
        cell: (row, column, filter) of the output.
        bias: As in `convolve`.
        stride: As in `convolve`.
        pad: As in `convolve`.
        groups: As in `convolve`.

    Returns:
        (terms, sum of the terms, bias); the value is sum + bias. The terms are in row, column, channel order. Their
        rows and columns are those of the image without padding, so -1 and h are padding.

    >>> image = np.array([list(row) for row in ("11011", "10101", "11110", "00110", "11000")], float)
    >>> kernel = np.array([list(row) for row in ("101", "010", "110")], float)
    >>> terms, total, bias = cell_terms(image[:, :, None], kernel[:, :, None, None], (0, 0, 0))
    >>> " + ".join(f"{term.pixel:.0f}*{term.weight:.0f}" for term in terms), total, bias
    ('1*1 + 1*0 + 0*1 + 1*0 + 0*1 + 1*0 + 1*1 + 1*1 + 1*0', 3.0, 0.0)
    """
    padded = _convolution_input(image[None], kernel, bias, stride, pad, groups)
    _expect_inside(
        "cell (row, column, filter)", cell, (*_output_shape(padded, kernel.shape[:2], stride)[1:], kernel.shape[3])
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
    """Rectified linear unit (A4): max(0, x). Without it, several layers are no more than one linear layer.

    >>> relu(np.array([-2.0, 0.0, 3.0]))
    array([0., 0., 3.])
    """
    return np.maximum(x, 0)


def relu_backward(grad: Floats, x: Floats) -> Floats:
    """Gradient of `relu`: `grad` where x is positive, else 0, also at 0.

    >>> relu_backward(np.array([5.0, 5.0, 5.0]), np.array([-2.0, 0.0, 3.0]))
    array([0., 0., 5.])
    """
    _expect_shape("grad", grad, x.shape)
    return np.where(x > 0, grad, 0)


POOL_FUNCTIONS: dict[str, Callable[..., Floats]] = {"max": np.max, "min": np.min, "average": np.mean}


def pool(x: Floats, size: int, stride: int | None = None, kind: str = "max", pad: Pad = "valid") -> Floats:
    """Reduce each window of each channel to one number (A5).

    Args:
        x: (n, h, w, c).
        size: Side of the square windows.
        stride: Step between windows, `size` if None; with a smaller one, windows overlap.
        kind: "max", "min" or "average".
        pad: As in `convolve`, but less than `size`; padding is never the result and does not count in an average.

    Returns:
        (n, h', w', c); without padding h' = (h - size) // stride + 1: rows and columns that fill no window are dropped.

    >>> image = np.array([list(row) for row in ("3541", "2256", "4425", "1354")], float)[None, :, :, None]
    >>> for kind in ("max", "min", "average"):
    ...     print(pool(image, 2, kind=kind)[0, :, :, 0].tolist())
    [[5.0, 6.0], [4.0, 5.0]]
    [[2.0, 1.0], [1.0, 2.0]]
    [[3.0, 4.0], [3.0, 4.0]]
    """
    windows = _pool_windows(x, size, stride, kind, pad)
    pooled = POOL_FUNCTIONS[kind](windows, axis=0)
    return pooled / _coverage(x, size, stride, pad) if kind == "average" else pooled


def pool_backward(
    grad: Floats, x: Floats, size: int, stride: int | None = None, kind: str = "max", pad: Pad = "valid"
) -> Floats:
    """Gradient of `pool` with respect to x.

    Max and min pass the gradient of a window to the cell whose value they took; of equal cells to the first in row,
    column order, as PyTorch and TensorFlow do. Average divides it equally. Overlapping windows add up.

    Args:
        grad: (n, h', w', c).
        x: As in `pool`.
        size: As in `pool`.
        stride: As in `pool`.
        kind: As in `pool`.
        pad: As in `pool`.

    >>> pool_backward(np.full((1, 1, 1, 1), 8.0), np.array([[1.0, 7.0], [7.0, 2.0]])[None, :, :, None], 2)[0, :, :, 0]
    array([[0., 8.],
           [0., 0.]])
    """
    windows = _pool_windows(x, size, stride, kind, pad)
    _expect_shape("grad", grad, windows.shape[1:])
    argmax = windows.argmin(axis=0) if kind == "min" else windows.argmax(axis=0)
    equal_share = grad / (size**2 * _coverage(x, size, stride, pad))
    stride = size if stride is None else stride
    dpadded = np.zeros_like(_padded(x, (size, size), stride, pad))
    for position, (_, dseen) in enumerate(_slide(dpadded, (size, size), stride)):
        dseen[...] += equal_share if kind == "average" else np.where(argmax == position, grad, 0)
    top, left = (_padding(x.shape[axis], size, stride, pad)[0] for axis in (1, 2))
    return dpadded[:, top : top + x.shape[1], left : left + x.shape[2]]


def flatten(x: Floats) -> Floats:
    """Reshape feature maps (n, h, w, c) to vectors (n, h * w * c), in row, column, channel order (A7).

    >>> flatten(np.array([[[[1.0, 10.0], [2.0, 20.0]], [[3.0, 30.0], [4.0, 40.0]]]]))  # two maps of 2x2
    array([[ 1., 10.,  2., 20.,  3., 30.,  4., 40.]])
    """
    return x.reshape(len(x), math.prod(x.shape[1:]))


def flatten_backward(grad: Floats, shape: tuple[int, ...]) -> Floats:
    """Gradient of `flatten`: the same numbers, back in their cells.

    Args:
        grad: (n, h * w * c).
        shape: (n, h, w, c).

    >>> flatten_backward(np.array([[1.0, 10.0, 2.0, 20.0]]), (1, 1, 2, 2)).tolist()
    [[[[1.0, 10.0], [2.0, 20.0]]]]
    """
    _expect_shape("grad", grad, (shape[0], math.prod(shape[1:])))
    return grad.reshape(shape)


def flatten_source(index: int, shape: Index3) -> Index3:
    """The cell that an entry of the flattened vector comes from (A7).

    Args:
        index: Position in the vector.
        shape: (h, w, c) of the feature maps.

    Returns:
        (row, column, channel).

    >>> flatten_source(0, (13, 13, 32)), flatten_source(33, (13, 13, 32)), flatten_source(5407, (13, 13, 32))
    ((0, 0, 0), (0, 1, 1), (12, 12, 31))
    """
    _expect_inside("index", (index,), (math.prod(shape),))
    row, column, channel = (int(i) for i in np.unravel_index(index, shape))
    return row, column, channel


def dense(x: Floats, weight: Floats, bias: Bias = None) -> Floats:
    """Fully connected layer (A8): every unit sums its weighted inputs and adds its bias.

    Args:
        x: (n, inputs).
        weight: (inputs, units).
        bias: (units,).

    Returns:
        (n, units).

    >>> dense(np.array([[1.0, 2.0]]), np.array([[10.0, 20.0], [30.0, 40.0]]), np.array([0.5, -0.5]))
    array([[70.5, 99.5]])
    """
    _expect_shape("x", x, (len(x), len(weight)), "flatten feature maps first")
    if bias is None:
        return x @ weight
    _expect_shape("bias", bias, weight.shape[1:])
    return x @ weight + bias


def dense_backward(grad: Floats, x: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Gradient of `dense`.

    Args:
        grad: (n, units).
        x: As in `dense`.
        weight: As in `dense`.

    Returns:
        (dx, dweight, dbias).

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
    powers: Floats = np.exp(logits - logits.max(axis=-1, keepdims=True))  # equal ratios, but exp cannot overflow
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def cross_entropy(logits: Floats, targets: Floats) -> float:
    """Categorical cross-entropy (A13): the mean over n images of -log(probability of the true class), in nats.

    Args:
        logits: (n, classes), *before* softmax: the logarithm of a probability that was rounded to 0 would be infinite.
        targets: (n, classes), rows of `one_hot` or other rows that sum to 1.

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
    """One row per label, with a 1 in the label's column (A11).

    Args:
        labels: (n,), from 0 to classes - 1.
        classes: Number of classes.

    Returns:
        (n, classes).

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
    """Initial weights of a layer before ReLU (A12; He et al. 2015, arXiv:1502.01852).

    Args:
        shape: (inputs, units) or (kh, kw, channels, filters).
        rng: Source of the random numbers.

    Returns:
        Weights uniform in +-sqrt(6 / fan_in); fan_in is inputs, or kh * kw * channels.
    """
    limit = math.sqrt(6 / math.prod(shape[:-1]))
    return rng.uniform(-limit, limit, shape)


def glorot_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Initial weights, Keras's default (A12; Glorot and Bengio 2010).

    Args:
        shape: (inputs, units) or (kh, kw, channels, filters).
        rng: Source of the random numbers.

    Returns:
        Weights uniform in +-sqrt(6 / (fan_in + fan_out)); fan_in as in `he_uniform`, fan_out is units, or
        kh * kw * filters.
    """
    limit = math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
    return rng.uniform(-limit, limit, shape)


def sgd_momentum(
    weight: Floats, velocity: Floats, gradient: Floats, learning_rate: float = 0.01, momentum: float = 0.9
) -> tuple[Floats, Floats]:
    """One step of gradient descent with momentum (A13), by Keras's rule.

    v = momentum * v - learning_rate * gradient, then w = w + v; the first v is 0.
    PyTorch keeps b = momentum * b + gradient and steps w = w - learning_rate * b. At a constant learning rate both are
    equal, v = -learning_rate * b. When the rate changes, PyTorch also applies the new rate to the old gradients in b,
    Keras does not; multiplying b by old rate / new rate at the change makes PyTorch follow Keras.

    Args:
        weight: Any shape.
        velocity: The shape of `weight`.
        gradient: The shape of `weight`.
        learning_rate: Factor of the gradient.
        momentum: Factor of the old velocity.

    Returns:
        The new (weight, velocity).

    >>> weight, velocity = sgd_momentum(np.array([1.0]), np.array([0.0]), np.array([10.0]))
    >>> weight, velocity, *sgd_momentum(weight, velocity, np.array([10.0]))
    (array([0.9]), array([-0.1]), array([0.71]), array([-0.19]))
    """
    _expect_shape("velocity", velocity, weight.shape)
    _expect_shape("gradient", gradient, weight.shape)
    velocity = momentum * velocity - learning_rate * gradient
    return weight + velocity, velocity


def _output_shape(padded: Floats, window: tuple[int, ...], stride: int) -> Index3:
    """(n, h', w')."""
    return len(padded), (padded.shape[1] - window[0]) // stride + 1, (padded.shape[2] - window[1]) // stride + 1


def _slide(padded: Floats, window: tuple[int, ...], stride: int) -> Iterator[tuple[tuple[int, ...], Floats]]:
    """For each cell (i, j) of the window, a view (n, h', w', c) of all values at that cell as the window slides."""
    _, height, width, _ = padded.shape
    for i, j in np.ndindex(window):
        yield (i, j), padded[:, i : height - window[0] + i + 1 : stride, j : width - window[1] + j + 1 : stride]


def _convolution_input(x: Floats, kernel: Floats, bias: Bias, stride: int, pad: Pad, groups: int) -> Floats:
    """x with padding, after all checks."""
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


def _pool_windows(x: Floats, size: int, stride: int | None, kind: str, pad: Pad) -> Floats:
    """(size * size, n, h', w', c): the cells of every window, in row, column order, along the first axis."""
    _expect_whole("size", size, 1)
    _expect(kind in POOL_FUNCTIONS, f"kind {', '.join(POOL_FUNCTIONS)}", repr(kind))
    _expect(not isinstance(pad, int) or pad < size, f"pad less than the window's size {size}", pad)
    stride = size if stride is None else stride
    padded = _padded(x, (size, size), stride, pad, {"max": -math.inf, "min": math.inf, "average": 0}[kind])
    return np.stack([seen for _, seen in _slide(padded, (size, size), stride)])


def _coverage(x: Floats, size: int, stride: int | None, pad: Pad) -> Floats:
    """(1, h', w', 1): the fraction of each window that is not padding."""
    coverage: Floats = _pool_windows(np.ones_like(x[:1, :, :, :1]), size, stride, "average", pad).mean(axis=0)
    return coverage


def _padded(x: Floats, window: tuple[int, ...], stride: int, pad: Pad, value: float = 0) -> Floats:
    got, hint = f"{x.dtype} of shape {x.shape}", "reshape, or convert with astype(np.float32)"
    _expect(x.ndim == 4 and x.dtype.kind == "f", "float images (n, height, width, channels)", got, hint)
    _expect_whole("stride", stride, 1)
    rows, columns = (_padding(x.shape[axis + 1], window[axis], stride, pad) for axis in (0, 1))
    padded = np.pad(x, ((0, 0), rows, columns, (0, 0)), constant_values=value)
    fits, hint = min(_output_shape(padded, window, stride)[1:]) > 0, "use a smaller window or more padding"
    _expect(fits, f"a window within the padded image of {padded.shape[1:3]} (height, width)", window, hint)
    return padded


def _padding(size: int, window: int, stride: int, pad: Pad) -> tuple[int, int]:
    """Zeros (before, after) along one axis."""
    if pad == "valid":
        return 0, 0
    if pad == "same":
        missing = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
        return missing // 2, missing - missing // 2
    _expect_whole("pad valid, same or", pad, 0)
    return int(pad), int(pad)


def _expect(fits: bool, expected: str, got: object, hint: str = "") -> None:
    if not fits:
        raise UsageError(f"expected {expected}, got {got}" + (f"; {hint}" if hint else ""))


def _expect_inside(name: str, index: tuple[int, ...], shape: tuple[int, ...]) -> None:
    fits = all(0 <= i < size for i, size in zip(index, shape, strict=True))
    _expect(fits, f"{name} from 0, below {shape}", index)


def _expect_whole(name: str, value: object, minimum: int) -> None:
    _expect(isinstance(value, int) and value >= minimum, f"{name} a whole number from {minimum}", repr(value))


def _expect_shape(name: str, array: Floats, shape: tuple[int, ...], hint: str = "") -> None:
    _expect(array.shape == shape, f"{name} of shape {shape}", array.shape, hint)


def _expect_targets(logits: Floats, targets: Floats) -> None:
    fits = logits.ndim == 2 and logits.shape == targets.shape and len(logits) > 0 and np.allclose(targets.sum(-1), 1)
    expected = "logits and targets (n, classes), n at least 1, rows of targets that sum to 1"
    _expect(fits, expected, f"{logits.shape} and {targets.shape}", "make targets with one_hot")
