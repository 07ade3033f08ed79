"""Errors that the user can correct, and the exit code of the command line for each.

    ConvscopeError            1   a failure while running
    ├── UsageError            2   an option, preset, recipe or layer word that does not exist
    │   ├── ArchitectureError 2   an architecture line; carries the offset of the wrong word
    │   └── MissingExtraError 2   a feature whose packages are not installed
    ├── DataError             3   a data set or image that cannot be used
    │   └── ImageError        3   one image of many; carries its name
    ├── ModelFileError        4   a run folder or model file that is incomplete or was altered
    ├── GateError             5   a result that misses what was demanded of it
    └── PeerError             6   another process of the same training has ended

Every message is one line: what was expected, what came, what to do.
"""

from __future__ import annotations

import re


class ConvscopeError(Exception):
    """Base class of all errors that the user can correct."""

    exit_code = 1


class UsageError(ConvscopeError):
    """A name or an option does not exist, or does not fit the rest."""

    exit_code = 2


class ArchitectureError(UsageError):
    """An architecture is wrong at one word.

    Args:
        message: One line: what was expected, what came, what to do.
        architecture: The text as given.
        start: Offset of the first character of the wrong word.
        end: Offset after its last character.
    """

    def __init__(self, message: str, architecture: str, start: int, end: int) -> None:
        super().__init__(message)
        self.architecture, self.start, self.end = architecture, start, end

    @property
    def pointer(self) -> str:
        """Two lines of text: the architecture, and carets under the wrong word."""
        line = re.sub(r"\s", " ", self.architecture)
        return f"{line}\n{' ' * self.start}{'^' * max(1, self.end - self.start)}"


class MissingExtraError(UsageError):
    """A feature needs packages that are not installed; the message names the extra that brings them."""


class DataError(ConvscopeError):
    """A data set or an image cannot be read, or does not fit the task."""

    exit_code = 3


class ImageError(DataError):
    """One image of many cannot be used, while the others can.

    Args:
        image: Its path, or what stands for it.
        message: One line: what was expected, what came, what to do.
    """

    def __init__(self, image: str, message: str) -> None:
        super().__init__(message)
        self.image = image


class ModelFileError(ConvscopeError):
    """A run folder or a model file is incomplete, was altered, or has another format version."""

    exit_code = 4


class GateError(ConvscopeError):
    """A result was measured, and misses what was demanded of it."""

    exit_code = 5


class PeerError(ConvscopeError):
    """Another process of the same training has ended, or cannot be reached."""

    exit_code = 6
