"""Rendering in worker processes: the same files, whatever happens to the workers, and no worker outlives its parent."""

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
from convscope.report import layer_plots, plots
from convscope.report.render_pool import PlotCall, Renderer, render_serially, rendering_workers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks Linux which processes there are"),
]

Workers = tuple[Renderer, list[Worker]]

RANDOM = np.random.default_rng(5)
IMAGES = RANDOM.integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
ROW = {"epoch": 1, "train_loss": float("nan"), "train_accuracy": 0.5, "validation_loss": 0.2, "validation_accuracy": 1}
CALLS: list[PlotCall] = [
    partial(plots.first_nine, IMAGES, np.arange(9), ("$a$", "猫", "\udcff", *"defghi")),
    partial(plots.learning_curves, [ROW], 1, "test"),
    partial(
        layer_plots.feature_maps, "conv1: conv 4 3", RANDOM.normal(size=(5, 6, 4)).astype(np.float32).transpose(1, 0, 2)
    ),
    partial(layer_plots.before_after, RANDOM.normal(size=(5, 6)), IMAGES[0], ("before", "after")),
    partial(layer_plots.class_probabilities, np.array([0.25, 0.75]), ["cat", "dog"]),
]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """The workers that have been started."""
    found: list[Worker] = []

    class Recorded(Worker):
        def __init__(self, module: str) -> None:
            super().__init__(module)
            found.append(self)

    monkeypatch.setattr(processes, "Worker", Recorded)
    return found


@pytest.fixture
def two_workers(started: list[Worker]) -> Iterator[Workers]:
    """A renderer and its processes."""
    with rendering_workers(3) as renderer:
        yield renderer, started


def forbid_rendering_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convscope.report.canvas.Canvas.png", lambda _: pytest.fail("this was rendered here"))


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def alive(pid: int) -> bool:
    """Whether the process runs and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_render_the_same_bytes(two_workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer, started = two_workers
    expected = list(render_serially(CALLS))
    forbid_rendering_here(monkeypatch)
    assert list(renderer(CALLS * 2)) == expected * 2
    assert len(started) == 2


def test_workers_start_before_the_last_call_is_computed(two_workers: Workers) -> None:
    renderer, started = two_workers
    answered = threading.Event()
    original = started[0].request

    def record(message: bytes) -> bytes:
        answer = original(message)
        answered.set()
        return answer

    for worker in started:
        worker.request = record  # type: ignore[method-assign]

    def slow_calls() -> Iterator[PlotCall]:
        yield CALLS[0]
        assert answered.wait(30)
        yield CALLS[4]

    assert len(list(renderer(slow_calls()))) == 2


def test_dead_worker_is_replaced_by_this_process(two_workers: Workers) -> None:
    renderer, started = two_workers
    expected = list(render_serially(CALLS))
    started[0].process.kill()
    assert list(renderer(CALLS)) == expected
    started[1].process.kill()
    assert list(renderer(CALLS)) == expected


def test_worker_dying_while_rendering_loses_nothing(two_workers: Workers) -> None:
    renderer, started = two_workers
    expected = list(render_serially(CALLS))
    for worker in started:
        os.kill(worker.process.pid, signal.SIGSTOP)
    for worker in started:
        threading.Timer(0.3, worker.process.kill).start()
    assert list(renderer(CALLS)) == expected


def test_failing_plot_raises_its_own_error(two_workers: Workers) -> None:
    renderer, _ = two_workers
    with pytest.raises(ValueError, match="3 is not in list"):
        list(renderer([partial(plots.learning_curves, [ROW, ROW], 3)]))


@pytest.mark.parametrize("failure", [None, KeyboardInterrupt, RuntimeError])
def test_workers_end_with_the_block(failure: type[BaseException] | None, started: list[Worker]) -> None:
    try:
        with rendering_workers(4):
            assert len(started) == 3
            assert all(alive(worker.process.pid) for worker in started)
            if failure:
                raise failure
    except (KeyboardInterrupt, RuntimeError):
        assert failure
    assert all(worker.process.returncode is not None for worker in started)


PARENT = """
import time
from convscope.report.render_pool import rendering_workers
from convscope import _workers as processes
pids = []
class Recorded(processes.Worker):
    def __init__(self, module):
        super().__init__(module)
        pids.append(self.process.pid)
processes.Worker = Recorded
with rendering_workers(3):
    print(*pids, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("interruptible")
def test_workers_end_with_the_process_that_started_them(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        parent.send_signal(number)
    assert eventually(lambda: not any(alive(pid) for pid in pids))


def test_workers_do_not_receive_ctrl_c_of_the_terminal(two_workers: Workers) -> None:
    assert all(os.getpgid(worker.process.pid) != os.getpgrp() for worker in two_workers[1])


@pytest.mark.parametrize(
    ("threads", "cores", "variable", "expected"),
    [(None, 4, None, 3), (None, 16, None, 3), (None, 2, None, 1), (None, 1, None, 0), (None, 4, "1", 0),
     (1, 4, None, 0), (2, 4, None, 1)],
)  # fmt: skip
def test_workers_are_fewer_than_cores(
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
    with rendering_workers(threads) as renderer:
        assert len(started) == expected
        assert (renderer is render_serially) is (expected == 0)
    assert not started


def test_worker_imports_neither_torch_nor_files_of_the_current_folder(
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
    expected = list(render_serially(CALLS[:1]))
    forbid_rendering_here(monkeypatch)
    with rendering_workers(2) as renderer:
        assert list(renderer(CALLS[:1])) == expected


def test_train_model_starts_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the command line passes a parallel renderer."""
    import convscope
    from convscope.training.recipes import recipe_named

    started: list[Any] = []
    monkeypatch.setattr(processes, "Worker", lambda: started.append(1))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    recipe = recipe_named("article").override(epochs=1)
    run = convscope.train_model("digits", "flatten", recipe, threads=1, run=tmp_path / "run")
    assert (run.path / "plots" / "confusion-matrix.png").is_file()
    assert not started
