"""Small pieces of text that several modules say."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun in the right form, by default with an s where there are more.

    >>> counted(1, "map"), counted(32, "map"), counted(2, "class", "classes")
    ('1 map', '32 maps', '2 classes')
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
