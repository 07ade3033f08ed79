"""The grammar of the architecture language: what is read, and where and how a wrong line is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convscope.errors import ArchitectureError, UsageError
from convscope.network.build import parse_network
from convscope.network.grammar import KEYWORDS, Node, Parser
from helpers.lines import many


def tree(nodes: tuple[Node, ...]) -> list[object]:
    """Nodes as nested lists of their texts."""
    return [
        [node.word.text, *(value.text for value in node.values),
         *(f"{name}={value.text}" for name, value in node.options), *([tree(node.body)] if node.body else [])]
        for node in nodes
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("relu", [["relu"]]),
        ("conv 32 3, relu", [["conv", "32", "3"], ["relu"]]),
        (" conv  32\t3 ,relu\n", [["conv", "32", "3"], ["relu"]]),
        ("conv 8 3 pad same stride 2", [["conv", "8", "3", "pad=same", "stride=2"]]),
        ("conv 8 3 init he groups 4 pad 2", [["conv", "8", "3", "init=he", "groups=4", "pad=2"]]),
        ("maxpool 2 stride 1", [["maxpool", "2", "stride=1"]]),
        ("whiten 2, globalmax", [["whiten", "2"], ["globalmax"]]),
        ("dropout .25, dropout 0, dropout 0.5", [["dropout", ".25"], ["dropout", "0"], ["dropout", "0.5"]]),
        ("residual(relu, tanh)", [["residual", [["relu"], ["tanh"]]]]),
        ("2*(relu)", [["relu"], ["relu"]]),
        ("2 * (relu, 2 * (tanh)), gelu", [["relu"], ["tanh"], ["tanh"], ["relu"], ["tanh"], ["tanh"], ["gelu"]]),
        ("2 * (residual(relu))", [["residual", [["relu"]]], ["residual", [["relu"]]]]),
        ("residual(" * 10 + "relu" + ")" * 10, None),
        ("100 * (10 * (relu))", [["relu"]] * 1000),
        (", ".join(["residual(relu)"] * 12), [["residual", [["relu"]]]] * 12),
    ],
)
def test_lines_that_are_right(line: str, expected: list[object] | None) -> None:
    nodes = Parser(line).line()
    assert expected is None or tree(nodes) == expected


@pytest.mark.parametrize("word", KEYWORDS)
def test_the_example_of_every_word_is_right(word: str) -> None:
    (node,) = Parser(KEYWORDS[word].example).line()
    assert node.word.text == word
    assert len(node.values) == len(KEYWORDS[word].values)


LAYERS = (
    "layers are conv, whiten, batchnorm, relu, gelu, tanh, dropout, maxpool, minpool, avgpool, globalavg, globalmax, "
    "flatten, dense, residual(...) and N * (...)"
)
WHOLE = "must be a whole number from 1 to 1,000,000"
CONV = "'conv' takes number of filters and kernel size and may be followed by stride, pad, groups, init, so"

# the line, the message, and the words that it points at
WRONG_LINES = [
    # layer words
    ("con 32 3", f"unknown layer 'con': did you mean 'conv'? {LAYERS}", "con"),
    ("Conv 32 3", f"unknown layer 'Conv': did you mean 'conv'? {LAYERS}", "Conv"),
    ("relu, residuum(relu)", f"unknown layer 'residuum': did you mean 'residual'? {LAYERS}", "residuum"),
    ("relu, xyz, relu", f"unknown layer 'xyz': {LAYERS}", "xyz"),
    ("32 3", f"unknown layer '32': {LAYERS}", "32"),
    ("2 relu", f"unknown layer '2': {LAYERS}", "2"),
    ("1.5 * (relu)", f"unknown layer '1.5': {LAYERS}", "1.5"),
    ("größe 3", f"unknown layer 'größe': {LAYERS}", "größe"),
    ("relu ²", "'relu' takes no number, so '²' is one too many", "²"),
    ("relu 😀", "'😀' does not belong here: layers are separated by commas", "😀"),
    ("(relu)", f"unknown layer '(': {LAYERS}", "("),
    ("relu; tanh", "';' does not belong here: layers are separated by commas", ";"),
    ("conv 8 3 (relu)", "'(' does not belong here: layers are separated by commas", "("),
    ("flatten, dense 10, softmax",
     "'softmax' is not written: the classifier (dense classes, softmax) follows by itself", "softmax"),
    # layers that are missing
    ("", "a layer is missing at the end: write one", ""),
    ("   ", "a layer is missing at the end: write one", ""),
    ("relu,", "a layer is missing at the end: write one, or take the comma away", ""),
    (", relu", "a layer is missing before ',': write one, or take the comma away", ","),
    ("relu,, relu", "a layer is missing before ',': write one, or take the comma away", ","),
    ("residual(relu,)", "a layer is missing before ')': write one, or take the comma away", ")"),
    ("residual()", "a layer is missing before ')': write one", ")"),
    # values
    ("conv", "'conv': number of filters missing, as in 'conv 32 3'", "conv"),
    ("conv 32", "'conv 32': kernel size missing, as in 'conv 32 3'", "conv 32"),
    ("conv 32, relu", "'conv 32': kernel size missing, as in 'conv 32 3'", "conv 32"),
    ("conv 32 x", "'conv 32': kernel size missing, as in 'conv 32 3'", "conv 32"),
    ("conv 32 stride 2", "'conv 32': kernel size missing, as in 'conv 32 3'", "conv 32"),
    ("maxpool", "'maxpool': window size missing, as in 'maxpool 2'", "maxpool"),
    ("whiten", "'whiten': kernel size missing, as in 'whiten 2'", "whiten"),
    ("flatten, dense", "'dense': number of units missing, as in 'dense 100'", "dense"),
    ("dropout", "'dropout': rate missing, as in 'dropout 0.5'", "dropout"),
    ("conv 32 3 5", f"{CONV} '5' is one too many", "5"),
    ("conv 32 3 strid 2", f"{CONV} 'strid' is one too many", "strid"),
    ("conv 32 3 pad same valid", f"{CONV} 'valid' is one too many", "valid"),
    ("relu 3", "'relu' takes no number, so '3' is one too many", "3"),
    ("globalmax 2", "'globalmax' takes no number, so '2' is one too many", "2"),
    ("whiten 2 3", "'whiten' takes kernel size, so '3' is one too many", "3"),
    ("whiten 2 stride 2", "'whiten' takes kernel size, so 'stride' is one too many", "stride"),
    ("relu stride 2", "'relu' takes no number, so 'stride' is one too many", "stride"),
    ("dropout 0.5.1", "'dropout' takes rate, so '.1' is one too many", ".1"),
    ("maxpool 2 pad 1", "'maxpool' takes window size and may be followed by stride, so 'pad' is one too many", "pad"),
    ("conv 32 3 relu", "a comma is missing before 'relu'", "relu"),
    ("relu residual(relu)", "a comma is missing before 'residual'", "residual"),
    ("residual(relu) relu", "'relu' does not belong here: layers are separated by commas", "relu"),
    ("2 * (residual(relu) relu)", "'relu' does not belong here: layers are separated by commas", "relu"),
    # options
    ("conv 8 3 stride 1 stride 2", "'stride' is given twice for 'conv': keep one", "stride"),
    ("conv 8 3 pad", "'conv ... pad' needs same or valid or a whole number, not 'nothing'", "pad"),
    ("conv 8 3 pad full", "'conv ... pad' needs same or valid or a whole number, not 'full'", "pad full"),
    ("conv 8 3 pad -1", "'conv ... pad' needs same or valid or a whole number, not '-1'", "pad -1"),
    ("conv 8 3 stride", "'conv ... stride' needs a whole number, not 'nothing'", "stride"),
    ("conv 8 3 stride 1.5", "'conv ... stride' needs a whole number, not '1.5'", "stride 1.5"),
    ("conv 8 3 init 2", "'conv ... init' needs he or glorot or identity, not '2'", "init 2"),
    ("flatten, dense 5 init identity", "'dense ... init' needs he or glorot, not 'identity'", "init identity"),
    ("maxpool 2 stride same", "'maxpool ... stride' needs a whole number, not 'same'", "stride same"),
    # numbers
    ("conv 0 3", f"'0' {WHOLE}", "0"),
    ("conv 8 0", f"'0' {WHOLE}", "0"),
    ("conv 8.5 3", f"'8.5' {WHOLE}", "8.5"),
    ("conv -8 3", f"'-8' {WHOLE}", "-8"),
    ("conv 1000001 3", f"'1000001' {WHOLE}", "1000001"),
    ("whiten 0, flatten", f"'0' {WHOLE}", "0"),
    ("conv 8 3 stride 0", f"'0' {WHOLE}", "0"),
    ("conv 8 3 groups 0", f"'0' {WHOLE}", "0"),
    ("conv 8 3 pad 1000001", "'1000001' must be a whole number from 0 to 1,000,000", "1000001"),
    ("maxpool 2 stride 0", f"'0' {WHOLE}", "0"),
    ("flatten, dense 2.5", f"'2.5' {WHOLE}", "2.5"),
    ("conv 8 " + "9" * 5000, f"'{'9' * 5000}' {WHOLE}", "9" * 5000),
    # brackets and repeats
    ("relu)", "')' has no bracket that it closes", ")"),
    ("residual(relu))", "')' has no bracket that it closes", ")"),
    ("residual(relu", "this bracket is never closed: add ')' after its last layer", "("),
    ("2 * (residual(relu)", "this bracket is never closed: add ')' after its last layer", "("),
    ("residual", "'residual' needs layers in brackets, as in 'residual(conv 16 3 pad same, relu)'", "residual"),
    ("residual relu", "'residual' needs layers in brackets, as in 'residual(conv 16 3 pad same, relu)'", "residual"),
    ("3 * relu", "'3' needs layers in brackets, as in '3 * (conv 16 3 pad same, relu)'", "3"),
    ("3 *", "'3' needs layers in brackets, as in '3 * (conv 16 3 pad same, relu)'", "3"),
    ("0 * (relu)", "'0' must be a whole number from 1 to 100", "0"),
    ("101 * (relu)", "'101' must be a whole number from 1 to 100", "101"),
    ("relu, 100 * (11 * (relu))", "that makes 1,101 layers, and 1,000 are the most", "100"),
    ("100 * (10 * (relu)), tanh", "that makes 1,001 layers, and 1,000 are the most", "tanh"),
    ("100 * (residual(30 * (relu)))", "that makes 3,100 layers, and 1,000 are the most", "100"),
    ("residual(" * 11 + "relu" + ")" * 11, "brackets may be nested at most 10 deep", "residual"),
    ("residual(relu), " + "residual(" * 11 + "relu" + ")" * 11, "brackets may be nested at most 10 deep", "residual"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message", "words"), WRONG_LINES, ids=[line[:40] for line, *_ in WRONG_LINES])
def test_wrong_lines_point_at_the_word(line: str, message: str, words: str) -> None:
    with pytest.raises(ArchitectureError, match=f"^{re.escape(message)}$") as caught:
        parse_network(line)
    error = caught.value
    assert line[error.start : error.end] == words
    assert error.line == line
    assert isinstance(error, UsageError)
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("line", "caret"),
    [
        ("conv 8 3, relux", "          ^^^^^"),
        ("relu,, relu", "     ^"),
        ("residual(relu)) ", "              ^"),
        ("relu,", "     ^"),
        ("relu, conv 32 , relu", "      ^^^^^^^"),
        ("residual(" * 11 + "relu" + ")" * 11, " " * 90 + "^" * 8),
    ],
)
def test_the_pointer_stands_under_the_right_one_of_equal_words(line: str, caret: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        parse_network(line)
    assert caught.value.pointer == f"{line}\n{caret}"


PIECES = (
    *KEYWORDS,
    *"(),*",
    "residual",
    "stride",
    "pad",
    "groups",
    "init",
    "same",
    "he",
    "identity",
    "0",
    "2",
    "3",
    "0.5",
)
PHRASES = ("conv 2 3 pad same", "maxpool 2", "residual(", "2 * (", ", ", "dense 3")
WORD_SOUP = st.lists(st.sampled_from([*PIECES, *PHRASES]), max_size=12).map(" ".join)
DIGITS = st.text("0123456789.-", max_size=20).map(lambda digits: f"conv {digits} 3, flatten")


@many
@given(st.text(max_size=40) | WORD_SOUP | DIGITS)
def test_any_text_is_a_network_or_an_error_within_the_line(line: str) -> None:
    try:
        network = parse_network(line, (9, 7, 3), 4)
    except ArchitectureError as error:
        assert 0 <= error.start <= error.end <= len(line)
        assert str(error)
        assert len(str(error).splitlines()) == 1
    else:
        assert network.layers[-1].output_shape == (4,)
