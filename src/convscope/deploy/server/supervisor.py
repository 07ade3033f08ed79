"""Starts worker processes that share a listening socket, and replaces those that crash."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from convscope._records import Record
from convscope.deploy.server.metrics import FOLDER_VARIABLE
from convscope.deploy.server.options import Access, ServeOptions, listen
from convscope.deploy.server.page import StaticPage
from convscope.deploy.server.worker import Ready, WorkerConfig
from convscope.errors import ModelFileError, UsageError

WORKER = "convscope.deploy.server.worker"
MEMORY = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "1048576"}  # glibc: give back what images took
STOP_S = 27  # after which stopping workers are killed
LONGEST_PAUSE_S = 2.0  # between workers that crash again and again
STABLE_S = 10.0  # a worker that has lived this long has not crashed again

Report = Callable[[str], None]


class ServerInfo(Record):
    """A server that answers, as `convscope serve --json` prints it.

    Attributes:
        url: Where.
        model: The name of the model file.
        sha256: Of the model file.
        classes: How many there are.
        workers: How many processes answer.
        pid: The process to stop.
    """

    url: str
    model: str
    sha256: str
    classes: int
    workers: int
    pid: int


class Supervisor:
    """Keeps a server's workers running.

    Args:
        config: Of each worker.
        listener: The socket that listens.
        on_ready: Called once, when all workers answer.
        report: Called with messages for people.
    """

    def __init__(
        self, config: WorkerConfig, listener: socket.socket, on_ready: Callable[[ServerInfo], None], report: Report
    ) -> None:
        self.config, self.listener, self.on_ready, self.report = config, listener, on_ready, report
        self.stopping = False
        self.exit_code = 0
        self._processes: set[Process] = set()
        self._ready: Ready | None = None
        self._ready_workers = 0

    async def run(self) -> int:
        """Run until SIGTERM or Ctrl-C, or until the model cannot be served; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        with tempfile.TemporaryDirectory(prefix="convscope-") as folder:
            await asyncio.gather(*(self._keep(folder) for _ in range(self.config.options.workers)))
        return self.exit_code

    def stop(self) -> None:
        """Tell all workers to finish; kill those that do not."""
        if not self.stopping:
            asyncio.get_running_loop().call_later(STOP_S, self._signal, signal.SIGKILL)
        self.stopping = True
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.send_signal(number)

    async def _keep(self, folder: str) -> None:
        """Run one worker after the other."""
        pause = 0.0
        while not self.stopping:
            start = time.monotonic()
            process = await self._start(folder)
            self._processes.add(process)
            was_ready = await self._wait_until_ready(process)
            code = await process.wait()
            self._processes.discard(process)
            mark_process_dead(process.pid, folder)  # type: ignore[no-untyped-call]
            if self.stopping:
                return
            if code > 0 and (not was_ready or self._ready is None):
                self._fail(code)
                return
            pause = 0.0 if time.monotonic() - start > STABLE_S else min(LONGEST_PAUSE_S, 2 * pause + 0.1)
            self.report(f"worker {process.pid} ended with {_describe(code)}; starting another one")
            await asyncio.sleep(pause)

    async def _start(self, folder: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", WORKER, stdin=PIPE, stdout=PIPE, pass_fds=[self.listener.fileno()],
            process_group=0,  # Ctrl-C is for this process alone, which tells the workers
            env={**os.environ, FOLDER_VARIABLE: folder, **MEMORY},
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(self.config.model_dump_json().encode() + b"\n")
        return process

    async def _wait_until_ready(self, process: Process) -> bool:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            return False
        ready = Ready.model_validate_json(line)
        if self._ready is not None and ready.sha256 != self._ready.sha256:
            self.report(f"convscope: {self.config.model} was changed while it was served: start the server again")
            self._fail(ModelFileError.exit_code)
            return True
        self._ready = ready
        self._ready_workers += 1
        if self._ready_workers == self.config.options.workers:
            self.on_ready(self._info(ready))
        return True

    def _fail(self, code: int) -> None:
        self.exit_code = code
        self.stop()

    def _info(self, ready: Ready) -> ServerInfo:
        options = self.config.options
        host, port = self.listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return ServerInfo(
            url=url, model=ready.name, sha256=ready.sha256, classes=ready.classes, workers=options.workers,
            pid=os.getpid(),
        )  # fmt: skip


def run_server(
    model: Path,
    options: ServeOptions,
    access: Access,
    on_ready: Callable[[ServerInfo], None],
    report: Report,
    page: StaticPage | None = None,
) -> int:
    """Serve a model until SIGTERM or Ctrl-C.

    Args:
        model: A model file or run folder.
        options: See `ServeOptions`.
        access: Who may use the server.
        on_ready: Called once, when all workers answer.
        report: Called with messages for people.
        page: What /lab/ shows, if anything.

    Returns:
        The exit code: 0, or that of the error which the first worker reported on standard error.

    Raises:
        UsageError: The address cannot be listened on.
    """
    if sys.platform == "win32":
        raise UsageError("convscope serve needs Linux or macOS: on Windows, run it in WSL")
    with listen(options.host, options.port) as listener:
        config = WorkerConfig(model=str(model), fd=listener.fileno(), options=options, access=access, page=page)
        return asyncio.run(Supervisor(config, listener, on_ready, report).run())


def _describe(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
