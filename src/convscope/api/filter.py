"""The article's feature detector: a kernel or a pooling window over an image, or over numbers written by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, WithJsonSchema, computed_field, field_serializer

from convscope import reference
from convscope._files import write_results
from convscope._records import Record
from convscope.errors import UsageError
from convscope.images.color import over_white
from convscope.images.files.source import STANDARD_INPUT, source_stem
from convscope.images.filters import convolve_image, is_edge_kernel, parse_kernel, parse_matrix, pool_image, to_pixels
from convscope.images.read import encode_png, read_image

Floats = NDArray[np.floating[Any]]

_ROWS_SCHEMA = {
    "anyOf": [{"type": "array", "items": {"type": "array"}}, {"type": "null"}],
    "description": "(h, w) for one channel, else (h, w, channels); null if an image was written",
}


class FilterOptions(Record):
    """What `filter_image` computes, either with a kernel or with a pooling window, and where the result goes."""

    kernel: str | None = Field(
        default=None, description="edge, blur, sharpen, emboss, sobel-x, sobel-y or rows of numbers."
    )
    pool: tuple[str, int] | None = Field(
        default=None,
        description="max, min or average, and the window's side.",
        json_schema_extra={"metavar": "KIND SIZE"},
    )
    stride: int | None = Field(default=None, ge=1, description="Step of the kernel in pixels; 1 by default.")
    cell: str | None = Field(
        default=None, description="Print this cell's arithmetic.", json_schema_extra={"metavar": "ROW,COLUMN"}
    )
    out: Path | None = Field(default=None, description="The image file to write; by default IMAGE-KERNEL.png.")
    force: bool = Field(default=False, description="Overwrite the file if it exists and has another content.")
    max_megapixels: float = Field(default=25.0, ge=0.001, description="Reject larger images, in millions of pixels.")


class FilterResult(Record):
    """A feature map.

    Attributes:
        values: float (h, w, channels).
        notes: how the image was read and shown.
        arithmetic: one line per channel for the cell that was asked for.
        written: the image file, None for numbers.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    values: Annotated[Floats, WithJsonSchema(_ROWS_SCHEMA)]
    notes: tuple[str, ...] = ()
    arithmetic: tuple[str, ...] = ()
    written: Path | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the feature map."""
        height, width, channels = self.values.shape
        return height, width, channels

    @field_serializer("values")
    def _rows(self, values: Floats) -> Any:
        if self.written:
            return None
        return (values[:, :, 0] if values.shape[2] == 1 else values).tolist()


def filter_image(image: str | Path, options: FilterOptions) -> FilterResult:
    """Slide a kernel over an image, or pool it. An image file gives a PNG file, written numbers give numbers.

    Args:
        image: a path, "-" for standard input, or rows of numbers such as "11011/10101/11110".
        options: the kernel or the pooling window, and the rest.

    Raises:
        UsageError: options that contradict each other or do not fit the image; the result would overwrite another file.
        DataError: an image that cannot be read.

    >>> options = FilterOptions(kernel="101/010/110", cell="0,0")
    >>> filter_image("11011/10101/11110/00110/11000", options).values[:, :, 0].tolist()
    [[3.0, 5.0, 3.0], [3.0, 2.0, 5.0], [4.0, 4.0, 2.0]]
    >>> filter_image("3541/2256/4425/1354", FilterOptions(pool=("min", 2))).values[:, :, 0].tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """
    _check_options(options)
    if not _is_matrix(str(image)):
        return _filter_file(image, options)
    if options.out is not None:
        raise UsageError("--out goes with an image file: the result of filtering numbers is printed")
    numbers = parse_matrix(str(image))[:, :, None]
    values = _filter_numbers(numbers, options)
    return FilterResult(values=values, arithmetic=_arithmetic(numbers, values, options))


def _check_options(options: FilterOptions) -> None:
    if (options.kernel is None) == (options.pool is None):
        raise UsageError("expected either --kernel or --pool: for example --kernel edge, or --pool max 2")
    if options.pool is not None and options.stride is not None:
        raise UsageError("--stride goes with --kernel: the stride of a pooling window is its size")


def _is_matrix(image: str) -> bool:
    """Whether the text is rows of numbers, and no file has this name."""
    if not re.fullmatch(r"[\d\s.,;/+-]*\d[\d\s.,;/+-]*", image):
        return False
    try:
        return not Path(image).exists()
    except OSError:  # too long for a file name
        return True


def _filter_file(source: str | Path, options: FilterOptions) -> FilterResult:
    image = read_image(source, max_megapixels=options.max_megapixels)
    pixels = over_white(image.pixels) if image.pixels.shape[2] == 4 else image.pixels
    values, magnitude = _filter_pixels(pixels, options)
    arithmetic = _arithmetic(pixels, values, options)
    out = options.out or Path(f"{source_stem(source)}-{_suffix(options)}.png")
    if out.exists() and source != STANDARD_INPUT and out.samefile(source):
        raise UsageError(f"--out {out} is the input image and would overwrite it: choose another file")
    write_results({out: encode_png(to_pixels(values, magnitude=magnitude))}, options.force)
    notes = [*image.notes, f"{pixels.shape[1]}x{pixels.shape[0]} -> {values.shape[1]}x{values.shape[0]}"]
    if magnitude:
        notes.append("shown as absolute values, because an edge is dark to light or light to dark")
    return FilterResult(values=values, notes=tuple(notes), arithmetic=arithmetic, written=out)


def _filter_pixels(pixels: NDArray[np.uint8], options: FilterOptions) -> tuple[Floats, bool]:
    """The feature map, and whether to show it as absolute values."""
    if options.pool is not None:
        return pool_image(pixels, *options.pool), False
    kernel = parse_kernel(options.kernel or "")
    return convolve_image(pixels, kernel, options.stride or 1), is_edge_kernel(kernel)


def _filter_numbers(numbers: NDArray[np.float64], options: FilterOptions) -> Floats:
    if options.pool is not None:
        kind, size = options.pool
        pooled: Floats = reference.pool(numbers[None], size, None, kind)[0]
        return pooled
    kernel = parse_kernel(options.kernel or "")
    convolved: Floats = reference.convolve(numbers[None], kernel[:, :, None, None], None, options.stride or 1)[0]
    return convolved


def _arithmetic(pixels: NDArray[Any], values: Floats, options: FilterOptions) -> tuple[str, ...]:
    """One line per channel that spells out how the cell was computed; empty if no cell was asked for."""
    if options.cell is None:
        return ()
    row, column = _parse_cell(options.cell, values.shape[0], values.shape[1])
    channels = pixels.shape[2]
    places = [f"[{row},{column}]" if channels == 1 else f"[{row},{column},{k}]" for k in range(channels)]
    terms = _pool_terms if options.pool is not None else _kernel_terms
    sums = zip(places, terms(pixels, row, column, options), values[row, column], strict=True)
    return tuple(f"{place} = {text} = {value:g}" for place, text, value in sums)


def _kernel_terms(pixels: NDArray[Any], row: int, column: int, options: FilterOptions) -> Iterator[str]:
    kernel = parse_kernel(options.kernel or "")
    for channel in range(pixels.shape[2]):
        plane = pixels[:, :, channel : channel + 1].astype(np.float64)
        terms, _, _ = reference.cell_terms(
            plane, kernel[:, :, None, None], (row, column, 0), stride=options.stride or 1
        )
        yield " + ".join(f"{term.pixel:g}*{term.weight:g}" for term in terms)


def _pool_terms(pixels: NDArray[Any], row: int, column: int, options: FilterOptions) -> Iterator[str]:
    assert options.pool is not None
    kind, size = options.pool
    window = pixels[row * size : (row + 1) * size, column * size : (column + 1) * size]
    for channel in range(pixels.shape[2]):
        yield f"{kind}({', '.join(f'{value:g}' for value in window[:, :, channel].flat)})"


def _parse_cell(text: str, rows: int, columns: int) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", text)
    if not match or int(match[1]) >= rows or int(match[2]) >= columns:
        raise UsageError(f"--cell {text!r}: expected ROW,COLUMN within {rows} rows and {columns} columns, from 0")
    return int(match[1]), int(match[2])


def _suffix(options: FilterOptions) -> str:
    """What the default file name adds to the image's."""
    if options.pool is not None:
        return f"{options.pool[0]}pool-{options.pool[1]}"
    name = options.kernel or ""
    return name if re.fullmatch(r"[\w-]+", name) else "kernel"
