"""The installed command in a process of its own, for signals and kills."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).with_name("convscope")
TIMEOUT_S = 60


def start_command(folder: Path, *words: str, program: Sequence[str | Path] = (SCRIPT,)) -> subprocess.Popen[str]:
    """Start `convscope` with these words in a folder, or another program."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*program, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=environment
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for a condition; fail after a minute, or if the process ends first."""
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    pytest.fail(f"the condition was not met in {TIMEOUT_S} s")
