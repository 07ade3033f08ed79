"""The feature detector on anything: a kernel or a pooling window over a picture, or over numbers written by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convscope import reference
from convscope._files import write_atomically
from convscope.errors import UsageError
from convscope.images.filters import (
    as_picture,
    convolve_picture,
    finds_edges,
    named_or_written_kernel,
    parse_matrix,
    pool_picture,
)
from convscope.images.preprocessing import over_white
from convscope.images.read import encode_png, read_image

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class FilterResult:
    """A feature map: float (h, w, channels), the notes on its making, and the file it was written to, if any."""

    values: Floats
    notes: tuple[str, ...]
    arithmetic: tuple[str, ...]
    written: Path | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; the numbers themselves only where no picture was written, (h, w) if there is one channel."""
        numbers = self.values[:, :, 0] if self.values.shape[2] == 1 else self.values
        return {
            "shape": list(self.values.shape),
            "notes": list(self.notes),
            "arithmetic": list(self.arithmetic),
            "written": str(self.written) if self.written else None,
            "values": None if self.written else numbers.tolist(),
        }


def detect(
    image: str,
    kernel: str | None = None,
    pool: tuple[str, int] | None = None,
    stride: int | None = None,
    cell: str | None = None,
    out: Path | None = None,
    max_megapixels: float = 25.0,
) -> FilterResult:
    """Slide `kernel` over `image`, or pool it; a file gives a picture file, written numbers give numbers.

    `kernel` is a name or rows of numbers, `pool` a kind and a size, `cell` "ROW,COLUMN". Raises UsageError or DataError
    for what cannot be read or does not fit.

    >>> detect("11011/10101/11110/00110/11000", "101/010/110", cell="0,0").values[:, :, 0].tolist()
    [[3.0, 5.0, 3.0], [3.0, 2.0, 5.0], [4.0, 4.0, 2.0]]
    >>> detect("3541/2256/4425/1354", pool=("min", 2)).values[:, :, 0].tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """
    if (kernel is None) == (pool is None):
        raise UsageError("expected either --kernel or --pool: for example --kernel edge, or --pool max 2")
    if pool is not None and stride is not None:
        raise UsageError("--stride goes with --kernel: a pooling window moves by its own size")
    stride = 1 if stride is None else stride
    if _is_written(image):
        if out is not None:
            raise UsageError("--out goes with a picture: of numbers the result is printed")
        return _detect_in_numbers(parse_matrix(image)[:, :, None], kernel, pool, stride, cell)
    picture = read_image(image, max_megapixels=max_megapixels)
    pixels = over_white(picture.pixels) if picture.pixels.shape[2] == 4 else picture.pixels
    values, arithmetic, magnitude = _apply(pixels, kernel, pool, stride, cell)
    path = out or Path(f"{Path(image).stem}-{_name(kernel, pool)}.png")
    if path.exists() and path.samefile(image):
        raise UsageError(f"--out {path} is the picture itself, which would be lost: choose another file")
    write_atomically(path, encode_png(as_picture(values, magnitude=magnitude)))
    shown = ("shown as absolute values, because an edge is dark to light or light to dark",) if magnitude else ()
    sizes = f"{pixels.shape[1]}x{pixels.shape[0]} -> {values.shape[1]}x{values.shape[0]}"
    return FilterResult(values, (*picture.notes, sizes, *shown), arithmetic, path)


def _is_written(image: str) -> bool:
    if not re.fullmatch(r"[\d\s.,;/+-]*\d[\d\s.,;/+-]*", image):
        return False
    try:
        return not Path(image).exists()
    except OSError:  # too long for the name of a file
        return True


def _apply(
    pixels: NDArray[np.uint8], kernel: str | None, pool: tuple[str, int] | None, stride: int, cell: str | None
) -> tuple[Floats, tuple[str, ...], bool]:
    if pool is not None:
        values = pool_picture(pixels, *pool)
        return values, _pool_lines(pixels, values, *pool, cell), False
    weights = named_or_written_kernel(str(kernel))
    values = convolve_picture(pixels, weights, stride)
    return values, _kernel_lines(pixels, weights, values, stride, cell), finds_edges(weights)


def _detect_in_numbers(
    numbers: NDArray[np.float64], kernel: str | None, pool: tuple[str, int] | None, stride: int, cell: str | None
) -> FilterResult:
    if pool is not None:
        values = reference.pool(numbers[None], pool[1], None, pool[0])[0]
        lines = _pool_lines(numbers, values, *pool, cell)
    else:
        weights = named_or_written_kernel(str(kernel))
        values = reference.convolve(numbers[None], weights[:, :, None, None], None, stride)[0]
        lines = _kernel_lines(numbers, weights, values, stride, cell)
    return FilterResult(values, (), lines, None)


def _kernel_lines(
    pixels: NDArray[Any], weights: NDArray[np.float64], values: Floats, stride: int, cell: str | None
) -> tuple[str, ...]:
    if cell is None:
        return ()
    row, column = _place(cell, values.shape)
    lines = []
    for channel in range(pixels.shape[2]):
        one = pixels[:, :, channel : channel + 1].astype(np.float64)
        terms, total, _ = reference.cell_terms(one, weights[:, :, None, None], (row, column, 0), stride=stride)
        products = " + ".join(f"{term.pixel:g}*{term.weight:g}" for term in terms)
        lines.append(f"{_where(row, column, channel, pixels)} = {products} = {total:g}")
    return tuple(lines)


def _pool_lines(pixels: NDArray[Any], values: Floats, kind: str, size: int, cell: str | None) -> tuple[str, ...]:
    if cell is None:
        return ()
    row, column = _place(cell, values.shape)
    window = pixels[row * size : (row + 1) * size, column * size : (column + 1) * size]
    lines = []
    for channel in range(pixels.shape[2]):
        met = ", ".join(f"{value:g}" for value in window[:, :, channel].flat)
        lines.append(f"{_where(row, column, channel, pixels)} = {kind}({met}) = {values[row, column, channel]:g}")
    return tuple(lines)


def _place(cell: str, shape: Sequence[int]) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", cell)
    if not match or int(match[1]) >= shape[0] or int(match[2]) >= shape[1]:
        raise UsageError(f"--cell {cell!r}: expected ROW,COLUMN within {shape[0]} rows and {shape[1]} columns, from 0")
    return int(match[1]), int(match[2])


def _where(row: int, column: int, channel: int, pixels: NDArray[Any]) -> str:
    return f"[{row},{column}]" if pixels.shape[2] == 1 else f"[{row},{column},{channel}]"


def _name(kernel: str | None, pool: tuple[str, int] | None) -> str:
    if pool is not None:
        return f"{pool[0]}pool-{pool[1]}"
    return str(kernel) if re.fullmatch(r"[\w-]+", str(kernel)) else "kernel"
