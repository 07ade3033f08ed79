"""The grammar of the architecture language: text to syntax nodes, without shapes.

    architecture := item ("," item)*
    item         := NUMBER "*" "(" architecture ")"  |  KEYWORD "(" architecture ")"  |  KEYWORD value* option*

The parser takes the keywords as a table. Every error points at the wrong word and says what would be right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from convscope.errors import ArchitectureError

MAX_DEPTH = 10
MAX_LAYERS = 1_000
MAX_REPEATS = 100
MAX_NUMBER = 1_000_000  # a larger number is a typing error, not a layer
MAX_DIGITS = 9  # int() refuses thousands of digits
NUMBER_PATTERN = r"-?\d*\.?\d+(?:e-?\d+)?"
TOKEN_PATTERN = rf"[^\W\d]+|{NUMBER_PATTERN}|\S"  # of keywords without digits: `conv32 3` is `conv 32 3`
BODY_EXAMPLE = "(conv 16 3 pad same, relu)"


@dataclass(frozen=True)
class Option:
    """The values that an option accepts.

    Attributes:
        words: Accepted words.
        minimum: The smallest accepted whole number; None if the option takes no whole number.
        is_decimal: Whether any number is accepted; the layer checks it.
    """

    words: tuple[str, ...] = ()
    minimum: int | None = None
    is_decimal: bool = False

    def accepts(self, text: str) -> bool:
        """Whether a token may follow the option's name."""
        is_number = bool(re.fullmatch(NUMBER_PATTERN, text)) if self.is_decimal else text.isdecimal()
        return text in self.words or (is_number and (self.is_decimal or self.minimum is not None))

    @property
    def expected(self) -> str:
        """What may follow the option's name, for messages."""
        whole = ["a whole number"] if self.minimum is not None else []
        return " or ".join([*self.words, *whole, *(["a number"] if self.is_decimal else [])])


@dataclass(frozen=True, kw_only=True)
class Syntax:
    """What may follow a keyword.

    Attributes:
        example: A correct layer with this keyword.
        values: The meaning of each number after the keyword, in order.
        options: The options by name.
        has_body: Whether layers in parentheses follow instead.
    """

    example: str
    values: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    has_body: bool = False


@dataclass(frozen=True)
class Token:
    """A word, number or sign, and its offset in the architecture."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """Offset of the first character after the token."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class Node:
    """One layer as written: its keyword, values, options and, for a block, the layers in its parentheses."""

    keyword: Token
    last_token: Token
    values: tuple[Token, ...] = ()
    options: tuple[tuple[str, Token], ...] = ()
    body: tuple[Node, ...] = ()

    @property
    def layer_count(self) -> int:
        """This layer and all layers in its body."""
        return 1 + sum(node.layer_count for node in self.body)

    def option(self, name: str) -> Token | None:
        """The value of an option, or None if it is not given."""
        return dict(self.options).get(name)


def source_of(architecture: str, node: Node) -> str:
    """The text of one layer, as written."""
    return architecture[node.keyword.start : node.last_token.end]


def fail_at(architecture: str, first: Token, last: Token, message: str) -> NoReturn:
    """Raise an ArchitectureError that points at the tokens from `first` to `last`."""
    raise ArchitectureError(message, architecture, first.start, last.end)


def whole_number(architecture: str, token: Token, minimum: int, maximum: int = MAX_NUMBER) -> int:
    """The value of a token.

    Raises:
        ArchitectureError: If it is no whole number from `minimum` to `maximum`.
    """
    is_number = token.text.isdecimal() and len(token.text) <= MAX_DIGITS
    if not is_number or not minimum <= int(token.text) <= maximum:
        message = f"expected a whole number from {minimum:,} to {maximum:,}, got {token.text!r}"
        fail_at(architecture, token, token, message)
    return int(token.text)


class Parser:
    """Recursive-descent parser.

    Args:
        architecture: The text to parse.
        keywords: The syntax of each keyword.
    """

    def __init__(self, architecture: str, keywords: Mapping[str, Syntax]) -> None:
        self.architecture = architecture
        self.keywords = keywords
        with_digits = [rf"{word}(?!\w)|" for word in keywords if not word.isalpha()]
        matches = re.finditer("".join(with_digits) + TOKEN_PATTERN, architecture)
        self.tokens = [Token(match.group(), match.start()) for match in matches]
        self.tokens.append(Token("", len(architecture)))
        self.position = 0
        self.depth = 0

    def parse(self) -> tuple[Node, ...]:
        """The layers of the architecture, repetitions written out.

        Raises:
            ArchitectureError: If the text does not follow the grammar.
        """
        nodes = self._layers()
        if self._next.text == ")":
            self._fail(self._next, "unmatched ')': remove it, or add '(' before")
        return nodes

    @property
    def _next(self) -> Token:
        return self.tokens[self.position]

    @property
    def _previous(self) -> Token:
        return self.tokens[self.position - 1]

    def _take(self) -> Token:
        self.position += 1
        return self._previous

    def _layers(self) -> tuple[Node, ...]:
        """Layers and commas up to a closing parenthesis or the end."""
        nodes: list[Node] = []
        count = 0
        while True:
            first = self._next
            added = self._item()
            count += sum(node.layer_count for node in added)
            if count > MAX_LAYERS:
                self._fail(first, f"{count:,} layers exceed the limit of {MAX_LAYERS:,}")
            nodes += added
            if self._next.text in ("", ")"):
                return tuple(nodes)
            if self._next.text != ",":
                self._fail_misplaced(self._next)
            self._take()

    def _item(self) -> tuple[Node, ...]:
        word = self._take()
        if word.text.isdecimal() and self._next.text == "*":
            self._take()
            return self._body(word) * whole_number(self.architecture, word, 1, MAX_REPEATS)
        if word.text not in self.keywords:
            self._fail_unknown(word)
        if self.keywords[word.text].has_body:
            body = self._body(word)
            return (Node(word, self._previous, body=body),)
        return (self._layer(word),)

    def _body(self, owner: Token) -> tuple[Node, ...]:
        """The layers in parentheses after a keyword or after `N *`."""
        opening = self._take()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self._fail(owner, f"parentheses may be nested at most {MAX_DEPTH} deep")
        if opening.text != "(":
            prefix = owner.text if owner.text in self.keywords else f"{owner.text} * "
            self._fail(owner, f"{owner.text!r} needs layers in parentheses, as in '{prefix}{BODY_EXAMPLE}'")
        nodes = self._layers()
        if self._next.text != ")":
            self._fail(opening, "unclosed '(': add ')' after its last layer")
        self._take()
        self.depth -= 1
        return nodes

    def _layer(self, word: Token) -> Node:
        syntax = self.keywords[word.text]
        values: list[Token] = []
        for meaning in syntax.values:
            if not re.fullmatch(NUMBER_PATTERN, self._next.text):
                source = self.architecture[word.start : self._previous.end]
                message = f"{source!r} lacks the {meaning}: write it as in {syntax.example!r}"
                self._fail(word, message, self._previous)
            values.append(self._take())
        options: dict[str, Token] = {}
        while self._next.text not in ("", ",", ")"):
            name = self._take()
            if name.text not in syntax.options or name.text in options:
                self._fail_unexpected(word, name, options)
            options[name.text] = self._option_value(word, name)
        return Node(word, self._previous, tuple(values), tuple(options.items()))

    def _option_value(self, word: Token, name: Token) -> Token:
        option = self.keywords[word.text].options[name.text]
        if not option.accepts(self._next.text):
            got = repr(self._next.text) if self._next.text else "nothing"
            self._fail(name, f"option {name.text!r} of {word.text!r} must be {option.expected}, got {got}", self._next)
        return self._take()

    def _fail_unknown(self, word: Token) -> NoReturn:
        if word.text in ("", ",", ")"):
            place = f"before {word.text!r}" if word.text else "at the end"
            after_comma = "," in (word.text, self.tokens[self.position - 2].text)
            self._fail(word, f"expected a layer {place}: add one{' or remove the comma' if after_comma else ''}")
        if word.text == "softmax":
            self._fail(word, "'softmax' is added automatically with the classifier: remove it")
        similar = difflib.get_close_matches(word.text.lower(), self.keywords, 1)
        hint = f"did you mean {similar[0]!r}? " if similar else ""
        names = [f"{name}(...)" if syntax.has_body else name for name, syntax in self.keywords.items()]
        self._fail(word, f"unknown layer {word.text!r}: {hint}layers are {', '.join(names)} and N * (...)")

    def _fail_unexpected(self, word: Token, found: Token, given: Mapping[str, Token]) -> NoReturn:
        if found.text in given:
            self._fail(found, f"option {found.text!r} of {word.text!r} is given twice: keep one")
        if found.text in self.keywords:
            self._fail(found, f"expected a comma before {found.text!r}")
        if not re.search(r"\w", found.text):
            self._fail_misplaced(found)
        syntax = self.keywords[word.text]
        expected = " and ".join(syntax.values) or "no values"
        options = f" and the options {', '.join(syntax.options)}" if syntax.options else ""
        self._fail(found, f"unexpected {found.text!r}: {word.text!r} takes {expected}{options}")

    def _fail_misplaced(self, found: Token) -> NoReturn:
        self._fail(found, f"unexpected {found.text!r}: separate layers with commas")

    def _fail(self, first: Token, message: str, last: Token | None = None) -> NoReturn:
        fail_at(self.architecture, first, last or first, message)
