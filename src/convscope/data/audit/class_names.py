"""Names of classes that may be mistakes: two spellings of one class, or values that are no names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from convscope._text import list_some
from convscope.data.audit.issue import Issue

MISSING_VALUES = ("", "nan", "none", "null", "na", "n/a", "<na>", "nat", "undefined")
LATIN = str.maketrans(  # letters of other alphabets that look like Latin ones: Cyrillic, then Greek
    "АВЕЅІЈКМНОРСТУХаеѕіјорсухԁһԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧανοριυκ",
    "ABESIJKMHOPCTYXaesijopcyxdhqwABEZHIKMNOPTYXavopiuk",
)
NUMBER = re.compile(r"\s*([+-]?)0*(\d{1,100})(?:\.(\d{0,100}))?\s*")
PADDING = re.compile(r"(?<!\d)(?<!\d[.,])0+(?=\d)")
MARKS = "#%&*!?-"  # that may end a short name: C#, A-, 5 %
MAX_MARKED = 2  # characters of a name that such a mark belongs to, unless it ends with a digit


def odd_names(names: Sequence[str]) -> Iterator[Issue]:
    """An issue about class names that may be mistakes, if there are any."""
    empty = [repr(name) for name in names if name.strip().lower() in MISSING_VALUES]
    decimals = [repr(name) for name in names if re.fullmatch(r"\d+\.0*", name)]
    lists = [repr(name) for name in names if name[:1] + name[-1:] in ("[]", "()", "{}") and len(name) > 1]
    parts = [
        f"{text}: {list_some(some)}"
        for text, some in (
            ("similar", [" = ".join(_quoted(some)) for some in _look_alikes(names)]),
            ("like a missing value", empty),
            ("like a list", lists),
            ("decimal numbers", decimals),
        )
        if some
    ]
    if parts:
        yield Issue(
            kind="odd-labels",
            level="warning",
            text=f"class names that may be mistakes: {'; '.join(parts)}",
            action="used as they are",
            advice="correct the labels if these are not separate classes",
        )


def _look_alikes(names: Sequence[str]) -> list[list[str]]:
    """Groups of names that are equal once simplified, or once simplified and written in Latin letters."""
    groups = _grouped(names, lambda name: _simplified(name.translate(LATIN) if len(name) > 1 else name))
    found = [set(some) for some in groups]
    return groups + [some for some in _grouped(names, _simplified) if not any(one.issuperset(some) for one in found)]


def _grouped(names: Sequence[str], key: Callable[[str], str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return [some for some in groups.values() if len(some) > 1]


def _quoted(names: list[str]) -> Iterator[str]:
    """The names in quotes; with escapes if foreign letters or invisible characters make the difference."""
    latin = {_simplified(name) for name in names}
    return map(repr if len(latin) == 1 else ascii, names)


def _simplified(name: str) -> str:
    """A class name as it is compared: without case, separators, brackets, invisible characters, and padding zeros.

    Digits stay apart (1-2 is not 12), and so do marks that are part of a short name (C# is not C).

    >>> [_simplified(name) for name in ("T-Shirt", "_s01.", "1.50", "class 1-2", "A-", "(")]
    ['tshirt', 's1', '1.5', 'class1 2', 'a-', '(']
    """
    if number := NUMBER.fullmatch(name):
        sign, whole, fraction = number.groups()
        return f"{sign.strip('+')}{int(whole)}.{(fraction or '').rstrip('0')}".rstrip(".")
    visible = "".join(one for one in name if unicodedata.category(one) != "Cf" and not "\ufe00" <= one <= "\ufe0f")
    plain = PADDING.sub("", unicodedata.normalize("NFKC", visible).casefold().strip())
    base = plain.rstrip(MARKS).rstrip()
    is_marked = base and (len(base) <= MAX_MARKED or base[-1].isdigit())
    spaced = "".join(one if unicodedata.category(one)[0] in "LMNS" else " " for one in plain)
    words = re.sub(r"(?<!\d) | (?!\d)", "", " ".join(spaced.split()))
    return (words + (plain[len(base) :].strip() if is_marked else "")) or plain
