"""Classic kernels and pooling on any picture: one layer of a network without the network (article, A2, A5, A16).

Pixels are uint8 (h, w, c), and every channel is worked on by itself. The window stays inside the picture ("valid"), so
the result is smaller. Lay transparency over white first (`preprocess.over_white`): an edge in the alpha channel is none
in the picture.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope.errors import UsageError

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]


@dataclass(frozen=True)
class Kernel:
    """A named kernel: `rows` of integers, all divided by `divisor`; `about` says what it is and where it comes from."""

    rows: tuple[tuple[int, ...], ...]
    divisor: int
    about: str

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The weights, (kernel height, kernel width)."""
        return np.array(self.rows) / self.divisor


KERNELS: dict[str, Kernel] = {
    "edge": Kernel(
        ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),
        1,
        "edges in every direction: the negative Laplacian with diagonals (Gonzalez, Woods, Digital Image Processing)",
    ),
    "blur": Kernel(
        ((1, 2, 1), (2, 4, 2), (1, 2, 1)),
        16,
        "a weighted mean: the binomial kernel, the smallest that resembles a Gaussian (Burt, Adelson 1983)",
    ),
    "sharpen": Kernel(
        ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
        1,
        "the picture minus its Laplacian (Gonzalez, Woods, Digital Image Processing)",
    ),
    "emboss": Kernel(
        ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),
        1,
        "the picture plus its slope along the diagonal: a relief lit from the top left",
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

POOLS: dict[str, Callable[..., NDArray[Any]]] = {"max": np.max, "min": np.min, "average": np.mean}

_BAND = 2**20  # values worked on at a time: bounds the memory beside the result


def named_or_written_kernel(text: str) -> NDArray[np.float64]:
    """The weights of a kernel in KERNELS, or of a matrix as `parse_matrix` reads it: float64 (kernel height, width).

    Raises UsageError for a name that is not in KERNELS and for a matrix that cannot be read.

    >>> named_or_written_kernel("sobel-x")[1]
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
    """A matrix as a person writes it: float64 (rows, columns).

    Rows end with `/`, `;` or a new line; numbers are separated by spaces or commas. A row of digits alone is read digit
    by digit, the article's notation. Raises UsageError for rows of different lengths, for what is not a finite number,
    and for an empty text.

    >>> parse_matrix("1 0 1 / 0 1 0 / 1 1 0").tolist() == parse_matrix("101/010/110").tolist()
    True
    >>> parse_matrix("0.5, -1")
    array([[ 0.5, -1. ]])
    """
    rows = [_parse_row(row) for row in re.split(r"[/;\n]", text) if row.strip()]
    if not rows:
        raise UsageError(f"an empty matrix '{text.strip()}': expected rows of numbers such as '1 0 1 / 0 1 0 / 1 1 0'")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise UsageError(
                f"row {number} of the matrix has {len(row)} numbers where row 1 has {len(rows[0])}: give all rows alike"
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
    return value


def convolve_picture(pixels: Pixels, kernel: NDArray[np.float64], stride: int = 1) -> Values:
    """Slide the kernel over each channel, multiply and sum (cross-correlation: it is not flipped; article, A2 and A3).

    pixels: uint8 (h, w, c). kernel: (kh, kw). Result: float32 (h', w', c), h' = (h - kh) // stride + 1; summed in
    float64, so exact for integer weights while sums stay below 2^24.
    Raises UsageError for a kernel larger than the picture and for a stride below 1.

    >>> image = parse_matrix("11011 / 10101 / 11110 / 00110 / 11000").astype(np.uint8)
    >>> convolve_picture(image[..., None], parse_matrix("101 / 010 / 110"))[..., 0]
    array([[3., 5., 3.],
           [3., 2., 5.],
           [4., 4., 2.]], dtype=float32)
    """
    (height, width, channels), (rows, columns) = pixels.shape, kernel.shape
    _check_window("kernel", (rows, columns), pixels)
    if stride < 1:
        raise UsageError(f"the stride is {stride}: expected 1 or more")
    out = np.empty(((height - rows) // stride + 1, (width - columns) // stride + 1, channels), np.float32)
    for band in _bands(out):
        top = band.start * stride
        sums = np.zeros_like(out[band], np.float64)
        for i, j in zip(*np.nonzero(kernel), strict=True):
            met = pixels[top + i :: stride, j::stride]
            sums += kernel[i, j] * met[: sums.shape[0], : sums.shape[1]]
        out[band] = sums
    return out


def pool_picture(pixels: Pixels, kind: str, size: int) -> Values:
    """One value per block of size x size pixels in each channel: float32 (h // size, w // size, c) (article, A5).

    pixels: uint8 (h, w, c). kind: "max", "min" or "average". Rows and columns that fill no block are left out.
    Raises UsageError for another kind, a size below 1 and blocks larger than the picture.

    >>> image = parse_matrix("3541 / 2256 / 4425 / 1354").astype(np.uint8)[..., None]
    >>> [pool_picture(image, kind, 2)[..., 0].tolist() for kind in POOLS]
    [[[5.0, 6.0], [4.0, 5.0]], [[2.0, 1.0], [1.0, 2.0]], [[3.0, 4.0], [3.0, 4.0]]]
    """
    if kind not in POOLS:
        raise UsageError(f"unknown pooling '{kind}': expected {', '.join(POOLS)}")
    if size < 1:
        raise UsageError(f"the pooling size is {size}: expected 1 or more")
    _check_window("pooling block", (size, size), pixels)
    rows, columns, channels = pixels.shape[0] // size, pixels.shape[1] // size, pixels.shape[2]
    blocks = pixels[: rows * size, : columns * size].reshape(rows, size, columns, size, channels)
    return POOLS[kind](blocks, axis=(1, 3)).astype(np.float32)


def as_picture(values: NDArray[np.floating[Any]], *, magnitude: bool = False) -> Pixels:
    """Results as pixels: rounded (halves up), below 0 is black and above 255 white; uint8, of the same shape.

    magnitude: show the absolute value. `finds_edges` says for which kernels that is wanted.

    >>> as_picture(np.array([-300.0, -20.0, 99.5])), as_picture(np.array([-300.0, -20.0, 99.5]), magnitude=True)
    (array([  0,   0, 100], dtype=uint8), array([255,  20, 100], dtype=uint8))
    """
    out = np.empty(values.shape, np.uint8)
    for band in _bands(out):
        part = abs(values[band]) if magnitude else values[band]
        out[band] = np.floor(np.clip(part, 0, 255) + 0.5)
    return out


def finds_edges(kernel: NDArray[np.float64]) -> bool:
    """Whether the weights sum to 0, so that flat areas give 0 and an edge gives a value of either sign.

    Its sign only tells on which side the light is, so such a result is shown by its magnitude: clipping at 0 would lose
    half the edges.

    >>> [name for name, kernel in KERNELS.items() if finds_edges(kernel.matrix)]
    ['edge', 'sobel-x', 'sobel-y']
    """
    return bool(kernel.any()) and math.isclose(math.fsum(kernel.flat), 0, abs_tol=1e-9)


def _check_window(what: str, window: tuple[int, int], pixels: Pixels) -> None:
    height, width = pixels.shape[:2]
    if window[0] > height or window[1] > width:
        raise UsageError(
            f"the {what} is {window[1]}x{window[0]}, larger than the picture, which is {width}x{height}: "
            f"choose a smaller {what} or a larger picture"
        )


def _bands(out: NDArray[np.generic]) -> Iterator[slice]:
    count = max(1, _BAND // max(1, out[0].size))
    for start in range(0, len(out), count):
        yield slice(start, start + count)
