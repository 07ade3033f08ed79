"""Drawing in helper processes: the same pictures, whatever happens to the helpers, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convscope import _workers as processes
from convscope._workers import Worker
from convscope.report import plots
from convscope.report.render_pool import Draw, Drawing, draw_here, helpers

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks Linux which processes there are")

RANDOM = np.random.default_rng(5)
IMAGES = RANDOM.integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
ROW = {"epoch": 1, "train_loss": float("nan"), "train_accuracy": 0.5, "validation_loss": 0.2, "validation_accuracy": 1}
DRAWINGS: list[Drawing] = [
    partial(plots.first_nine, IMAGES, np.arange(9), ("$a$", "猫", "\udcff", *"defghi")),
    partial(plots.learning_curves, [ROW], 1, "test"),
    partial(plots.feature_maps, "conv1: conv 4 3", RANDOM.normal(size=(5, 6, 4)).astype(np.float32).transpose(1, 0, 2)),
    partial(plots.before_after, RANDOM.normal(size=(5, 6)), IMAGES[0], ("before", "after")),
    partial(plots.class_probabilities, np.array([0.25, 0.75]), ["cat", "dog"]),
]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """The helpers that are started."""
    found: list[Worker] = []

    class Noted(Worker):
        def __init__(self, module: str) -> None:
            super().__init__(module)
            found.append(self)

    monkeypatch.setattr(processes, "Worker", Noted)
    return found


@pytest.fixture
def two_helpers(started: list[Worker]) -> Iterator[tuple[Draw, list[Worker]]]:
    """What draws, and the processes behind it."""
    with helpers(3) as draw:
        yield draw, started


def forbid_drawing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convscope.report.layout.Page.png", lambda _: pytest.fail("this was drawn here"))


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def alive(pid: int) -> bool:
    """Whether the process runs: neither gone nor waiting to be noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_helpers_draw_the_same_bytes(two_helpers: tuple[Draw, list[Worker]], monkeypatch: pytest.MonkeyPatch) -> None:
    draw, started = two_helpers
    expected = list(draw_here(DRAWINGS))
    forbid_drawing_here(monkeypatch)
    assert list(draw(DRAWINGS * 2)) == expected * 2
    assert len(started) == 2


def test_the_first_are_drawn_before_the_last_is_there(two_helpers: tuple[Draw, list[Worker]]) -> None:
    """Drawings may come from a generator that takes its time."""
    draw, started = two_helpers
    answered = threading.Event()
    original = started[0].request

    def note(message: bytes) -> bytes:
        answer = original(message)
        answered.set()
        return answer

    for helper in started:
        helper.request = note  # type: ignore[method-assign]

    def slowly() -> Iterator[Drawing]:
        yield DRAWINGS[0]
        assert answered.wait(30)
        yield DRAWINGS[4]

    assert len(list(draw(slowly()))) == 2


def test_what_a_dead_helper_leaves_is_drawn_here(two_helpers: tuple[Draw, list[Worker]]) -> None:
    draw, started = two_helpers
    expected = list(draw_here(DRAWINGS))
    started[0].process.kill()
    assert list(draw(DRAWINGS)) == expected
    started[1].process.kill()
    assert list(draw(DRAWINGS)) == expected


def test_a_helper_that_dies_while_drawing_costs_nothing(two_helpers: tuple[Draw, list[Worker]]) -> None:
    draw, started = two_helpers
    expected = list(draw_here(DRAWINGS))
    for helper in started:
        os.kill(helper.process.pid, signal.SIGSTOP)
    for helper in started:
        threading.Timer(0.3, helper.process.kill).start()
    assert list(draw(DRAWINGS)) == expected


def test_a_failure_is_that_of_drawing_here(two_helpers: tuple[Draw, list[Worker]]) -> None:
    draw, _ = two_helpers
    with pytest.raises(ValueError, match="3 is not in list"):
        list(draw([partial(plots.learning_curves, [ROW], 3)]))


@pytest.mark.parametrize("failure", [None, KeyboardInterrupt, RuntimeError])
def test_no_helper_outlives_its_block(failure: type[BaseException] | None, started: list[Worker]) -> None:
    try:
        with helpers(4):
            assert len(started) == 3
            assert all(alive(helper.process.pid) for helper in started)
            if failure:
                raise failure
    except (KeyboardInterrupt, RuntimeError):
        assert failure
    assert all(helper.process.returncode is not None for helper in started)


PARENT = """
import time
from convscope.report.render_pool import helpers
from convscope import _workers as processes
pids = []
class Noted(processes.Worker):
    def __init__(self, module):
        super().__init__(module)
        pids.append(self.process.pid)
processes.Worker = Noted
with helpers(3):
    print(*pids, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("interruptible")
def test_helpers_end_with_the_process_that_started_them(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        parent.send_signal(number)
    assert eventually(lambda: not any(alive(pid) for pid in pids))


def test_ctrl_c_at_a_terminal_does_not_reach_the_helpers(two_helpers: tuple[Draw, list[Worker]]) -> None:
    assert all(os.getpgid(helper.process.pid) != os.getpgrp() for helper in two_helpers[1])


@pytest.mark.parametrize(
    ("threads", "cores", "variable", "expected"),
    [(None, 4, None, 3), (None, 16, None, 3), (None, 2, None, 1), (None, 1, None, 0), (None, 4, "1", 0),
     (1, 4, None, 0), (2, 4, None, 1)],
)  # fmt: skip
def test_there_are_fewer_helpers_than_cores(
    monkeypatch: pytest.MonkeyPatch, threads: int | None, cores: int, variable: str | None, expected: int
) -> None:
    started: list[object] = []

    class Mock:
        def __init__(self, _module: str) -> None:
            started.append(self)

        def kill(self) -> None:
            started.remove(self)

    monkeypatch.setattr(processes, "Worker", Mock)
    monkeypatch.setattr("convscope._hardware.usable_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    with helpers(threads) as draw:
        assert len(started) == expected
        assert (draw is draw_here) is (expected == 0)
    assert not started


def test_a_helper_loads_neither_torch_nor_what_lies_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit")
    code = (
        "import sys; from convscope.report import render_pool;"
        "print(*sorted({'torch', 'pydantic', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
    monkeypatch.chdir(tmp_path)
    expected = list(draw_here(DRAWINGS[:1]))
    forbid_drawing_here(monkeypatch)
    with helpers(2) as draw:
        assert list(draw(DRAWINGS[:1])) == expected


def test_a_library_call_starts_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line alone hands in helpers."""
    import convscope
    from convscope.training.recipes import recipe_named

    started: list[Any] = []
    monkeypatch.setattr(processes, "Worker", lambda: started.append(1))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    recipe = recipe_named("article").override(epochs=1)
    run = convscope.train_model("digits", "flatten", recipe, threads=1, run=tmp_path / "run")
    assert (run.path / "plots" / "confusion-matrix.png").is_file()
    assert not started
