"""What can go wrong because of the user's input, and the exit code each kind ends the command with.

    ConvscopeError            1   failed while running
    ├── UsageError            2   an option, preset, recipe or layer word that does not exist
    │   └── ArchitectureError 2   an architecture line; carries the offset of the wrong word
    ├── DataError             3   a data set or picture that cannot be used
    └── ModelFileError        4   a run folder or model file that is missing something or was altered

Every message is one line: what was expected, what came, and what to do next.
"""

from __future__ import annotations

import re


class ConvscopeError(Exception):
    """Base of all errors that are the input's fault and not convscope's."""

    exit_code = 1


class UsageError(ConvscopeError):
    """A name or option the user gave does not exist or does not fit."""

    exit_code = 2


class ArchitectureError(UsageError):
    """An architecture line is wrong at one word.

    `line` is the text as given, `start` and `end` the character offsets of the word that is wrong.
    """

    def __init__(self, message: str, line: str, start: int, end: int) -> None:
        super().__init__(message)
        self.line, self.start, self.end = line, start, end

    @property
    def pointer(self) -> str:
        """The line with a caret under every character of the wrong word, as two text lines."""
        line = re.sub(r"\s", " ", self.line)
        return f"{line}\n{' ' * self.start}{'^' * max(1, self.end - self.start)}"


class DataError(ConvscopeError):
    """A data set or a picture cannot be read or cannot be used for what was asked."""

    exit_code = 3


class ModelFileError(ConvscopeError):
    """A run folder or a model file is incomplete, altered or of another format version."""

    exit_code = 4
