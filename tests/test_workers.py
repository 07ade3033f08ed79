"""Worker processes: limits on their memory, and an end to those that take too long."""

from __future__ import annotations

import subprocess
import sys

import pytest

from convscope._workers import Worker

GIGABYTE = 10**9
CODE = """
import resource
from convscope._workers import limit_resources
resource.setrlimit(resource.RLIMIT_AS, ({before}, {before}))
limit_resources({wanted})
print(resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_FSIZE)[0])
"""


@pytest.mark.parametrize(("before", "wanted", "expected"), [(-1, 7, 7), (9, 7, 7), (5, 7, 5)])
def test_limit_resources_sets_the_limit_or_keeps_a_lower_one(before: int, wanted: int, expected: int) -> None:
    code = CODE.format(before=before if before < 0 else before * GIGABYTE, wanted=wanted)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(expected * GIGABYTE), "0"]


def test_request_within_worker_that_takes_too_long_is_ended() -> None:
    worker = Worker("convscope.pretrained.pth_worker")  # which takes longer to start
    try:
        with pytest.raises(OSError, match=r"^took longer than 0\.01 s$"):
            worker.request_within(b"1", 0.01)
        assert worker.process.wait(20) != 0
    finally:
        worker.kill()


def test_request_within_worker_that_has_ended_says_so() -> None:
    worker = Worker("abc")  # which does nothing
    try:
        with pytest.raises(OSError, match=r"^ended, for lack of memory or by a fault of its own$"):
            worker.request_within(b"1", 20)
    finally:
        worker.kill()
