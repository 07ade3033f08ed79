"""Smaller scripts: without comments and needless spaces and signs, and with short names for local variables.

Statements must end with semicolons, as those of the page do.

A name that the script declares becomes the same short one wherever it is a variable: no analysis of scopes is needed.
Properties, keys of objects and members of classes stay; `{width}` becomes `{width:a}`. Names that begin with $ stay.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, pairwise, product
from string import ascii_letters
from types import MappingProxyType

_TOKEN = re.compile(
    r"""(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    |(?P<name>(?:Math|Array|Object)\.\w+|[A-Za-z_$][\w$]*)
    |(?P<number>\d[\w.]*)
    |(?P<space>(?:\s|//[^\n]*|/\*.*?\*/)+)
    |(?P<sign>=>|\?\.(?!\d)|\.\.\.|\+\+|--|.)""",
    re.VERBOSE | re.DOTALL,
)
_REGEX = re.compile(r"/(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\[])+/[a-z]*")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_SHORT_VALUES = {"true": "!0", "false": "!1", "undefined": "void 0"}
_MODIFIERS = {"async", "get", "set", "static", "*"}
_BINDING = {"(", ",", "{", "[", "...", ":"}
_BEFORE_BLOCK = {")", "=>", ";", "}", "{", "else", "try", "finally", "do", ""}
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


def minify_scripts(scripts: Sequence[str]) -> str:
    """Scripts as one, each minified, with short names for the globals that they use often, as `Math.floor`.

    Args:
        scripts: None of them declares a name that another one uses, but for those that begin with $.
    """
    uses: Counter[str] = Counter()
    for script in scripts:
        tokens = _code(script)
        known = _declared(tokens) | _RESERVED
        uses.update(
            text
            for (kind, text), role in zip(tokens, _roles(tokens), strict=True)
            if kind == "name" and role == "variable" and text not in known
        )
    often = [name for name, n in uses.most_common() if not name.startswith("$") and n * (len(name) - 2) > len(name) + 4]
    aliases = {name: f"${new}" for name, new in zip(often, _letters(), strict=False)}
    head = f"const {','.join(f'{new}={name}' for name, new in aliases.items())};\n" if aliases else ""
    return head + "\n".join(minify_script(script, aliases) for script in scripts)


def minify_script(script: str, aliases: Mapping[str, str] = MappingProxyType({})) -> str:
    """A script that does the same, with fewer bytes; it may hold no labels, and no names made of strings.

    Args:
        script: Its code.
        aliases: Other names of globals.
    """
    tokens = _code(script)
    roles = list(_roles(tokens))
    short = {**_short_names(tokens, roles), **aliases}
    short |= _SHORT_VALUES | {text: text[1:] for kind, text in tokens if kind == "number" and text.startswith("0.")}
    renamed = [(kind, _rename(text, role, short)) for (kind, text), role in zip(tokens, roles, strict=True)]
    return "".join(text + " " * _needs_space(text, after) for text, after in pairwise([*_tighten(renamed), ";"]))


def _code(script: str) -> list[Token]:
    return [token for token in _tokens(script, 0)[0] if token[0] != "space"]


def _rename(text: str, role: str, short: Mapping[str, str]) -> str:
    new = short.get(text, text)
    if role == "shorthand" and new != text:
        return f"{text}:{new}"
    return new if role == "variable" else text


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


def _short_names(tokens: list[Token], roles: list[str]) -> dict[str, str]:
    """Short names by those that they replace, the most frequent ones first."""
    used = {text for kind, text in tokens if kind == "name"}
    saved: Counter[str] = Counter()
    for (_, text), role in zip(tokens, roles, strict=True):
        saved[text] += {"variable": len(text) - 1, "shorthand": -2}.get(role, 0)
    chosen = [name for name in _declared(tokens) - _RESERVED if saved[name] > 0 and not name.startswith("$")]
    fresh = (name for name in _letters() if name not in used and name not in _RESERVED)
    order = sorted(chosen, key=lambda name: (-saved[name], name))
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
        if before in ("const", "let"):
            found.update(*(_bound(code, place) for place in _declarators(code, at)))
        elif before in ("function", "class") or (before == "*" and code[at - 2][1] == "function"):
            found |= _bound(code, at)
        elif text == "(":
            follows = _next(code, _end(code, at))
            if follows == "=>" or (follows == "{" and before not in _NO_METHOD - {"function", "catch"}):
                found |= _bound(code, at)
        elif _next(code, at) == "=>":
            found |= _bound(code, at)
    return found


def _declarators(code: list[Token], at: int) -> Iterator[int]:
    """Where each name or pattern of a declaration is, from the first one on."""
    yield at
    while (text := code[at][1]) not in (";", "of", *_CLOSING.values()):
        if text == ",":
            yield at + 1
        at = (_end(code, at) if code[at][0] == "sign" and text in _CLOSING else at) + 1


def _bound(code: list[Token], at: int) -> set[str]:
    """The name at a place; or the names that a pattern or the parameters there bind, not those in default values."""
    if code[at][1] not in _CLOSING:
        return {code[at][1]} if code[at][0] == "name" else set()
    places = range(at + 1, _end(code, at))
    return {code[i][1] for i in places if code[i][0] == "name" and code[i - 1][1] in _BINDING and _next(code, i) != ":"}


def _roles(code: list[Token]) -> Iterator[str]:
    """What each token is: a variable; a property, key or member; a name that is both, as in `{width}`; or no name."""
    inside: list[str] = []
    for at, (kind, text) in enumerate(code):
        if kind == "sign" and text in _CLOSING:
            inside.append(_brace(code, at) if text == "{" else text)
        elif kind == "sign" and text in _CLOSING.values():
            inside.pop()
        yield _role(code, at, inside[-1] if inside else "") if kind in ("name", "number") else "none"


def _brace(code: list[Token], at: int) -> str:
    """Whether a brace begins a class, an object (or pattern), or a block."""
    before = [text for _, text in code[max(0, at - 4) : at]][::-1] + [""] * 4
    if "class" in (before[1], before[3]):
        return "class"
    return "block" if before[0] in _BEFORE_BLOCK else "object"


def _role(code: list[Token], at: int, place: str) -> str:
    before, after = code[at - 1][1] if at else "", _next(code, at)
    if before in (".", "?."):
        return "property"
    start = at
    while start and code[start - 1][1] in _MODIFIERS:
        start -= 1
    begins = code[start - 1][1] if start else ""
    if place == "class" and begins in ("{", ";", "}"):
        return "property"
    if place == "object" and begins in ("{", ","):
        if after in (",", "}", "="):
            return "shorthand"
        return "property"
    return "variable"


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
