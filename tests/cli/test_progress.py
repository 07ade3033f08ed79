"""Progress of long work: bars on a terminal, a few lines elsewhere, nothing on stdout."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from convscope.cli.progress import CLASSIFYING, CliReporter, training_display
from convscope.data.cache.pixel_cache import DECODING
from convscope.training.callbacks import Callback, Trainer
from convscope.training.finetuning.tail import EXTRACTING
from convscope.training.state import EpochMetrics, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run work with stderr as a terminal, and return what it shows."""

    def watch(work: Callable[[], None], **variables: str) -> str:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", Terminal())
            patched.delenv("NO_COLOR", raising=False)
            for name, value in {"TERM": "xterm-256color", **variables}.items():
                patched.setenv(name, value)
            work()
            return cast(Terminal, sys.stderr).getvalue()

    return watch


def after_batch(display: Callback, now: Progress) -> None:
    """Call the hook as the loop does after a batch."""
    state = SimpleNamespace(progress=lambda: now)
    display.on_train_batch_end(cast(Trainer, SimpleNamespace(state=state)))


def after_epoch(display: Callback, epoch: EpochMetrics) -> None:
    """Call the hook as the loop does after an epoch."""
    display.on_epoch_end(cast(Trainer, SimpleNamespace(result=SimpleNamespace(history=[epoch]))))


def train(epochs: int = 2, batches: int = 4) -> None:
    """Display a training that improves with every batch."""
    steps = epochs * batches
    with training_display("test") as display:
        for step in range(1, steps + 1):
            epoch = -(-step // batches)
            now = Progress(epoch, epochs, step, steps, 1 / step, 0.5, 1234.5, 0.5 * (steps - step))
            after_batch(display, now)
            if step % batches == 0:
                after_epoch(display, EpochMetrics(epoch, 1 / step, 0.5, 0.3, 1 - 1 / step, 0.1, 1234.5, 2.0))


@pytest.mark.parametrize(
    ("epochs", "shown"),
    [(1, [1]), (2, [1, 2]), (10, range(1, 11)), (11, [2, 4, 6, 8, 10, 11]), (55, [*range(6, 55, 6), 55])],
)
def test_training_without_terminal_writes_about_ten_lines(
    capsys: pytest.CaptureFixture[str], epochs: int, shown: list[int]
) -> None:
    train(epochs)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split()[1] for line in err.splitlines()] == [f"{epoch}/{epochs}" for epoch in shown]


def test_training_line_shows_loss_accuracy_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    train(2)
    assert capsys.readouterr().err == (
        "epoch 1/2  loss 0.2500  accuracy 50.00 %  test 75.00 %  1,234 images/s  2.0 s left\n"
        "epoch 2/2  loss 0.1250  accuracy 50.00 %  test 87.50 %  1,234 images/s  0.0 s left\n"
    )


def test_training_past_its_last_step_writes_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    with training_display(announce=False) as display:
        after_batch(display, Progress(29, 30, 2001, 2000, 0.5, 0.5, 100.0, 0.0))
        after_epoch(display, EpochMetrics(29, 0.5, 0.5, 0.3, 0.9, 0.1, 100.0, 2.0))
    line = "epoch 29/30  loss 0.5000  accuracy 50.00 %  validation 90.00 %  100 images/s  0.0 s left\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("pause", "left", "announce", "expected"),
    [
        (0.6, 239.4, True, "about 4 min 1 s for 20 epochs on this machine\n"),
        (0.6, 8.5, True, ""),  # too short to be worth a line
        (0.1, 239.4, True, ""),  # too early to know
        (0.6, 239.4, False, ""),  # with a budget, the user knows
    ],
)
def test_training_announces_its_duration_once(
    pause: float,
    left: float,
    announce: bool,
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = iter([*(100 + pause * step for step in range(6))] * 2)
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))

    def train() -> None:
        with training_display(announce=announce) as display:
            for step in range(1, 7):
                after_batch(display, Progress(1, 20, step, 2000, 0.5, 0.5, 100.0, left))

    train()
    assert capsys.readouterr() == ("", expected)


def test_training_on_terminal_shows_a_bar_that_disappears(
    seen: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = seen(train)
    assert "epoch 2/2" in text
    assert "loss 0.1250  accuracy 50.00 %  test 75.00 %  0.0 s left" in text  # of the epoch before
    assert text.endswith("\x1b[2K")  # the line is erased
    assert capsys.readouterr().out == ""


def test_training_with_no_color_writes_no_colors(seen: Callable[..., str]) -> None:
    assert "\x1b[38;5;" in seen(train)
    plain = seen(train, NO_COLOR="1")
    assert "epoch 2/2" in plain
    assert "\x1b[38;5;" not in plain


def test_reporter_without_terminal_names_each_download_once(capsys: pytest.CaptureFixture[str]) -> None:
    with CliReporter() as reporter:
        for done in (0, 500, 1000):
            reporter.progress("a.gz", done, 1000)
        reporter.progress("b.gz", 0, None)
        reporter.progress("a.gz", 1000, 1000)
    assert capsys.readouterr() == ("", "downloading a.gz\ndownloading b.gz\n")


def test_reporter_announces_decoding_of_many_files(
    capsys: pytest.CaptureFixture[str], seen: Callable[..., str]
) -> None:
    def decode() -> None:
        with CliReporter() as reporter:
            for done in (0, 1500, 3000):
                reporter.progress(DECODING, done, 3000)

    decode()
    with CliReporter() as reporter:
        reporter.progress(DECODING, 0, 12)
    assert capsys.readouterr() == ("", "decoding 3,000 files\n")
    assert "3,000 of 3,000 files" in seen(decode)


def test_reporter_announces_features_once(capsys: pytest.CaptureFixture[str], seen: Callable[..., str]) -> None:
    def extract() -> None:
        with CliReporter() as reporter:
            for done in range(32, 320, 32):
                reporter.progress(EXTRACTING, done, 3000)
                time.sleep(0.02)

    extract()
    with CliReporter() as reporter:
        reporter.progress(EXTRACTING, 32, None)
    assert capsys.readouterr() == ("", "computing the features of 3,000 images\nextracting features\n")
    text = seen(extract).replace("\n", "")
    assert re.search(r"288 of 3,000 images, [\d,]+/s", text)


def test_reporter_on_terminal_shows_a_bar_per_download(seen: Callable[..., str]) -> None:
    def download() -> None:
        with CliReporter() as reporter:
            reporter.progress("a.gz", 0, 2_000_000)
            reporter.progress("b.gz", 10, None)
            reporter.progress("a.gz", 2_000_000, 2_000_000)

    text = seen(download)
    assert "a.gz" in text
    assert "2.0 of 2.0 MB" in text
    assert "b.gz" in text
    assert text.endswith("\x1b[2K")


def test_reporter_on_terminal_shows_rate_and_time_left_of_classifying(seen: Callable[..., str]) -> None:
    def classify() -> None:
        with CliReporter() as reporter:
            for done in range(10_000, 10_080, 10):  # 10,000 were classified by an earlier call
                reporter.progress(CLASSIFYING, done, 11_000)
                time.sleep(0.02)

    text = seen(classify)
    assert "10,070 of 11,000 images, " in text.replace("\n", "")
    rates = [int(rate.replace(",", "")) for rate in re.findall(r"images, ([\d,]+)/s", text)]
    assert max(rates) < 1_000  # those of the earlier call do not count
    assert text.endswith("\x1b[2K")


def test_reporter_message_is_one_line_on_stderr_with_and_without_bars(
    seen: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    def report() -> None:
        with CliReporter() as reporter:
            reporter.progress("a.gz", 0, 10)
            reporter.message("[red] is a name" + 200 * "!")

    report()
    CliReporter().message("without a block")
    line = "[red] is a name" + 200 * "!"
    assert capsys.readouterr() == ("", f"downloading a.gz\n{line}\nwithout a block\n")
    assert line in seen(report)
