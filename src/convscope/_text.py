"""Small pieces of text that several modules say."""

from __future__ import annotations


def pluralize(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun in the right form, by default with an s where there are more.

    >>> pluralize(1, "map"), pluralize(32, "map"), pluralize(2, "class", "classes")
    ('1 map', '32 maps', '2 classes')
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """Seconds as people say them.

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
