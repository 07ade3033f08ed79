"""Ctrl-C ends a command without a traceback, with the exit code 130, whatever it was doing."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

INTERRUPTED = 128 + signal.SIGINT
REPEAT_AFTER_S = 2.0


@dataclass
class Interrupt:
    """Whether Ctrl-C was pressed. What it raised may have become another exception on its way, as in an import."""

    came: bool = False


@contextmanager
def remember_interrupts() -> Iterator[Interrupt]:
    """Let Ctrl-C raise KeyboardInterrupt, and remember it.

    If the block has not ended two seconds later, because a package that was being imported has swallowed the exception,
    it is raised again. Where it cannot be raised, as in a destructor, the process ends at once. Nothing is done if
    Ctrl-C is ignored, as by nohup, or outside the main thread.
    """
    interrupt = Interrupt()
    timers: list[threading.Timer] = []
    before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if before == signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def remember(_: int, __: FrameType | None) -> None:
        interrupt.came = True
        again = threading.Timer(REPEAT_AFTER_S, _interrupt_main_thread)
        again.daemon = True
        again.start()
        timers.append(again)
        raise KeyboardInterrupt

    def exit_or_report(failure: UnraisableHookArgs) -> None:
        if interrupt.came:
            os._exit(INTERRUPTED)
        hook(failure)

    signal.signal(signal.SIGINT, remember)
    sys.unraisablehook = exit_or_report
    try:
        yield interrupt
    finally:
        for timer in timers:
            timer.cancel()
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = hook


def _interrupt_main_thread() -> None:
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:  # which also ends its waiting
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()
