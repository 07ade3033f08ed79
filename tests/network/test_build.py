"""Networks built from architectures: shapes, costs, names, initialization, and architectures that do not fit."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given

from convscope.errors import ArchitectureError
from convscope.network.build import parse_network, resize_network, scaled_side
from convscope.network.layers.base import Layer, Shape
from convscope.network.layers.convolution import Conv
from convscope.network.layers.dense import Dense
from convscope.network.layers.pooling import Pool
from convscope.network.network import Network
from helpers.networks import NetworkCase, many_examples, network_cases

ARTICLE = "conv 32 3, relu, maxpool 2, flatten, dense 100, relu"


def by_name(network: Network) -> dict[str, Layer]:
    return {layer.name: layer for layer in network.walk()}


def test_a12_network_of_the_article_has_542230_parameters() -> None:
    network = parse_network(ARTICLE, (28, 28, 1), 10)
    assert [(layer.name, layer.source, layer.output_shape, layer.parameters) for layer in network.layers] == [
        ("conv1", "conv 32 3", (26, 26, 32), 3 * 3 * 32 + 32),
        ("relu1", "relu", (26, 26, 32), 0),
        ("maxpool1", "maxpool 2", (13, 13, 32), 0),
        ("flatten1", "flatten", (5408,), 0),
        ("dense1", "dense 100", (100,), 5408 * 100 + 100),
        ("relu2", "relu", (100,), 0),
        ("classifier", "dense 10", (10,), 100 * 10 + 10),
        ("softmax", "softmax", (10,), 0),
    ]
    assert network.parameters == 542_230
    assert network.multiply_adds == 26 * 26 * 32 * 9 + 5408 * 100 + 100 * 10


def test_names_of_a_keyword_that_ends_with_a_digit_are_not_those_of_another() -> None:
    """The 61st relu and the first relu6."""
    names = [layer.name for layer in parse_network("relu6, 61 * (relu), flatten").layers]
    assert len(set(names)) == len(names)
    assert names[0] == "relu6_1"


def test_a12_network_of_the_article_hidden_layers_are_he_and_classifier_is_glorot() -> None:
    layers = [layer for layer in parse_network(ARTICLE).layers if isinstance(layer, Conv | Dense)]
    assert [layer.initialization for layer in layers] == ["he", "he", "glorot"]


def test_a6_costs_more_layers_are_larger() -> None:
    deep = [parse_network(f"{depth} * (conv 4 3 pad same, relu), flatten") for depth in (1, 2, 10, 50)]
    assert [network.multiply_adds for network in deep] == [
        784 * 9 * 4 + (depth - 1) * 784 * 9 * 4 * 4 + 784 * 4 * 10 for depth in (1, 2, 10, 50)
    ]
    for one, more in pairwise(deep):
        assert one.parameters < more.parameters
        assert one.activation_bytes < more.activation_bytes


@pytest.mark.parametrize(
    ("architecture", "image", "outputs"),
    [
        ("conv 8 3", (5, 7, 1), [(3, 5, 8)]),
        ("conv 8 3 pad valid", (5, 7, 1), [(3, 5, 8)]),
        ("conv 8 3 pad same", (5, 7, 1), [(5, 7, 8)]),
        ("conv 8 4 pad same", (5, 7, 1), [(5, 7, 8)]),
        ("conv 8 3 pad 2", (5, 7, 1), [(7, 9, 8)]),
        ("conv 8 5 pad 1", (3, 3, 1), [(1, 1, 8)]),
        ("conv 8 3 stride 2", (6, 7, 1), [(2, 3, 8)]),
        ("conv 8 3 stride 2 pad same", (6, 7, 1), [(3, 4, 8)]),
        ("conv 8 3 stride 9 pad same", (6, 7, 1), [(1, 1, 8)]),
        ("conv 6 3 groups 3", (3, 3, 3), [(1, 1, 6)]),
        ("maxpool 2", (5, 7, 3), [(2, 3, 3)]),
        ("avgpool 3 stride 1", (5, 7, 3), [(3, 5, 3)]),
        ("minpool 2 stride 3", (5, 7, 3), [(2, 2, 3)]),
        ("maxpool 3 stride 2 pad 1", (5, 8, 3), [(3, 4, 3)]),
        ("maxpool 3 stride 2 pad same", (5, 8, 3), [(3, 4, 3)]),
        ("avgpool 2 pad same", (5, 7, 3), [(3, 4, 3)]),
        ("minpool 2 pad valid", (5, 7, 3), [(2, 3, 3)]),
        ("dropout 0, dropout 0.999", (5, 7, 3), [(5, 7, 3), (5, 7, 3)]),
        ("globalavg", (5, 7, 3), [(3,)]),
        ("globalmax", (5, 7, 3), [(3,)]),
        ("whiten 2", (5, 7, 3), [(4, 6, 24)]),
        ("whiten 5", (5, 7, 1), [(1, 3, 50)]),
        ("1 * (whiten 1, relu)", (5, 7, 4), [(5, 7, 8), (5, 7, 8)]),
        ("flatten", (5, 7, 3), [(105,)]),
        ("flatten, dense 4, relu", (5, 7, 3), [(105,), (4,), (4,)]),
        ("residual(conv 3 3 pad same)", (5, 7, 3), [(5, 7, 3)]),
        ("residual(conv 8 3 stride 2 pad same, conv 8 3 pad same)", (5, 7, 3), [(3, 4, 8)]),
        ("residual(conv 8 3 stride 4 pad same)", (3, 7, 1), [(1, 2, 8)]),
        ("2 * (maxpool 2)", (9, 9, 1), [(4, 4, 1), (2, 2, 1)]),
    ],
)
def test_shapes_of_layers_equal_those_computed_by_hand(architecture: str, image: Shape, outputs: list[Shape]) -> None:
    ending = "" if len(outputs[-1]) == 1 else ", flatten"
    network = parse_network(architecture + ending, image, 10)
    assert [layer.output_shape for layer in network.layers[: len(outputs)]] == outputs


@pytest.mark.parametrize(
    ("architecture", "image", "padding"),
    [
        ("conv 1 3 pad same", (5, 5, 1), (1, 1, 1, 1)),
        ("conv 1 4 pad same", (5, 5, 1), (1, 2, 1, 2)),
        ("conv 1 3 stride 2 pad same", (5, 6, 1), (1, 1, 0, 1)),
        ("conv 1 2 stride 2 pad same", (5, 6, 1), (0, 1, 0, 0)),
        ("conv 1 1 stride 3 pad same", (5, 5, 1), (0, 0, 0, 0)),
        ("conv 1 3 pad 2", (5, 6, 1), (2, 2, 2, 2)),
        ("conv 1 3", (5, 6, 1), (0, 0, 0, 0)),
        ("maxpool 4 stride 1 pad same", (5, 5, 1), (1, 2, 1, 2)),
        ("avgpool 3 stride 2 pad 1", (5, 5, 1), (1, 1, 1, 1)),
    ],
)
def test_padding_same_odd_cell_is_at_the_bottom_and_right(
    architecture: str, image: Shape, padding: tuple[int, int, int, int]
) -> None:
    conv = parse_network(f"{architecture}, flatten", image).layers[0]
    assert isinstance(conv, Conv | Pool)
    assert conv.padding == padding


@many_examples
@given(network_cases())
def test_parse_any_correct_network_has_the_shapes_of_the_rules(case: NetworkCase) -> None:
    network = case.network
    assert tuple(layer.output_shape for layer in network.layers[:-2]) == case.output_shapes
    assert [layer.name for layer in network.layers[-2:]] == ["classifier", "softmax"]
    assert network.layers[-1].output_shape == (case.classes,)
    names = [layer.name for layer in network.walk()]
    assert len(set(names)) == len(names)
    for before, after in pairwise(network.layers):
        assert after.input_shape == before.output_shape


def test_options_in_any_order_give_the_same_record() -> None:
    options = ["stride 2", "pad same", "groups 2", "init he"]
    one, other = (
        parse_network(f"conv 4 3 {' '.join(order)}, flatten", (8, 8, 2)).layers[0] for order in (options, options[::-1])
    )
    assert vars(one) | {"source": ""} == vars(other) | {"source": ""}


def test_residual_shape_changes_has_a_projection() -> None:
    block = "residual(conv 8 3 stride 2 pad same, relu, conv 8 3 pad same)"
    projection = by_name(parse_network(f"{block}, flatten", (6, 7, 3)))["residual1.projection"]
    assert isinstance(projection, Conv)
    assert (projection.source, projection.input_shape, projection.output_shape) == (
        "conv 8 1 stride 2",
        (6, 7, 3),
        (3, 4, 8),
    )
    assert (projection.bias, projection.parameters) == (False, 3 * 8)
    assert "residual1.projection" not in by_name(parse_network("residual(conv 3 3 pad same), flatten", (6, 7, 3)))


def test_residual_with_shortcut_has_its_layers_and_no_projection() -> None:
    text = "residual(conv 8 3 stride 2 pad 1, batchnorm, shortcut(avgpool 2, conv 8 1, batchnorm)), relu, flatten"
    network = parse_network(text, (6, 8, 3))
    assert list(dict.fromkeys(name.rpartition(".")[0] for name in network.tensors)) == [
        "residual1.body.conv1", "residual1.body.batchnorm1", "residual1.shortcut.conv2",
        "residual1.shortcut.batchnorm2", "classifier",
    ]  # fmt: skip
    layers = by_name(network)
    assert (layers["avgpool1"].input_shape, layers["conv2"].output_shape) == ((6, 8, 3), (3, 4, 8))
    assert [layers[name].initialization for name in ("conv1", "conv2")] == ["he", "he"]  # type: ignore[attr-defined]
    assert layers["residual1"].parameters == 27 * 8 + 16 + 3 * 8 + 16


def test_whiten_record_has_two_kernels_per_number_of_a_patch() -> None:
    whiten, _, conv, *_ = parse_network("whiten 2, gelu, conv 4 3, globalmax", (6, 7, 3)).layers
    assert isinstance(whiten, Conv)
    assert (whiten.name, whiten.source, whiten.output_shape) == ("whiten1", "whiten 2", (5, 6, 24))
    assert (whiten.filters, whiten.kernel_size, whiten.stride, whiten.padding) == (2 * 2 * 2 * 3, 2, 1, (0, 0, 0, 0))
    assert (whiten.groups, whiten.bias, whiten.initialization) == (1, False, "whiten")
    assert (whiten.parameters, whiten.multiply_adds) == (24 * 12, 5 * 6 * 24 * 12)
    assert (conv.name, conv.parameters) == ("conv1", 24 * 9 * 4 + 4)


@pytest.mark.parametrize(
    ("side", "scale", "expected"), [(32, 0.625, 20), (28, 0.75, 21), (8, 1, 8), (5, 0.5, 2), (5, 0.7, 4), (3, 0.1, 1)]
)
def test_scaled_side_is_rounded_and_at_least_1(side: int, scale: float, expected: int) -> None:
    assert scaled_side(side, scale) == expected


@pytest.mark.parametrize(
    ("architecture", "scale", "image"),
    [
        ("whiten 2, gelu, conv 4 3, maxpool 2, globalmax", 0.625, (10, 15, 3)),
        ("conv 4 3, globalavg, dense 5", 0.5, (8, 12, 3)),
        ("conv 4 3, globalavg", 1, (16, 24, 3)),
        ("conv 4 3, flatten", 1, (16, 24, 3)),
        ("conv 4 3, flatten", 0.99, (16, 24, 3)),  # not a pixel less
        ("conv 4 9 stride 9 pad same, flatten", 0.5, None),  # 2x3 cells become 1x2
        ("conv 4 3, flatten", 0.625, None),
        ("maxpool 9, globalmax", 0.5, None),  # too small
        ("residual(conv 4 3 stride 2 pad same), globalavg", 0.75, (12, 18, 3)),
        ("residual(conv 4 3 stride 2 pad same), globalavg", 0.7, None),  # 11 cells want another padding than 16
    ],
)
def test_resize_network_keeps_the_weights_or_returns_none(architecture: str, scale: float, image: Shape | None) -> None:
    network = parse_network(architecture, (16, 24, 3), 5)
    small = resize_network(network, scale)
    assert (small and small.input_shape) == image
    if small:
        assert (small.architecture, small.classes, small.parameters) == (architecture, 5, network.parameters)


def test_names_repetitions_and_blocks_are_numbered_per_keyword() -> None:
    architecture = "2 * (conv 4 3 pad same, relu), residual(conv 8 3 pad same, residual(relu)), conv 8 3, flatten"
    assert list(by_name(parse_network(architecture))) == [
        "conv1", "relu1", "conv2", "relu2", "residual1", "conv3", "residual2", "relu3", "residual1.projection",
        "conv4", "flatten1", "classifier", "softmax",
    ]  # fmt: skip


INITIALIZATIONS = [
    ("conv 4 3, relu, flatten", "conv1", "he"),
    ("conv 4 3, gelu, flatten", "conv1", "he"),
    ("conv 4 3, tanh, flatten", "conv1", "glorot"),
    ("conv 4 3, squeeze 2 act tanh, relu, flatten", "conv1", "he"),
    ("conv 4 3, squeeze 2 act tanh, relu, flatten", "squeeze1.reduce", "glorot"),
    ("conv 4 3, squeeze 2 act silu, flatten", "squeeze1.reduce", "he"),
    ("conv 4 3, squeeze 2 act silu, flatten", "squeeze1.expand", "glorot"),
    ("conv 4 3, flatten", "conv1", "glorot"),
    ("conv 4 3, batchnorm, relu, flatten", "conv1", "he"),
    ("conv 4 3, maxpool 2, relu, flatten", "conv1", "he"),
    ("conv 4 3, dropout 0.5, batchnorm, avgpool 2, gelu, flatten", "conv1", "he"),
    ("conv 4 3, flatten, relu", "conv1", "he"),
    ("conv 4 3, globalavg, relu", "conv1", "he"),
    ("whiten 3, relu, flatten", "whiten1", "whiten"),
    ("conv 4 3, conv 4 3, relu, flatten", "conv1", "glorot"),
    ("conv 4 3, conv 4 3, relu, flatten", "conv2", "he"),
    ("conv 4 3, tanh, relu, flatten", "conv1", "glorot"),
    ("conv 4 3, residual(relu), flatten", "conv1", "glorot"),
    ("conv 4 3, residual(tanh), relu, flatten", "conv1", "glorot"),
    ("flatten, dense 5, relu", "dense1", "he"),
    ("flatten, dense 5, dropout 0.5, relu", "dense1", "he"),
    ("flatten, dense 5, tanh", "dense1", "glorot"),
    ("flatten, dense 5, dense 5, relu", "dense1", "glorot"),
    ("flatten, dense 5", "dense1", "glorot"),
    ("flatten, dense 5, relu", "classifier", "glorot"),
    ("conv 4 3 init glorot, relu, flatten", "conv1", "glorot"),
    ("conv 4 3 init he, tanh, flatten", "conv1", "he"),
    ("conv 4 3 init identity, relu, flatten", "conv1", "identity"),
    ("flatten, dense 5 init he", "dense1", "he"),
    ("flatten, dense 5 init glorot, relu", "dense1", "glorot"),
    ("residual(conv 4 3 pad same, relu, conv 4 3 pad same), relu, flatten", "conv1", "he"),
    ("residual(conv 4 3 pad same, relu, conv 4 3 pad same), relu, flatten", "conv2", "he"),
    ("residual(conv 4 3 pad same, relu, conv 4 3 pad same), tanh, flatten", "conv2", "glorot"),
    ("residual(conv 4 3 pad same), relu, flatten", "residual1.projection", "glorot"),
    ("2 * (conv 4 3, relu), flatten", "conv2", "he"),
    ("2 * (relu, conv 4 3), flatten", "conv1", "he"),
    ("2 * (relu, conv 4 3), flatten", "conv2", "glorot"),
]


@pytest.mark.parametrize(("architecture", "name", "expected"), INITIALIZATIONS)
def test_initialization_follows_the_next_activation_unless_given(architecture: str, name: str, expected: str) -> None:
    layer = by_name(parse_network(architecture))[name]
    assert isinstance(layer, Conv | Dense)
    assert layer.initialization == expected


@pytest.mark.parametrize(
    ("architecture", "biases"),
    [
        ("conv 4 3, batchnorm, conv 4 3, relu, batchnorm, flatten", {"conv1": False, "conv2": True}),
        ("residual(conv 4 3 pad same, batchnorm, conv 4 3 pad same), flatten",
         {"conv1": False, "conv2": True, "residual1.projection": False}),
        ("residual(conv 1 3 pad same), batchnorm, flatten", {"conv1": False}),
        ("conv 4 3, maxpool 2, batchnorm, relu, flatten", {"conv1": False}),
        ("conv 4 3, avgpool 2 stride 1, minpool 2, batchnorm, flatten", {"conv1": False}),
        ("conv 4 3, maxpool 2, relu, batchnorm, flatten", {"conv1": True}),
        ("conv 4 3, relu, maxpool 2, batchnorm, flatten", {"conv1": True}),
        ("conv 4 3, dropout 0.5, batchnorm, flatten", {"conv1": True}),
        ("conv 4 3, maxpool 2, flatten, batchnorm", {"conv1": True}),
        ("residual(conv 4 3 pad same), maxpool 2, batchnorm, flatten", {"conv1": False, "residual1.projection": False}),
    ],
)  # fmt: skip
def test_bias_of_conv_before_batchnorm_is_left_out(architecture: str, biases: dict[str, bool]) -> None:
    layers = by_name(parse_network(architecture)).values()
    assert {layer.name: layer.bias for layer in layers if isinstance(layer, Conv)} == biases


TOO_SMALL = "remove a layer before it or use larger images"
NOT_FIRST = "'whiten' must be the first layer: its kernels are computed from patches of the images"
VECTOR = "needs feature maps, got a vector of"
BEFORE_FLATTEN = "move it before flatten"
MISPLACED = (
    "'shortcut' must be the last of several layers in residual(...), as in "
    "'residual(conv 16 3 pad same, relu, shortcut(conv 16 1, batchnorm))'"
)
NO_PROJECTION = "no 1x1 projection can turn the block's input of 8x10x3 into its output of"
USE_SAME = "use 'pad same' inside residual(...)"

# (architecture for an 8x10 RGB image, message, the words it points at)
SHAPE_ERRORS = [
    ("conv 8 9, flatten", f"'conv 8 9' needs feature maps of at least 9x9, got 8x10: {TOO_SMALL}", "conv 8 9"),
    ("conv 8 11 pad 1, flatten", f"'conv 8 11 pad 1' needs feature maps of at least 9x9, got 8x10: {TOO_SMALL}",
     "conv 8 11 pad 1"),
    ("maxpool 2, relu, maxpool 5, flatten", f"'maxpool 5' needs feature maps of at least 5x5, got 4x5: {TOO_SMALL}",
     "maxpool 5"),
    ("5 * (conv 8 3, relu), flatten", f"'conv 8 3' needs feature maps of at least 3x3, got 2x4: {TOO_SMALL}",
     "conv 8 3"),
    ("maxpool 3 pad 3, flatten", "expected padding below the window size 3, got 'pad 3'",
     "maxpool 3 pad 3"),
    ("whiten 9, flatten", f"'whiten 9' needs feature maps of at least 9x9, got 8x10: {TOO_SMALL}", "whiten 9"),
    ("conv 8 3, dense 5",
     "'dense' needs a vector, got 6x8x8 feature maps: add flatten, globalavg or globalmax before it", "dense 5"),
    ("flatten, conv 8 3", f"'conv' {VECTOR} 240: {BEFORE_FLATTEN}", "conv 8 3"),
    ("flatten, maxpool 2", f"'maxpool' {VECTOR} 240: {BEFORE_FLATTEN}", "maxpool 2"),
    ("flatten, minpool 2", f"'minpool' {VECTOR} 240: {BEFORE_FLATTEN}", "minpool 2"),
    ("flatten, avgpool 2", f"'avgpool' {VECTOR} 240: {BEFORE_FLATTEN}", "avgpool 2"),
    ("flatten, flatten", f"'flatten' {VECTOR} 240: {BEFORE_FLATTEN}", "flatten"),
    ("globalavg, globalavg", f"'globalavg' {VECTOR} 3: {BEFORE_FLATTEN}", "globalavg"),
    ("globalmax, globalmax", f"'globalmax' {VECTOR} 3: {BEFORE_FLATTEN}", "globalmax"),
    ("flatten, residual(relu)", f"'residual' {VECTOR} 240: {BEFORE_FLATTEN}", "residual(relu)"),
    ("flatten, squeeze 2", f"'squeeze' {VECTOR} 240: {BEFORE_FLATTEN}", "squeeze 2"),
    ("squeeze 0, flatten", "expected a whole number from 1 to 1,000,000, got '0'", "0"),
    ("squeeze 2 gate relu, flatten", "option 'gate' of 'squeeze' must be sigmoid or hardsigmoid, got 'relu'",
     "gate relu"),
    ("flatten, whiten 2", f"'whiten' {VECTOR} 240: {BEFORE_FLATTEN}", "whiten 2"),
    ("relu, whiten 2, flatten", NOT_FIRST, "whiten 2"),
    ("whiten 2, relu, whiten 3, flatten", NOT_FIRST, "whiten 3"),
    ("residual(whiten 2), flatten", NOT_FIRST, "whiten 2"),
    ("2 * (whiten 2), flatten", NOT_FIRST, "whiten 2"),
    ("conv 8 3, relu",
     "the classifier needs a vector, got 6x8x8 feature maps from 'relu': end with flatten, globalavg or globalmax",
     "relu"),
    ("conv 8 3 groups 2, flatten", "groups 2 must divide both the 3 input channels and the 8 filters",
     "conv 8 3 groups 2"),
    ("conv 8 3 groups 3, flatten", "groups 3 must divide both the 3 input channels and the 8 filters",
     "conv 8 3 groups 3"),
    ("conv 3 3 init identity groups 3, flatten",
     "'init identity' does not work with groups, which separate the channels: remove one of them",
     "conv 3 3 init identity groups 3"),
    ("dropout 1, flatten", "expected a dropout rate of at least 0 and below 1, got 1", "1"),
    ("dropout 1.5, flatten", "expected a dropout rate of at least 0 and below 1, got 1.5", "1.5"),
    ("dropout -0.5, flatten", "expected a dropout rate of at least 0 and below 1, got -0.5", "-0.5"),
    ("residual(conv 8 3), flatten", f"{NO_PROJECTION} 6x8x8: {USE_SAME}", "residual(conv 8 3)"),
    ("residual(conv 3 3 pad 2), flatten", f"{NO_PROJECTION} 10x12x3: {USE_SAME}", "residual(conv 3 3 pad 2)"),
    ("residual(conv 8 3, shortcut(conv 8 1)), flatten",
     "expected 6x8x8 as from the layers before 'shortcut', got 8x10x8: "
     "use the same number of filters, strides and padding",
     "shortcut(conv 8 1)"),
    ("residual(shortcut(relu)), flatten", MISPLACED, "shortcut(relu)"),
    ("residual(shortcut(relu), conv 8 1), flatten", MISPLACED, "shortcut(relu)"),
    ("residual(2 * (relu, shortcut(relu))), flatten", MISPLACED, "shortcut(relu)"),
    ("shortcut(relu), flatten", MISPLACED, "shortcut(relu)"),
    ("residual(flatten), flatten", f"{NO_PROJECTION} 240: {USE_SAME}", "residual(flatten)"),
    ("residual(globalavg)", f"{NO_PROJECTION} 3: {USE_SAME}", "residual(globalavg)"),
    ("2 * (residual(relu, conv 8 3)), flatten", f"{NO_PROJECTION} 6x8x8: {USE_SAME}", "residual(relu, conv 8 3)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "message", "words"), SHAPE_ERRORS, ids=[architecture for architecture, *_ in SHAPE_ERRORS]
)
def test_parse_architecture_does_not_fit_error_points_at_the_layer(architecture: str, message: str, words: str) -> None:
    with pytest.raises(ArchitectureError, match=f"^{re.escape(message)}$") as caught:
        parse_network(architecture, (8, 10, 3), 5)
    assert architecture[caught.value.start : caught.value.end] == words


def test_parse_second_of_two_equal_layers_is_wrong_error_points_at_it() -> None:
    architecture = "maxpool 3, maxpool 3, flatten"
    with pytest.raises(ArchitectureError, match="'maxpool 3' needs feature maps of at least 3x3, got 2x3") as caught:
        parse_network(architecture, (8, 10, 3), 5)
    assert caught.value.start == architecture.rindex("maxpool")
