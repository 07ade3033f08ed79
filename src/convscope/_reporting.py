"""Where messages and progress go."""

from __future__ import annotations

import warnings

from convscope._text import escape_controls


class Reporter:
    """Receives messages for people and the progress of long work; this one warns and shows no progress.

    The command line has one that writes to stderr. Override what you need.
    """

    def message(self, text: str) -> None:
        """Called with one line that the user should read; this one escapes control characters, as of file names."""
        warnings.warn(escape_controls(text), stacklevel=3)

    def progress(self, task: str, done: int, total: int | None) -> None:
        """Called with `done` of `total` units of `task`, such as bytes of a file or decoded images."""


class SilentReporter(Reporter):
    """Drops messages and progress, where others report the same."""

    def message(self, text: str) -> None:
        """Do nothing."""
