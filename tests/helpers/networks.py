"""Networks for tests: one per layer and preset, and random ones that are correct by construction.

The expected shapes are computed here a second time, from the rules in docs/architecture-language.md.
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
from convscope.network.activations import ACTIVATIONS
from convscope.network.build import parse_network
from convscope.network.keywords import KEYWORDS
from convscope.network.layers.base import Layer, Shape
from convscope.network.layers.elementwise import ELEMENTWISE_KEYWORDS
from convscope.network.layers.residual import Residual
from convscope.network.layers.squeeze_excite import GATES, SqueezeExcite
from convscope.network.network import Network
from convscope.network.pools import POOLS
from convscope.network.presets import MNIST_SHAPE, PRESETS

many_examples = settings(max_examples=150, deadline=None, derandomize=True)


class NetworkCase(NamedTuple):
    """An architecture, its images and classes, and the output shape of each layer before the classifier if known."""

    architecture: str
    input_shape: Shape
    classes: int
    output_shapes: tuple[Shape, ...] = ()

    @property
    def network(self) -> Network:
        return parse_network(self.architecture, self.input_shape, self.classes)


def layer_case(keyword: str) -> NetworkCase:
    """The example of a keyword as a whole network."""
    start = "flatten, " if KEYWORDS[keyword].input == "vector" else ""
    end = "" if start or keyword in ENDS else ", flatten"
    return NetworkCase(f"{start}{KEYWORDS[keyword].example}{end}", (9, 8, 3), 4)


ENDS = ("flatten", "globalavg", "globalmax")
LAYER_CASES = {keyword: layer_case(keyword) for keyword in KEYWORDS}
PRESET_CASES = {name: NetworkCase(architecture, MNIST_SHAPE, 10) for name, architecture in PRESETS.items()}
ALL_CASES = {f"layer {keyword}": case for keyword, case in LAYER_CASES.items()} | PRESET_CASES

PADDED_POOL_CASES = [  # on maps of even and odd sides with values of both signs
    NetworkCase(f"conv 4 3, {pool.keyword} {size} stride 2 pad {pad}, flatten", (9, 10, 3), 4)
    for pool in POOLS.values()
    for size, pad in [(2, "1"), (2, "same"), (3, "2"), (4, "same")]
]

ELEMENTWISE = (*(keyword.example for keyword in ELEMENTWISE_KEYWORDS.values()), "batchnorm eps 0.01")
ShapeRule = Callable[[Shape], Shape]
Piece = tuple[str, list[ShapeRule]]  # source text, and a rule for each of its layers
SMALL_COUNTS = st.integers(1, 3)


def elementwise(source: str) -> Piece:
    return source, [lambda shape: shape]


@st.composite
def convolutions(draw: st.DrawFn, maps: Shape | None = None) -> Piece:
    """For feature maps of this shape, or with `pad same` and one group for any shape."""
    side, channels = (3, 1) if maps is None else (min(maps[:2]), maps[2])
    pad = draw(st.sampled_from(["same"] if maps is None else ["", "valid", "same", "0", "1", "2"]))
    margin = 2 * int(pad) if pad.isdecimal() else 0
    kernel_size = draw(st.integers(1, 5 if pad == "same" else min(5, side + margin)))
    stride, groups = draw(SMALL_COUNTS), draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
    filters = groups * draw(SMALL_COUNTS)
    options = [f"stride {stride}"] * (stride > 1) + [f"pad {pad}"] * bool(pad) + [f"groups {groups}"] * (groups > 1)
    options += draw(st.sampled_from([[], [], ["init he"], ["init glorot"]]))

    def output_side(side: int) -> int:
        return ceil(side / stride) if pad == "same" else (side + margin - kernel_size) // stride + 1

    source = " ".join([f"conv {filters} {kernel_size}", *options])
    return source, [lambda shape: (output_side(shape[0]), output_side(shape[1]), filters)]


@st.composite
def pools(draw: st.DrawFn, maps: Shape) -> Piece:
    size = draw(st.integers(1, min(3, *maps[:2])))
    option = draw(st.sampled_from([None, 1, 2, 3]))
    pad = draw(st.sampled_from(["", "", "valid", "same", *map(str, range(size))]))
    keyword = draw(st.sampled_from([pool.keyword for pool in POOLS.values()]))
    stride, margin = option or size, 2 * int(pad) if pad.isdecimal() else 0
    source = f"{keyword} {size}" + (f" stride {option}" if option else "") + (f" pad {pad}" if pad else "")

    def output_side(side: int) -> int:
        return ceil(side / stride) if pad == "same" else (side + margin - size) // stride + 1

    return source, [lambda shape: (output_side(shape[0]), output_side(shape[1]), shape[2])]


@st.composite
def squeezes(draw: st.DrawFn) -> Piece:
    """For feature maps of any shape."""
    act = draw(st.sampled_from(["", *(name for name in ACTIVATIONS if name not in GATES)]))
    gate = draw(st.sampled_from(["", *GATES]))
    source = f"squeeze {draw(SMALL_COUNTS)}" + (f" act {act}" if act else "") + (f" gate {gate}" if gate else "")
    return elementwise(source)


@st.composite
def blocks(draw: st.DrawFn, layers: Sequence[str], depth: int = 0) -> Piece:
    """residual(...), with a shortcut or without, or N * (...), for feature maps of any shape."""
    inner = convolutions() | squeezes() | st.sampled_from(layers).map(elementwise)
    if depth < 2:
        inner |= blocks(layers, depth + 1)
    pieces = draw(st.lists(inner, min_size=1, max_size=2))
    source = ", ".join(source for source, _ in pieces)
    rules = [rule for _, piece_rules in pieces for rule in piece_rules]
    if draw(st.booleans()):
        times = draw(SMALL_COUNTS)
        return f"{times} * ({source})", times * rules
    shortcut = shortcut_for(rules, draw(st.sampled_from(layers))) if draw(st.booleans()) else ""
    return f"residual({source}{shortcut})", [lambda shape: list(apply_rules(rules, shape))[-1]]


def shortcut_for(rules: Sequence[ShapeRule], last: str) -> str:
    """A shortcut with the same output: the rules divide the sides and set the number of channels."""
    side, channels = 6**12, -1
    *_, (found, _, filters) = apply_rules(rules, (side, side, channels))
    stride = side // found
    kernel = "" if filters == channels else f"conv {filters} 1{f' stride {stride}' if stride > 1 else ''}, "
    return f", shortcut({kernel}{last})"


def apply_rules(rules: Sequence[ShapeRule], shape: Shape) -> Iterator[Shape]:
    for rule in rules:
        shape = rule(shape)
        yield shape


@st.composite
def whitenings(draw: st.DrawFn, maps: Shape) -> Piece:
    size = draw(st.integers(1, min(2, *maps[:2])))
    return f"whiten {size}", [lambda shape: (shape[0] - size + 1, shape[1] - size + 1, 2 * size * size * shape[2])]


@st.composite
def network_cases(draw: st.DrawFn, layers: Sequence[str] = ELEMENTWISE, ends: Sequence[str] = ENDS) -> NetworkCase:
    """Any network for a small image, of these elementwise layers and one of these layers that produce a vector."""
    input_shape: Shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4])))
    shape = input_shape
    sources: list[str] = []
    shapes: list[Shape] = []
    whitened = draw(st.sampled_from([False, False, True]))
    for position in range(draw(st.integers(whitened, 4))):
        plain = st.sampled_from(layers).map(elementwise)
        pieces = convolutions(shape), pools(shape), blocks(layers), squeezes(), plain
        source, rules = draw(whitenings(shape) if whitened and position == 0 else st.one_of(pieces))
        sources.append(source)
        shapes += apply_rules(rules, shape)
        shape = shapes[-1]
    end = draw(st.sampled_from(ends))
    sources.append(end)
    shapes.append((shape[0] * shape[1] * shape[2] if end == "flatten" else shape[2],))
    for _ in range(draw(st.integers(0, 2))):
        units = draw(st.integers(0, 4))
        sources.append(f"dense {units}" if units else draw(st.sampled_from(layers)))
        shapes.append((units,) if units else shapes[-1])
    return NetworkCase(", ".join(sources), input_shape, draw(st.integers(1, 4)), tuple(shapes))


def module_records(layers: Sequence[Layer], prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """Each record that has a PyTorch module, with the module's full name."""
    for layer in layers:
        if layer.name == "softmax":
            continue
        yield prefix + layer.name, layer
        if isinstance(layer, Residual):
            yield from module_records(layer.body, f"{prefix}{layer.name}.body.")
            yield from module_records(layer.shortcut, f"{prefix}{layer.name}.shortcut.")
            if layer.projection:
                yield prefix + layer.projection.name, layer.projection
        if isinstance(layer, SqueezeExcite):
            yield from module_records(layer.gate, prefix)


def trained_model(case: NetworkCase, seed: int = 0) -> nn.Sequential:
    """The model in evaluation mode, with random biases and batch statistics, as if it were trained."""
    model = build_model(case.network, seed)
    generator = torch.Generator().manual_seed(seed)
    for name, values in model.state_dict().items():
        if name.endswith("running_var"):
            values.uniform_(0.5, 2, generator=generator)
        elif values.dim() == 1:
            values.uniform_(-1, 1, generator=generator)
    return model.eval()


def random_images(case: NetworkCase, n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, *case.input_shape), np.uint8)


def random_preprocessing(case: NetworkCase, seed: int = 0) -> Preprocessing:
    """Preprocessing that differs between channels."""
    height, width, channels = case.input_shape
    scale, mean = np.random.default_rng(seed).uniform(0.5, 2, (2, channels))
    return Preprocessing.model_validate(
        {"height": height, "width": width, "channels": channels, "fill": [0] * channels, "polarity": "mixed",
         "scale": (scale / 127).tolist(), "mean": mean.tolist()}
    )  # fmt: skip
