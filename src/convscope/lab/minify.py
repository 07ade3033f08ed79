"""Smaller scripts: without comments and needless spaces and signs, and with short names for local variables.

Statements must end with semicolons, as those of the page do.

A name becomes a short one everywhere in a script, if the script declares it and it is nowhere a property, a key of an
object, part of a pattern such as `{width}`, or a member of a class. So no analysis of scopes is needed. Names that
begin with $ stay.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import count, pairwise, product
from string import ascii_letters

_TOKEN = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    |(?P<name>[A-Za-z_$][\w$]*)
    |(?P<number>\d[\w.]*)
    |(?P<space>(?:\s|//[^\n]*|/\*.*?\*/)+)
    |(?P<sign>=>|\?\.(?!\d)|\.\.\.|\+\+|--|.)""",
    re.VERBOSE | re.DOTALL,
)
_REGEX = re.compile(r"/(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\[])+/[a-z]*")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_DECLARING = {"const", "let", "function", "class"}
_NO_METHOD = {"if", "for", "while", "switch", "catch", "function", "return"}
_RESERVED = set(
    re.findall(
        r"\w+",
        """arguments as async await break case catch class const constructor continue default delete do else export
        extends false finally for from function get if import in instanceof let new null of return set static super
        switch this throw true try typeof undefined var void while with yield NaN Infinity""",
    )
)

Token = tuple[str, str]  # kind, text


def minify_script(script: str) -> str:
    """A script that does the same, with fewer bytes; it may hold no labels, and no names made of strings."""
    tokens = [token for token in _tokens(script, 0)[0] if token[0] != "space"]
    short = _short_names(tokens)
    texts = _tighten([(kind, short.get(text, text) if kind == "name" else text) for kind, text in tokens])
    return "".join(text + " " * _needs_space(text, after) for text, after in pairwise([*texts, ";"]))


def _tighten(tokens: list[Token]) -> list[str]:
    """Leave out needless signs: one `const` for consecutive declarations, no comma or semicolon before a bracket."""
    found: list[str] = []
    declares = [""]  # for each open bracket, the word that declares if the statement in it is a declaration
    for kind, text in tokens:
        before = found[-1] if found else ";"
        if kind == "sign" and text in _CLOSING:
            declares[-1:] = ["" if before == ";" else declares[-1], ""]
        elif kind == "sign" and text in _CLOSING.values():
            declares.pop()
            if before == "," or (before == ";" and text == "}"):
                found.pop()
        elif text == "=>" and before == ")" and found[-3] == "(" != found[-2]:
            found[-3:] = [found[-2]]
        elif text in ("const", "let") and before == ";" and declares[-1] == text:
            found[-1] = ","
            continue
        elif before == ";" or (before in ("{", "}") and kind == "name" and text != "of"):
            declares[-1] = text if text in ("const", "let") else ""
        found.append(text)
    return found


def _needs_space(before: str, after: str) -> bool:
    """Whether two tokens without a space would be read as others."""
    left, right = before[-1:], after[:1]
    is_word = (left.isalnum() or left in "_$") and (right.isalnum() or right in "_$")
    return is_word or (left in "+-" and left == right)


def _tokens(script: str, at: int, until: str = "") -> tuple[list[Token], int]:
    """The tokens up to a closing brace that ends the expression of a template; templates are split into theirs."""
    found: list[Token] = []
    depth = 0
    while at < len(script):
        if script[at] == "`":
            parts, at = _template(script, at)
            found += parts
            continue
        is_comment = script.startswith(("//", "/*"), at)
        match = _REGEX.match(script, at) if script[at] == "/" and not is_comment and _begins_value(found) else None
        kind = "text" if match else ""
        match = match or _TOKEN.match(script, at)
        assert match
        if match[0] == until and depth == 0:
            return found, at
        depth += (match[0] in "{") - (match[0] in "}") if len(match[0]) == 1 else 0
        found.append((kind or str(match.lastgroup), match[0]))
        at = match.end()
    return found, at


def _begins_value(before: list[Token]) -> bool:
    """Whether a slash is that of a regular expression, not of a division."""
    last = next((token for token in reversed(before) if token[0] != "space"), ("sign", ""))
    return last[1] == "return" or (last[0] == "sign" and last[1] not in (")", "]", "}"))


def _template(script: str, at: int) -> tuple[list[Token], int]:
    found: list[Token] = []
    start, at = at, at + 1
    while script[at] != "`":
        if script.startswith("${", at):
            found.append(("text", script[start : at + 2]))
            inner, at = _tokens(script, at + 2, "}")
            found += inner
            start = at
        at += 2 if script[at] == "\\" else 1
    found.append(("text", script[start : at + 1]))
    return found, at + 1


def _short_names(tokens: list[Token]) -> dict[str, str]:
    """Short names by those that they replace, the most frequent ones first."""
    names = Counter(text for kind, text in tokens if kind == "name")
    chosen = {name for name in _declared(tokens) - _fixed(tokens) - _RESERVED if not name.startswith("$")}
    fresh = (name for name in _letters() if name not in names and name not in _RESERVED)
    order = sorted(chosen, key=lambda name: (-names[name] * (len(name) - 1), name))
    return {name: new for name in order if len(new := next(fresh)) < len(name)}


def _letters() -> Iterator[str]:
    """a, b, ... Z, aa, ab, ..."""
    for length in count(1):
        yield from ("".join(letters) for letters in product(ascii_letters, repeat=length))


def _declared(code: list[Token]) -> set[str]:
    """Names after const, let, function and class, and those of parameters."""
    found: set[str] = set()
    for at, (_, text) in enumerate(code):
        before = code[at - 1][1] if at else ""
        if before in _DECLARING or (before == "*" and code[at - 2][1] == "function") or _next(code, at) == "=>":
            end = _end(code, at) if text in _CLOSING else at
            found |= {name for kind, name in code[at : end + 1] if kind == "name"}
        elif text == "(":
            end = _end(code, at)
            follows = _next(code, end)
            if follows == "=>" or (follows == "{" and before not in _NO_METHOD):
                found |= {name for kind, name in code[at : end + 1] if kind == "name"}
    return found


def _fixed(code: list[Token]) -> set[str]:
    """Names of properties, keys, parts of patterns and methods."""
    found: set[str] = set()
    inside: list[str] = []
    for at, (kind, text) in enumerate(code):
        if text in _CLOSING and kind == "sign":
            is_class = text == "{" and "class" in (code[at - 2][1], code[at - 4][1])
            inside.append("class" if is_class else text)
        elif text in _CLOSING.values() and kind == "sign":
            inside.pop()
        if kind != "name":
            continue
        before, after = code[at - 1][1] if at else "", _next(code, at)
        in_braces = bool(inside) and inside[-1] == "{"
        is_key = after == ":" or (in_braces and before in ("{", ",") and after in (",", "}", "="))
        is_member = bool(inside) and inside[-1] == "class"
        is_method = after == "(" and _next(code, _end(code, at + 1)) == "{" and before != "function"
        if before in (".", "?.") or is_key or is_member or is_method:
            found.add(text)
    return found


def _next(code: list[Token], at: int) -> str:
    return code[at + 1][1] if at + 1 < len(code) else ""


def _end(code: list[Token], at: int) -> int:
    """The place of the bracket that closes the one at a place."""
    depth = 0
    for place in range(at, len(code)):
        kind, text = code[place]
        if kind == "sign":
            depth += (text in _CLOSING) - (text in _CLOSING.values())
            if depth == 0:
                return place
    raise AssertionError("a bracket is not closed")
