"""Networks with a name."""

from __future__ import annotations

import re

import pytest

from convscope.errors import UsageError
from convscope.network.build import parse_network
from convscope.network.presets import MNIST_SHAPE, PRESETS, preset_table, resolve_architecture
from helpers.lines import ALL_PRESETS

KNOWN = f"presets are {', '.join(PRESETS)}, or write a line of layers"


def test_a12_the_preset_article_is_the_article_s_line() -> None:
    assert PRESETS["article"] == "conv 32 3, relu, maxpool 2, flatten, dense 100, relu"


def test_the_table_of_presets_with_their_costs_on_mnist() -> None:
    """The parameters of LeNet-5 with full connections and ten classes are known: 61,706."""
    assert MNIST_SHAPE == (28, 28, 1)
    rows = preset_table()
    assert [(row["name"], row["parameters"]) for row in rows] == [
        ("article", 542_230),
        ("lenet5", 61_706),
        ("quick", 102_794),
        ("tiny", 7_394),
        ("small", 79_402),
        ("large", 298_570),
        ("airbench", 1_963_306),
        ("airbench-deep", 1_979_498),
        ("residual", 72_890),
    ]
    for row in rows:
        network = parse_network(row["architecture"], MNIST_SHAPE, 10)
        assert row == {"name": row["name"], "architecture": PRESETS[row["name"]], **network.totals}


@pytest.mark.parametrize("image", [(28, 28, 1), (32, 32, 3), (64, 48, 3)])
@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_the_known_image_sizes(name: str, image: tuple[int, int, int]) -> None:
    assert parse_network(PRESETS[name], image, 43).layers[-1].output_shape == (43,)


@pytest.mark.parametrize("name", ["article", "small", "residual"])
def test_presets_fit_the_built_in_digits(name: str) -> None:
    assert parse_network(PRESETS[name], (8, 8, 1), 10).layers[-1].output_shape == (10,)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        *PRESETS.items(),
        ("conv 8 3, flatten", "conv 8 3, flatten"),
        ("flatten", "flatten"),
        ("globalavg", "globalavg"),
        ("globalmax", "globalmax"),
        ("", ""),  # no name: the grammar says what is missing
    ],
)
def test_a_name_or_a_line(text: str, line: str) -> None:
    assert resolve_architecture(text) == line
    assert all(resolve_architecture(preset.text) == preset.text for preset in ALL_PRESETS.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("artikle", f"unknown preset 'artikle': did you mean 'article'? {KNOWN}"),
        ("lenet", f"unknown preset 'lenet': did you mean 'lenet5'? {KNOWN}"),
        ("vgg16", f"unknown preset 'vgg16': {KNOWN}"),
        ("softmax", f"unknown preset 'softmax': {KNOWN}"),
        ("my-model.onnx", f"unknown preset 'my-model.onnx': {KNOWN}"),
    ],
)
def test_unknown_presets(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        resolve_architecture(text)
