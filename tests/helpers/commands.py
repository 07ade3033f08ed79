"""Every command of the command line."""

from __future__ import annotations

from typing import Any

from convscope.cli.main import COMMANDS, load_command


def all_commands() -> list[tuple[str, Any]]:
    """Each command with the words that call it, such as "data check"."""
    found: list[tuple[str, Any]] = []
    for name in COMMANDS:
        command = load_command(name)
        inner: dict[str, Any] | None = getattr(command, "commands", None)
        if inner is None or command.invoke_without_command:
            found.append((name, command))
        found += [(f"{name} {sub}", inner_command) for sub, inner_command in (inner or {}).items()]
    return found
