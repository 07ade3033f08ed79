"""The grammar of the architecture language: text -> nodes, without shapes.

    line   := item ("," item)*
    item   := NUMBER "*" "(" line ")"  |  "residual" "(" line ")"  |  WORD value* option*

The words are the keys of `KEYWORDS`. Every error points at the word that is wrong and says what would be right.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import NoReturn

from convscope.errors import ArchitectureError


@dataclass(frozen=True)
class Word:
    """What may follow a layer word: its values in order, its options, and an example that is right."""

    values: tuple[str, ...]
    options: tuple[str, ...]
    example: str


KEYWORDS: dict[str, Word] = {
    "conv": Word(("number of filters", "kernel size"), ("stride", "pad", "groups", "init"), "conv 32 3"),
    "whiten": Word(("kernel size",), (), "whiten 2"),
    "batchnorm": Word((), (), "batchnorm"),
    "relu": Word((), (), "relu"),
    "gelu": Word((), (), "gelu"),
    "tanh": Word((), (), "tanh"),
    "dropout": Word(("rate",), (), "dropout 0.5"),
    "maxpool": Word(("window size",), ("stride",), "maxpool 2"),
    "minpool": Word(("window size",), ("stride",), "minpool 2"),
    "avgpool": Word(("window size",), ("stride",), "avgpool 2"),
    "globalavg": Word((), (), "globalavg"),
    "globalmax": Word((), (), "globalmax"),
    "flatten": Word((), (), "flatten"),
    "dense": Word(("number of units",), ("init",), "dense 100"),
}
OPTION_KEYWORDS: dict[str, tuple[str, ...]] = {
    "conv pad": ("same", "valid"),
    "conv init": ("he", "glorot", "identity"),
    "dense init": ("he", "glorot"),
}
MAX_DEPTH = 10
MAX_LAYERS = 1_000
MAX_NUMBER = 1_000_000  # any number in a line: beyond it is a typing slip, not a layer
NUMBER = r"-?\d*\.?\d+"


@dataclass(frozen=True)
class Token:
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True)
class Node:
    """One word of the line with what follows it, before shapes are known. `body` is a residual block's inside."""

    word: Token
    last: Token
    values: tuple[Token, ...] = ()
    options: tuple[tuple[str, Token], ...] = ()
    body: tuple[Node, ...] = ()

    @property
    def size(self) -> int:
        """Layers that this node makes, those inside it included."""
        return 1 + sum(node.size for node in self.body)

    def option(self, name: str) -> Token | None:
        return dict(self.options).get(name)


def fail_at(line: str, first: Token, last: Token, message: str) -> NoReturn:
    raise ArchitectureError(message, line, first.start, last.end)


def written(line: str, node: Node) -> str:
    return line[node.word.start : node.last.end]


def whole_number(line: str, token: Token, low: int, high: int = MAX_NUMBER) -> int:
    digits = token.text.isdecimal() and len(token.text) <= 9  # int() refuses thousands of digits
    if not digits or not low <= int(token.text) <= high:
        fail_at(line, token, token, f"{token.text!r} must be a whole number from {low} to {high:,}")
    return int(token.text)


class Parser:
    """Text -> nodes, by recursive descent over tokens that know their offset."""

    def __init__(self, text: str) -> None:
        self.text = text
        pattern = rf"[^\W\d]+|{NUMBER}|\S"
        self.tokens = [Token(m.group(), m.start()) for m in re.finditer(pattern, text)]
        self.tokens.append(Token("", len(text)))
        self.at = 0
        self.depth = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def line(self) -> tuple[Node, ...]:
        nodes = self.items()
        if self.token.text == ")":
            self.fail(self.token, "')' has no bracket that it closes")
        return nodes

    def items(self) -> tuple[Node, ...]:
        """Layers and commas up to a closing bracket or the end of the line."""
        nodes: list[Node] = []
        size = 0
        while True:
            first = self.token
            found = self.item()
            size += sum(node.size for node in found)
            if size > MAX_LAYERS:
                self.fail(first, f"that makes {size:,} layers, and {MAX_LAYERS:,} are the most")
            nodes += found
            if self.token.text in ("", ")"):
                return tuple(nodes)
            if self.token.text != ",":
                self.misplaced(self.token)
            self.take()

    def item(self) -> tuple[Node, ...]:
        word = self.take()
        if word.text.isdecimal() and self.token.text == "*":
            self.take()
            return self.bracket(word) * whole_number(self.text, word, 1, 100)
        if word.text == "residual":
            body = self.bracket(word)
            return (Node(word, self.tokens[self.at - 1], body=body),)
        if word.text not in KEYWORDS:
            self.unknown(word)
        return (self.layer(word),)

    def bracket(self, owner: Token) -> tuple[Node, ...]:
        opening = self.take()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(owner, f"brackets may be nested at most {MAX_DEPTH} deep")
        if opening.text != "(":
            before = "residual" if owner.text == "residual" else f"{owner.text} * "
            self.fail(owner, f"{owner.text!r} needs layers in brackets, as in '{before}(conv 16 3 pad same, relu)'")
        nodes = self.items()
        if self.token.text != ")":
            self.fail(opening, "this bracket is never closed: add ')' after its last layer")
        self.take()
        self.depth -= 1
        return nodes

    def layer(self, word: Token) -> Node:
        allowed = KEYWORDS[word.text]
        values: list[Token] = []
        for meaning in allowed.values:
            if not re.fullmatch(NUMBER, self.token.text):
                written = self.text[word.start : self.tokens[self.at - 1].end]
                self.fail(word, f"{written!r}: {meaning} missing, as in {allowed.example!r}", self.tokens[self.at - 1])
            values.append(self.take())
        options: dict[str, Token] = {}
        while self.token.text not in ("", ",", ")"):
            name = self.take()
            if name.text not in allowed.options or name.text in options:
                self.unexpected(word, name, tuple(options))
            options[name.text] = self.option_value(word, name)
        return Node(word, self.tokens[self.at - 1], tuple(values), tuple(options.items()))

    def option_value(self, word: Token, name: Token) -> Token:
        words = OPTION_KEYWORDS.get(f"{word.text} {name.text}", ())
        number_allowed = name.text != "init"
        if self.token.text not in words and not (number_allowed and self.token.text.isdecimal()):
            expected = " or ".join((*words, "a whole number") if number_allowed else words)
            self.fail(
                name,
                f"'{word.text} ... {name.text}' needs {expected}, not {self.token.text or 'nothing'!r}",
                self.token,
            )
        return self.take()

    def unknown(self, word: Token) -> NoReturn:
        if word.text in ("", ",", ")"):
            where = f"before {word.text!r}" if word.text else "at the end"
            comma = "," in (word.text, self.tokens[self.at - 2].text)
            self.fail(word, f"a layer is missing {where}: write one{', or take the comma away' if comma else ''}")
        if word.text == "softmax":
            self.fail(word, "'softmax' is not written: the classifier (dense classes, softmax) follows by itself")
        near = difflib.get_close_matches(word.text.lower(), [*KEYWORDS, "residual"], 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        self.fail(
            word, f"unknown layer {word.text!r}: {hint}layers are {', '.join(KEYWORDS)}, residual(...) and N * (...)"
        )

    def unexpected(self, word: Token, found: Token, given: tuple[str, ...]) -> NoReturn:
        allowed = KEYWORDS[word.text]
        if found.text in given:
            self.fail(found, f"{found.text!r} is given twice for {word.text!r}: keep one")
        if found.text in KEYWORDS or found.text == "residual":
            self.fail(found, f"a comma is missing before {found.text!r}")
        if not re.search(r"\w", found.text):
            self.misplaced(found)
        options = f" and may be followed by {', '.join(allowed.options)}" if allowed.options else ""
        values = " and ".join(allowed.values) or "no number"
        self.fail(found, f"{word.text!r} takes {values}{options}, so {found.text!r} is one too many")

    def misplaced(self, found: Token) -> NoReturn:
        self.fail(found, f"{found.text!r} does not belong here: layers are separated by commas")

    def fail(self, first: Token, message: str, last: Token | None = None) -> NoReturn:
        fail_at(self.text, first, last or first, message)
