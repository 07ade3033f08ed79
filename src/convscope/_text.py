"""Formatting of numbers, durations and lists in messages."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from convscope.errors import UsageError

# What a terminal obeys instead of showing it: C0 and C1 controls, line and paragraph separators, and the embeddings,
# overrides and isolates of bidirectional text, which reorder what follows (CVE-2021-42574). Surrogates stand for bytes
# that are no UTF-8. Spaces of every width, joiners, and the marks U+200E, U+200F and U+061C are ordinary text.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNDECODED = range(0xDC80, 0xDD00)  # surrogates that os.fsdecode makes of bytes

_NUMBERS, _MAX_DIGITS = re.compile(r"(\d+)"), 100  # Python refuses to convert much longer numbers

MAX_QUOTED = 200  # characters; some libraries quote the file
SECONDS_PER_UNIT = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}


def pluralize(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun in the right form; the default plural ends in s.

    >>> pluralize(1, "map"), pluralize(32, "map"), pluralize(2, "class", "classes")
    ('1 map', '32 maps', '2 classes')
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def escape_controls(text: str) -> str:
    r"""A text on one line, in which everything that a terminal would obey is escaped.

    >>> print(escape_controls("a\x1b[31m\nb"), escape_controls("caf\udce9"), escape_controls("\u732b"))
    a\x1b[31m\nb caf\xe9 \u732b
    """
    return _CONTROLS.sub(_escape, text)


def escape_bytes(name: str) -> str:
    r"""A file name as any program can read it: bytes that are no UTF-8 are escaped.

    >>> print(escape_bytes("caf\udce9"), escape_bytes("\u732b"))
    caf\xe9 \u732b
    """
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def reason_of(error: Exception) -> str:
    """The message of another library's exception, on one line of at most 200 characters; its type if it has none.

    >>> reason_of(ValueError("bad\\n  header")), reason_of(EOFError()), len(reason_of(ValueError("x" * 9000)))
    ('bad header', 'EOFError', 200)
    """
    return _shorten(" ".join(str(error).split()) or type(error).__name__)


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 3]}..."


def _escape(control: re.Match[str]) -> str:
    code = ord(control[0])
    return f"\\x{code - 0xDC00:02x}" if code in _UNDECODED else control[0].encode("unicode_escape").decode()


def percent(fraction: float, digits: int = 2) -> str:
    """A fraction, 0..1, as a percentage; rounding never turns it into 0 % or 100 %.

    >>> percent(0.9864), percent(1.0), percent(0.99999)
    ('98.64 %', '100.00 %', '>99.99 %')
    >>> percent(0.994, 0), percent(0.0, 0), percent(0.004, 0)
    ('99 %', '0 %', '<1 %')
    """
    value, step = 100 * fraction, 10.0**-digits
    text = f"{value:.{digits}f}"
    if float(text) == 0 < value:
        return f"<{step:.{digits}f} %"
    if float(text) == 100 > value:
        return f">{100 - step:.{digits}f} %"
    return f"{text} %"


def list_some(values: Iterable[object], limit: int = 5, total: int | None = None) -> str:
    """The first values, each of at most 200 characters, separated by commas, and how many more there are.

    Args:
        values: What to list.
        limit: Number of values to write out.
        total: Number of all values where `values` holds only the first of them.

    >>> list_some(["cat", "dog"]), list_some(range(9)), list_some("abc", limit=2, total=1200)
    ('cat, dog', '0, 1, 2, 3, 4 and 4 more', 'a, b and 1,198 more')
    """
    words = [_shorten(str(value)) for value in values]
    rest = (total or len(words)) - limit
    return ", ".join(words[:limit]) + (f" and {rest:,} more" if rest > 0 else "")


def natural_order(name: str) -> list[tuple[bool, int, str]]:
    """A sort key for names with numbers in them; names that are numbers come first.

    >>> sorted(["s10", "s2", "b", "10", "9", "s1"], key=natural_order)
    ['9', '10', 'b', 's1', 's2', 's10']
    """
    return [
        (False, int(part), part) if part.isdecimal() and len(part) <= _MAX_DIGITS else (True, 0, part)
        for part in _NUMBERS.split(name)
        if part
    ]


def duration(seconds: float) -> str:
    """Seconds in the units that people use.

    >>> duration(0.4), duration(12.3), duration(95), duration(120), duration(4000)
    ('0.4 s', '12 s', '1 min 35 s', '2 min', '1 h 7 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s".removesuffix(" 0 s")
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min".removesuffix(" 0 min")


def parse_duration(text: str) -> float:
    """Return the seconds of a text such as 90, 60s, 2min or 1.5h. Raises UsageError for any other.

    >>> parse_duration("90"), parse_duration("2 min"), parse_duration("1.5h")
    (90.0, 120.0, 5400.0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|)\s*", text)
    if not found or not 0 < float(found[1]) * SECONDS_PER_UNIT[found[2]] < math.inf:
        raise UsageError(f"--budget {text!r}: expected a time such as 60s, 2min or 1.5h")
    return float(found[1]) * SECONDS_PER_UNIT[found[2]]
