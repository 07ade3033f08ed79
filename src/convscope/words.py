"""Small pieces of text that several modules say."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """A number with its noun in the right form.

    >>> counted(1, "map"), counted(32, "map")
    ('1 map', '32 maps')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
