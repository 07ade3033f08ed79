"""Sliding windows: padding and output size, for convolutions and pools."""

from __future__ import annotations

from convscope.network.grammar import Option
from convscope.network.layers.context import LayerContext

Padding = tuple[int, int, int, int]  # cells at the top, bottom, left and right
NO_PADDING: Padding = (0, 0, 0, 0)
PADDING_OPTION = Option(("same", "valid"), minimum=0)


def padding_of(context: LayerContext, window: int, stride: int) -> Padding:
    """The padding that the option `pad` asks for: a number of cells, `valid` (none) or `same`.

    `same` gives ceil(size / stride) output cells; an odd cell goes to the bottom or right (ONNX SAME_UPPER).
    """
    option = context.node.option("pad")
    if option is None or option.text == "valid":
        return NO_PADDING
    if option.text == "same":
        height, width, _ = context.input_shape
        return (*_same_padding(height, window, stride), *_same_padding(width, window, stride))
    cells = context.number(option, 0)
    return cells, cells, cells, cells


def _same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    output = -(-size // stride)
    total = max((output - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def window_output(context: LayerContext, window: int, stride: int, padding: Padding = NO_PADDING) -> tuple[int, int]:
    """Output height and width.

    Raises:
        ArchitectureError: If the window is larger than the padded feature maps.
    """
    height, width, _ = context.input_shape
    top, bottom, left, right = padding
    rows, columns = height + top + bottom - window, width + left + right - window
    if min(rows, columns) < 0:
        context.fail_too_small(window - top - bottom)
    return rows // stride + 1, columns // stride + 1
