"""Random architecture lines that are right by construction, and networks made from them, for tests of every network.

The shapes are worked out here a second time, by the rules of the language, so that parser and torch have a judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from convscope.backends.pytorch.models import build_model
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.network.layers import Layer, Network, Residual, Shape
from convscope.network.presets import MNIST_SHAPE, PRESETS

many = settings(max_examples=150, deadline=None, derandomize=True)


class Line(NamedTuple):
    """A line, the image it is for, and what each layer up to the classifier puts out."""

    text: str
    input: Shape
    classes: int
    outputs: tuple[Shape, ...] = ()

    @property
    def network(self) -> Network:
        return parse_network(self.text, self.input, self.classes)


ALL_PRESETS = {name: Line(text, MNIST_SHAPE, 10) for name, text in PRESETS.items()}

Step = Callable[[Shape], Shape]
Piece = tuple[str, list[Step]]  # what is written, and the shapes of the layers that it makes

ONE_BY_ONE = ("relu", "gelu", "tanh", "batchnorm", "dropout 0.5")  # cell by cell: the shape stays
POOLS = ("maxpool", "minpool", "avgpool")
ENDS = ("flatten", "globalavg", "globalmax")
SMALL_COUNTS = st.integers(1, 3)


def alike(text: str) -> Piece:
    return text, [lambda shape: shape]


@st.composite
def convolutions(draw: st.DrawFn, maps: Shape | None = None) -> Piece:
    """On `maps`, or with `pad same` and one group on maps of any size."""
    side, channels = (3, 1) if maps is None else (min(maps[:2]), maps[2])
    pad = draw(st.sampled_from(["same"] if maps is None else ["", "valid", "same", "0", "1", "2"]))
    margin = 2 * int(pad) if pad.isdecimal() else 0
    kernel = draw(st.integers(1, 5 if pad == "same" else min(5, side + margin)))
    stride, groups = draw(SMALL_COUNTS), draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
    filters = groups * draw(SMALL_COUNTS)
    options = [f"stride {stride}"] * (stride > 1) + [f"pad {pad}"] * bool(pad) + [f"groups {groups}"] * (groups > 1)
    options += draw(st.sampled_from([[], [], ["init he"], ["init glorot"]]))

    def side_after(n: int) -> int:
        return ceil(n / stride) if pad == "same" else (n + margin - kernel) // stride + 1

    return " ".join([f"conv {filters} {kernel}", *options]), [
        lambda shape: (side_after(shape[0]), side_after(shape[1]), filters)
    ]


@st.composite
def poolings(draw: st.DrawFn, maps: Shape) -> Piece:
    size = draw(st.integers(1, min(3, *maps[:2])))
    stride = draw(st.sampled_from([None, 1, 2, 3]))
    step = stride or size
    text = f"{draw(st.sampled_from(POOLS))} {size}" + (f" stride {stride}" if stride else "")
    return text, [lambda shape: ((shape[0] - size) // step + 1, (shape[1] - size) // step + 1, shape[2])]


@st.composite
def blocks(draw: st.DrawFn, words: Sequence[str], depth: int = 0) -> Piece:
    """residual(...) or N * (...), which fit maps of any size."""
    inner = convolutions() | st.sampled_from(words).map(alike)
    if depth < 2:
        inner |= blocks(words, depth + 1)
    pieces = draw(st.lists(inner, min_size=1, max_size=2))
    text, steps = ", ".join(text for text, _ in pieces), [step for _, steps in pieces for step in steps]
    if draw(st.booleans()):
        times = draw(SMALL_COUNTS)
        return f"{times} * ({text})", times * steps
    return f"residual({text})", [lambda shape: list(outputs(steps, shape))[-1]]


def outputs(steps: Sequence[Step], shape: Shape) -> Iterator[Shape]:
    for step in steps:
        shape = step(shape)
        yield shape


@st.composite
def whitenings(draw: st.DrawFn, maps: Shape) -> Piece:
    kernel = draw(st.integers(1, min(2, *maps[:2])))
    return f"whiten {kernel}", [
        lambda shape: (shape[0] - kernel + 1, shape[1] - kernel + 1, 2 * kernel * kernel * shape[2])
    ]


@st.composite
def lines(draw: st.DrawFn, words: Sequence[str] = ONE_BY_ONE, ends: Sequence[str] = ENDS) -> Line:
    """Any line on a small image; `words` are the layers without numbers that may come, `ends` make the vector."""
    start: Shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4])))
    shape = start
    texts: list[str] = []
    made: list[Shape] = []
    whitened = draw(st.sampled_from([False, False, True]))
    for place in range(draw(st.integers(whitened, 4))):
        next_pieces = convolutions(shape), poolings(shape), blocks(words), st.sampled_from(words).map(alike)
        text, steps = draw(whitenings(shape) if whitened and place == 0 else st.one_of(next_pieces))
        texts.append(text)
        made += outputs(steps, shape)
        shape = made[-1]
    end = draw(st.sampled_from(ends))
    units = shape[0] * shape[1] * shape[2] if end == "flatten" else shape[2]
    texts.append(end)
    made.append((units,))
    for _ in range(draw(st.integers(0, 2))):
        dense = draw(st.integers(0, 4))
        texts.append(f"dense {dense}" if dense else draw(st.sampled_from(words)))
        made.append((dense,) if dense else made[-1])
    return Line(", ".join(texts), start, draw(st.integers(1, 4)), tuple(made))


def modules_of(layers: Sequence[Layer], prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """Each record that has a torch module, with the module's full name."""
    for layer in layers:
        if layer.name == "softmax":
            continue
        yield prefix + layer.name, layer
        if isinstance(layer, Residual):
            yield from modules_of(layer.body, f"{prefix}{layer.name}.body.")
            if layer.projection:
                yield prefix + layer.projection.name, layer.projection


def trained(line: Line, seed: int = 0) -> nn.Sequential:
    """The line's model in evaluation mode; biases and batch norms too have numbers that training could have left."""
    model = build_model(line.network, seed)
    generator = torch.Generator().manual_seed(seed)
    for name, values in model.state_dict().items():
        if name.endswith("running_var"):
            values.uniform_(0.5, 2, generator=generator)
        elif values.dim() == 1:
            values.uniform_(-1, 1, generator=generator)
    return model.eval()


def noise(line: Line, n: int, seed: int = 0) -> NDArray[np.uint8]:
    """n images of random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (n, *line.input), np.uint8)


def record(line: Line, seed: int = 0) -> Preprocessing:
    """Preprocessing that differs from channel to channel."""
    height, width, channels = line.input
    scale, mean = np.random.default_rng(seed).uniform(0.5, 2, (2, channels))
    return Preprocessing.model_validate(
        {"height": height, "width": width, "channels": channels, "fill": [0] * channels, "polarity": "mixed",
         "scale": (scale / 127).tolist(), "mean": mean.tolist()}
    )  # fmt: skip
