"""Classic kernels and pooling on any image: one layer of a network without the network (article, A2, A5, A16).

Pixels are uint8 (h, w, c), and each channel is filtered on its own. The window stays inside the image ("valid"), so the
result is smaller. Composite transparency over white first (`color.over_white`): an edge of the alpha channel is not an
edge of the image.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope.errors import UsageError
from convscope.reference import POOL_FUNCTIONS

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]


@dataclass(frozen=True)
class Kernel:
    """A named kernel: `rows` of integers, all divided by `divisor`; `description` says what it finds and its source."""

    rows: tuple[tuple[int, ...], ...]
    divisor: int
    description: str

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The weights, (kernel height, kernel width)."""
        return np.array(self.rows) / self.divisor


MAX_WEIGHT = 1e9  # far above any use, and products and sums of pixels stay exact enough to be compared with 0

KERNELS: dict[str, Kernel] = {
    "edge": Kernel(
        ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),
        1,
        "edges in every direction: the negative Laplacian with diagonals (Gonzalez, Woods, Digital Image Processing)",
    ),
    "blur": Kernel(
        ((1, 2, 1), (2, 4, 2), (1, 2, 1)),
        16,
        "a weighted mean: the binomial kernel, the smallest approximation of a Gaussian (Burt, Adelson 1983)",
    ),
    "sharpen": Kernel(
        ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
        1,
        "the image minus its Laplacian (Gonzalez, Woods, Digital Image Processing)",
    ),
    "emboss": Kernel(
        ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),
        1,
        "the image plus its slope along the diagonal: a relief lit from the top left",
    ),
    "sobel-x": Kernel(
        ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
        1,
        "the slope from left to right: finds vertical edges (Sobel, Feldman 1968)",
    ),
    "sobel-y": Kernel(
        ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
        1,
        "the slope from top to bottom: finds horizontal edges (Sobel, Feldman 1968)",
    ),
}

BAND_VALUES = 2**20  # values per step, which bounds the temporary arrays


def parse_kernel(text: str) -> NDArray[np.float64]:
    """The weights of a kernel in KERNELS, or of a matrix as `parse_matrix` reads it: float64 (kernel height, width).

    Raises UsageError for a name that is not in KERNELS and for a matrix that cannot be read.

    >>> parse_kernel("sobel-x")[1]
    array([-2.,  0.,  2.])
    """
    name = text.strip().lower()
    if name in KERNELS:
        return KERNELS[name].matrix
    if re.fullmatch(r"[a-z][\w-]*", name):
        raise UsageError(
            f"unknown kernel '{name}': expected {', '.join(KERNELS)}, or a matrix such as '0 1 0 / 1 -4 1 / 0 1 0'"
        )
    return parse_matrix(text)


def parse_matrix(text: str) -> NDArray[np.float64]:
    """Read a matrix as a person writes it: float64 (rows, columns).

    Rows end with `/`, `;` or a new line; numbers are separated by spaces or commas. A row of digits alone is read digit
    by digit, which is the article's notation. Raises UsageError for rows of different lengths, for anything that is not
    a finite number or too large, and for an empty text.

    >>> parse_matrix("1 0 1 / 0 1 0 / 1 1 0").tolist() == parse_matrix("101/010/110").tolist()
    True
    >>> parse_matrix("0.5, -1")
    array([[ 0.5, -1. ]])
    """
    rows = [_parse_row(row) for row in re.split(r"[/;\n]", text) if row.strip()]
    if not rows:
        raise UsageError(f"empty matrix '{text.strip()}': expected rows of numbers such as '1 0 1 / 0 1 0 / 1 1 0'")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise UsageError(
                f"row {number} of the matrix has {len(row)} numbers, row 1 has {len(rows[0])}: "
                "expected rows of equal length"
            )
    return np.array(rows)


def _parse_row(row: str) -> list[float]:
    words = list(row.strip()) if re.fullmatch(r"[0-9]+", row.strip()) else row.replace(",", " ").split()
    return [_parse_number(word, row) for word in words]


def _parse_number(word: str, row: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"'{word}' in the matrix row '{row.strip()}' is not a number: write it like 1, -1 or 0.5")
    if abs(value) > MAX_WEIGHT:
        raise UsageError(
            f"'{word}' in the matrix row '{row.strip()}' is too large: expected numbers from -{MAX_WEIGHT:g} to "
            f"{MAX_WEIGHT:g}"
        )
    return value


def convolve_image(pixels: Pixels, kernel: NDArray[np.float64], stride: int = 1) -> Values:
    """Slide the kernel over each channel, multiply and sum (cross-correlation: it is not flipped; article, A2 and A3).

    Args:
        pixels: uint8 (h, w, c).
        kernel: float64 (kh, kw).
        stride: step of the kernel in pixels, 1 or more.

    Returns:
        float32 (h', w', c) with h' = (h - kh) // stride + 1. Sums are float64, and therefore exact for integer weights
        as long as they stay below 2^24.

    Raises:
        UsageError: the kernel is larger than the image, or the stride is below 1.

    >>> image = parse_matrix("11011 / 10101 / 11110 / 00110 / 11000").astype(np.uint8)
    >>> convolve_image(image[..., None], parse_matrix("101 / 010 / 110"))[..., 0]
    array([[3., 5., 3.],
           [3., 2., 5.],
           [4., 4., 2.]], dtype=float32)
    """
    (height, width, channels), (rows, columns) = pixels.shape, kernel.shape
    _check_window("kernel", (rows, columns), pixels)
    if stride < 1:
        raise UsageError(f"stride {stride}: expected 1 or more")
    out = np.empty(((height - rows) // stride + 1, (width - columns) // stride + 1, channels), np.float32)
    for band in _bands(out):
        top = band.start * stride
        sums = np.zeros_like(out[band], np.float64)
        for i, j in zip(*np.nonzero(kernel), strict=True):
            covered = pixels[top + i :: stride, j::stride]
            sums += kernel[i, j] * covered[: sums.shape[0], : sums.shape[1]]
        out[band] = sums
    return out


def pool_image(pixels: Pixels, kind: str, size: int) -> Values:
    """Reduce each block of size x size pixels in each channel to one value (article, A5).

    Args:
        pixels: uint8 (h, w, c).
        kind: "max", "min" or "average".
        size: side of a block in pixels, 1 or more.

    Returns:
        float32 (h // size, w // size, c). Rows and columns that do not fill a block are dropped.

    Raises:
        UsageError: another kind, a size below 1, or blocks larger than the image.

    >>> image = parse_matrix("3541 / 2256 / 4425 / 1354").astype(np.uint8)[..., None]
    >>> [pool_image(image, kind, 2)[..., 0].tolist() for kind in POOL_FUNCTIONS]
    [[[5.0, 6.0], [4.0, 5.0]], [[2.0, 1.0], [1.0, 2.0]], [[3.0, 4.0], [3.0, 4.0]]]
    """
    if kind not in POOL_FUNCTIONS:
        raise UsageError(f"unknown pooling '{kind}': expected {', '.join(POOL_FUNCTIONS)}")
    if size < 1:
        raise UsageError(f"pooling size {size}: expected 1 or more")
    _check_window("pooling block", (size, size), pixels)
    rows, columns, channels = pixels.shape[0] // size, pixels.shape[1] // size, pixels.shape[2]
    blocks = pixels[: rows * size, : columns * size].reshape(rows, size, columns, size, channels)
    return POOL_FUNCTIONS[kind](blocks, axis=(1, 3)).astype(np.float32)


def to_pixels(values: NDArray[np.floating[Any]], *, magnitude: bool = False) -> Pixels:
    """Convert a feature map to pixels: uint8 of the same shape, rounded half up and clipped to 0..255.

    Args:
        values: float, of any shape.
        magnitude: take absolute values first; see `is_edge_kernel`.

    >>> to_pixels(np.array([-300.0, -20.0, 99.5])), to_pixels(np.array([-300.0, -20.0, 99.5]), magnitude=True)
    (array([  0,   0, 100], dtype=uint8), array([255,  20, 100], dtype=uint8))
    """
    out = np.empty(values.shape, np.uint8)
    for band in _bands(out):
        part = abs(values[band]) if magnitude else values[band]
        out[band] = np.floor(np.clip(part, 0, 255) + 0.5)
    return out


def is_edge_kernel(kernel: NDArray[np.float64]) -> bool:
    """Whether the weights sum to 0: flat areas give 0, and an edge gives a value of either sign.

    The sign only tells which side is brighter, so the result is best shown by its magnitude; clipping at 0 would lose
    half of the edges.

    >>> [name for name, kernel in KERNELS.items() if is_edge_kernel(kernel.matrix)]
    ['edge', 'sobel-x', 'sobel-y']
    """
    return bool(kernel.any()) and math.isclose(math.fsum(kernel.flat), 0, abs_tol=1e-9)


def _check_window(name: str, window: tuple[int, int], pixels: Pixels) -> None:
    """Raise UsageError if a window (height, width) is larger than the image."""
    height, width = pixels.shape[:2]
    if window[0] > height or window[1] > width:
        raise UsageError(
            f"the {name} is {window[1]}x{window[0]}, larger than the image, which is {width}x{height}: "
            f"choose a smaller {name} or a larger image"
        )


def _bands(out: NDArray[np.generic]) -> Iterator[slice]:
    """Slices of rows with about BAND_VALUES values each."""
    count = max(1, BAND_VALUES // max(1, out[0].size))
    for start in range(0, len(out), count):
        yield slice(start, start + count)
