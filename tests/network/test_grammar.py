"""The grammar of the architecture language: what it accepts, and which error it reports at which word."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convscope.errors import ArchitectureError, UsageError
from convscope.network.build import parse_network
from convscope.network.grammar import Node, Parser
from convscope.network.keywords import KEYWORDS
from helpers.networks import many_examples


def as_lists(nodes: tuple[Node, ...]) -> list[object]:
    """Nodes as nested lists of their texts."""
    return [
        [node.keyword.text, *(value.text for value in node.values),
         *(f"{name}={value.text}" for name, value in node.options), *([as_lists(node.body)] if node.body else [])]
        for node in nodes
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("relu", [["relu"]]),
        ("conv 32 3, relu", [["conv", "32", "3"], ["relu"]]),
        (" conv  32\t3 ,relu\n", [["conv", "32", "3"], ["relu"]]),
        ("conv 8 3 pad same stride 2", [["conv", "8", "3", "pad=same", "stride=2"]]),
        ("conv 8 3 init he groups 4 pad 2", [["conv", "8", "3", "init=he", "groups=4", "pad=2"]]),
        ("maxpool 2 stride 1", [["maxpool", "2", "stride=1"]]),
        ("maxpool 3 stride 2 pad 1", [["maxpool", "3", "stride=2", "pad=1"]]),
        ("relu6, conv8 3, maxpool2", [["relu6"], ["conv", "8", "3"], ["maxpool", "2"]]),
        (
            "batchnorm eps 0.001, batchnorm eps 1e-3, batchnorm eps 1",
            [
                ["batchnorm", "eps=0.001"],
                ["batchnorm", "eps=1e-3"],
                ["batchnorm", "eps=1"],
            ],
        ),
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
def test_parse_correct_architecture_returns_nodes(architecture: str, expected: list[object] | None) -> None:
    nodes = Parser(architecture, KEYWORDS).parse()
    assert expected is None or as_lists(nodes) == expected


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_parse_example_of_keyword_returns_its_values(keyword: str) -> None:
    (node,) = Parser(KEYWORDS[keyword].example, KEYWORDS).parse()
    if keyword == "shortcut":  # an example is a whole layer
        node = node.body[-1]
    assert node.keyword.text == keyword
    assert len(node.values) == len(KEYWORDS[keyword].values)
    assert bool(node.body) == KEYWORDS[keyword].has_body


NAMES = ", ".join(f"{name}(...)" if keyword.has_body else name for name, keyword in KEYWORDS.items())
LAYERS = f"layers are {NAMES} and N * (...)"
FROM_1 = "expected a whole number from 1 to 1,000,000, got"
REPEATS = "expected a whole number from 1 to 100, got"
CONV_TAKES = "'conv' takes number of filters and kernel size and the options stride, pad, groups, init"
COMMAS = "separate layers with commas"
IN_PARENTHESES = "needs layers in parentheses, as in"

# (architecture, message, the words it points at)
SYNTAX_ERRORS = [
    # unknown layers
    ("con 32 3", f"unknown layer 'con': did you mean 'conv'? {LAYERS}", "con"),
    ("Conv 32 3", f"unknown layer 'Conv': did you mean 'conv'? {LAYERS}", "Conv"),
    ("relu, residuum(relu)", f"unknown layer 'residuum': did you mean 'residual'? {LAYERS}", "residuum"),
    ("relu, xyz, relu", f"unknown layer 'xyz': {LAYERS}", "xyz"),
    ("32 3", f"unknown layer '32': {LAYERS}", "32"),
    ("2 relu", f"unknown layer '2': {LAYERS}", "2"),
    ("1.5 * (relu)", f"unknown layer '1.5': {LAYERS}", "1.5"),
    ("größe 3", f"unknown layer 'größe': {LAYERS}", "größe"),
    ("(relu)", f"unknown layer '(': {LAYERS}", "("),
    ("flatten, dense 10, softmax",
     "'softmax' is added automatically with the classifier: remove it", "softmax"),
    # unexpected signs
    ("relu ²", "unexpected '²': 'relu' takes no values", "²"),
    ("relu 😀", f"unexpected '😀': {COMMAS}", "😀"),
    ("relu; tanh", f"unexpected ';': {COMMAS}", ";"),
    ("conv 8 3 (relu)", f"unexpected '(': {COMMAS}", "("),
    # missing layers
    ("", "expected a layer at the end: add one", ""),
    ("   ", "expected a layer at the end: add one", ""),
    ("relu,", "expected a layer at the end: add one or remove the comma", ""),
    (", relu", "expected a layer before ',': add one or remove the comma", ","),
    ("relu,, relu", "expected a layer before ',': add one or remove the comma", ","),
    ("residual(relu,)", "expected a layer before ')': add one or remove the comma", ")"),
    ("residual()", "expected a layer before ')': add one", ")"),
    # values
    ("conv", "'conv' lacks the number of filters: write it as in 'conv 32 3'", "conv"),
    ("conv 32", "'conv 32' lacks the kernel size: write it as in 'conv 32 3'", "conv 32"),
    ("conv 32, relu", "'conv 32' lacks the kernel size: write it as in 'conv 32 3'", "conv 32"),
    ("conv 32 x", "'conv 32' lacks the kernel size: write it as in 'conv 32 3'", "conv 32"),
    ("conv 32 stride 2", "'conv 32' lacks the kernel size: write it as in 'conv 32 3'", "conv 32"),
    ("maxpool", "'maxpool' lacks the window size: write it as in 'maxpool 2'", "maxpool"),
    ("whiten", "'whiten' lacks the kernel size: write it as in 'whiten 2'", "whiten"),
    ("flatten, dense", "'dense' lacks the number of units: write it as in 'dense 100'", "dense"),
    ("dropout", "'dropout' lacks the rate: write it as in 'dropout 0.5'", "dropout"),
    ("conv 32 3 5", f"unexpected '5': {CONV_TAKES}", "5"),
    ("conv 32 3 strid 2", f"unexpected 'strid': {CONV_TAKES}", "strid"),
    ("conv 32 3 pad same valid", f"unexpected 'valid': {CONV_TAKES}", "valid"),
    ("relu 3", "unexpected '3': 'relu' takes no values", "3"),
    ("relu 6", "unexpected '6': 'relu' takes no values", "6"),
    ("relu61", "unexpected '61': 'relu' takes no values", "61"),
    ("leakyrelu6", "unexpected '6': 'leakyrelu' takes no values", "6"),
    ("batchnorm 0.001", "unexpected '0.001': 'batchnorm' takes no values and the options eps", "0.001"),
    ("globalmax 2", "unexpected '2': 'globalmax' takes no values", "2"),
    ("whiten 2 3", "unexpected '3': 'whiten' takes kernel size", "3"),
    ("whiten 2 stride 2", "unexpected 'stride': 'whiten' takes kernel size", "stride"),
    ("relu stride 2", "unexpected 'stride': 'relu' takes no values", "stride"),
    ("dropout 0.5.1", "unexpected '.1': 'dropout' takes rate", ".1"),
    ("maxpool 2 init he", "unexpected 'init': 'maxpool' takes window size and the options stride, pad", "init"),
    ("conv 32 3 relu", "expected a comma before 'relu'", "relu"),
    ("relu residual(relu)", "expected a comma before 'residual'", "residual"),
    ("residual(relu) relu", f"unexpected 'relu': {COMMAS}", "relu"),
    ("2 * (residual(relu) relu)", f"unexpected 'relu': {COMMAS}", "relu"),
    # options
    ("conv 8 3 stride 1 stride 2", "option 'stride' of 'conv' is given twice: keep one", "stride"),
    ("conv 8 3 pad", "option 'pad' of 'conv' must be same or valid or a whole number, got nothing", "pad"),
    ("conv 8 3 pad full", "option 'pad' of 'conv' must be same or valid or a whole number, got 'full'", "pad full"),
    ("conv 8 3 pad -1", "option 'pad' of 'conv' must be same or valid or a whole number, got '-1'", "pad -1"),
    ("conv 8 3 stride", "option 'stride' of 'conv' must be a whole number, got nothing", "stride"),
    ("conv 8 3 stride 1.5", "option 'stride' of 'conv' must be a whole number, got '1.5'", "stride 1.5"),
    ("conv 8 3 init 2", "option 'init' of 'conv' must be he or glorot or identity, got '2'", "init 2"),
    ("flatten, dense 5 init identity", "option 'init' of 'dense' must be he or glorot, got 'identity'",
     "init identity"),
    ("batchnorm eps", "option 'eps' of 'batchnorm' must be a number, got nothing", "eps"),
    ("batchnorm eps tiny", "option 'eps' of 'batchnorm' must be a number, got 'tiny'", "eps tiny"),
    ("maxpool 2 stride same", "option 'stride' of 'maxpool' must be a whole number, got 'same'", "stride same"),
    # numbers
    ("conv 0 3", f"{FROM_1} '0'", "0"),
    ("conv 8 0", f"{FROM_1} '0'", "0"),
    ("conv 8.5 3", f"{FROM_1} '8.5'", "8.5"),
    ("conv -8 3", f"{FROM_1} '-8'", "-8"),
    ("conv 1000001 3", f"{FROM_1} '1000001'", "1000001"),
    ("whiten 0, flatten", f"{FROM_1} '0'", "0"),
    ("conv 8 3 stride 0", f"{FROM_1} '0'", "0"),
    ("conv 8 3 groups 0", f"{FROM_1} '0'", "0"),
    ("conv 8 3 pad 1000001", "expected a whole number from 0 to 1,000,000, got '1000001'", "1000001"),
    ("maxpool 2 stride 0", f"{FROM_1} '0'", "0"),
    ("conv 8 3 stride 1e3", "option 'stride' of 'conv' must be a whole number, got '1e3'", "stride 1e3"),
    ("batchnorm eps 0", "expected a number from 1e-12 to 1, got '0'", "0"),
    ("batchnorm eps -0.1", "expected a number from 1e-12 to 1, got '-0.1'", "-0.1"),
    ("batchnorm eps 1e99999", "expected a number from 1e-12 to 1, got '1e99999'", "1e99999"),
    ("flatten, dense 2.5", f"{FROM_1} '2.5'", "2.5"),
    ("conv 8 " + "9" * 5000, f"{FROM_1} '{'9' * 5000}'", "9" * 5000),
    # parentheses and repetitions
    ("relu)", "unmatched ')': remove it, or add '(' before", ")"),
    ("residual(relu))", "unmatched ')': remove it, or add '(' before", ")"),
    ("residual(relu", "unclosed '(': add ')' after its last layer", "("),
    ("2 * (residual(relu)", "unclosed '(': add ')' after its last layer", "("),
    ("residual", f"'residual' {IN_PARENTHESES} 'residual(conv 16 3 pad same, relu)'", "residual"),
    ("residual relu", f"'residual' {IN_PARENTHESES} 'residual(conv 16 3 pad same, relu)'", "residual"),
    ("3 * relu", f"'3' {IN_PARENTHESES} '3 * (conv 16 3 pad same, relu)'", "3"),
    ("3 *", f"'3' {IN_PARENTHESES} '3 * (conv 16 3 pad same, relu)'", "3"),
    ("0 * (relu)", f"{REPEATS} '0'", "0"),
    ("101 * (relu)", f"{REPEATS} '101'", "101"),
    ("relu, 100 * (11 * (relu))", "1,101 layers exceed the limit of 1,000", "100"),
    ("100 * (10 * (relu)), tanh", "1,001 layers exceed the limit of 1,000", "tanh"),
    ("100 * (residual(30 * (relu)))", "3,100 layers exceed the limit of 1,000", "100"),
    ("residual(" * 11 + "relu" + ")" * 11, "parentheses may be nested at most 10 deep", "residual"),
    ("residual(relu), " + "residual(" * 11 + "relu" + ")" * 11, "parentheses may be nested at most 10 deep",
     "residual"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "message", "words"), SYNTAX_ERRORS, ids=[architecture[:40] for architecture, *_ in SYNTAX_ERRORS]
)
def test_parse_wrong_architecture_error_points_at_the_word(architecture: str, message: str, words: str) -> None:
    with pytest.raises(ArchitectureError, match=f"^{re.escape(message)}$") as caught:
        parse_network(architecture)
    error = caught.value
    assert architecture[error.start : error.end] == words
    assert error.architecture == architecture
    assert isinstance(error, UsageError)
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("architecture", "caret"),
    [
        ("conv 8 3, relux", "          ^^^^^"),
        ("relu,, relu", "     ^"),
        ("residual(relu)) ", "              ^"),
        ("relu,", "     ^"),
        ("relu, conv 32 , relu", "      ^^^^^^^"),
        ("residual(" * 11 + "relu" + ")" * 11, " " * 90 + "^" * 8),
    ],
)
def test_pointer_word_occurs_twice_marks_the_wrong_one(architecture: str, caret: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        parse_network(architecture)
    assert caught.value.pointer == f"{architecture}\n{caret}"


WORDS = (
    *KEYWORDS,
    *"(),*",
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
    "eps",
    "1e-3",
)
PHRASES = ("conv 2 3 pad same", "maxpool 2", "residual(", "2 * (", ", ", "dense 3")
WORD_SOUP = st.lists(st.sampled_from([*WORDS, *PHRASES]), max_size=12).map(" ".join)
DIGITS = st.text("0123456789.-", max_size=20).map(lambda digits: f"conv {digits} 3, flatten")


@many_examples
@given(st.text(max_size=40) | WORD_SOUP | DIGITS)
def test_parse_any_text_returns_a_network_or_raises_an_error_inside_the_text(text: str) -> None:
    try:
        network = parse_network(text, (9, 7, 3), 4)
    except ArchitectureError as error:
        assert 0 <= error.start <= error.end <= len(text)
        assert str(error)
        assert len(str(error).splitlines()) == 1
    else:
        assert network.layers[-1].output_shape == (4,)
