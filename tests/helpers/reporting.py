"""Reporters for tests."""

from __future__ import annotations

import pytest

from convscope._reporting import Reporter


class RecordingReporter(Reporter):
    """Keeps messages and progress: `messages` is a list of texts, `tasks` one of (task, done, total)."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.tasks: list[tuple[str, int, int | None]] = []

    def message(self, text: str) -> None:
        """Keep the text."""
        self.messages.append(text)

    def progress(self, task: str, done: int, total: int | None) -> None:
        """Keep the numbers."""
        self.tasks.append((task, done, total))


class FailingReporter(Reporter):
    """Fails the test on any message."""

    def message(self, text: str) -> None:
        """Fail."""
        pytest.fail(text)
