"""Networks with a name."""

from __future__ import annotations

import re

import pytest

from convscope.errors import UsageError
from convscope.network.build import parse
from convscope.network.presets import MNIST_SHAPE, PRESETS, preset_or_line, preset_table
from helpers.lines import ALL_PRESETS

KNOWN = "presets are article, lenet5, quick, tiny, small, large, photos, pictures, residual, or write a line of layers"


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
        ("photos", 1_963_306),
        ("pictures", 1_979_498),
        ("residual", 72_890),
    ]
    for row in rows:
        network = parse(row["line"], MNIST_SHAPE, 10)
        assert row == {"name": row["name"], "line": PRESETS[row["name"]], **network.totals}


@pytest.mark.parametrize("image", [(28, 28, 1), (32, 32, 3), (64, 48, 3)])
@pytest.mark.parametrize("name", PRESETS)
def test_presets_fit_the_known_image_sizes(name: str, image: tuple[int, int, int]) -> None:
    assert parse(PRESETS[name], image, 43).layers[-1].output == (43,)


@pytest.mark.parametrize("name", ["article", "small", "residual"])
def test_presets_fit_the_built_in_digits(name: str) -> None:
    assert parse(PRESETS[name], (8, 8, 1), 10).layers[-1].output == (10,)


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
    assert preset_or_line(text) == line
    assert all(preset_or_line(preset.text) == preset.text for preset in ALL_PRESETS.values())


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
        preset_or_line(text)
