"""Ray in tests: it reports to nobody, and no test waits for it forever."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

TIMEOUT_S = 150  # on a busy machine; each takes some 10 s otherwise

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(autouse=True)
def _time_limit() -> Iterator[None]:
    def too_slow(*_: object) -> None:
        raise TimeoutError(f"took over {TIMEOUT_S} s")

    before = signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(TIMEOUT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
