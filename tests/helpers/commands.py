"""Every command of the command line."""

from __future__ import annotations

from typing import Any

from convscope.cli.main import COMMANDS, load_command


def all_commands() -> list[tuple[str, Any]]:
    """Each command with the words that call it, such as "data check"."""
    found: list[tuple[str, Any]] = []
    for name in COMMANDS:
        command = load_command(name)
        inner = getattr(command, "commands", None)
        found += [(name, command)] if inner is None else [(f"{name} {sub}", inner[sub]) for sub in inner]
    return found
