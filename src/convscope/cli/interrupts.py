"""Ctrl-C ends a command without a traceback, with the exit code 130, whatever it was doing."""

from __future__ import annotations

import _thread
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

INTERRUPTED = 128 + signal.SIGINT
REPEAT_AFTER_S = 2.0
IMPORT_POLL_S = 0.02
IMPORT_SYSTEM = "<frozen importlib._bootstrap>"


@dataclass
class Interrupt:
    """Whether Ctrl-C was pressed. What it raised may have become another exception on its way, as in an import."""

    came: bool = False


@contextmanager
def remember_interrupts() -> Iterator[Interrupt]:
    """Let Ctrl-C raise KeyboardInterrupt, and remember it.

    It waits for the end of an import, because a module in C++ may not survive an exception while it starts; if the
    import has not ended two seconds later, the process does. If the block has not ended two seconds after the
    exception, because a package has swallowed it, it is raised again. Where it cannot be raised, as in a destructor,
    the process ends at once. Nothing is done if Ctrl-C is ignored, as by nohup, or outside the main thread.
    """
    interrupt = Interrupt()
    timers: list[threading.Timer] = []
    deadline = math.inf
    before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if before == signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def remember(_: int, frame: FrameType | None) -> None:
        nonlocal deadline
        interrupt.came = True
        is_importing = _is_importing(frame)
        if is_importing and time.monotonic() > deadline:
            os._exit(INTERRUPTED)
        deadline = min(deadline, time.monotonic() + REPEAT_AFTER_S)
        again = threading.Timer(IMPORT_POLL_S if is_importing else REPEAT_AFTER_S, _interrupt_main_thread)
        again.daemon = True
        again.start()
        timers.append(again)
        if not is_importing:
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


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False


def _interrupt_main_thread() -> None:
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:  # which also ends its waiting
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()
