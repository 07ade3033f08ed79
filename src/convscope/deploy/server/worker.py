"""One worker process: `python -m convscope.deploy.server.worker`, started by `supervisor`.

Its configuration arrives as one line of JSON on standard input. That stays open as long as the supervisor lives: when
it ends, so does the worker. On standard output it says once that it is ready.

A worker that has to stop is not ready from then on, but still accepts connections for a while, for clients that do
not know it yet. Then no further handshakes succeed, the connections that the kernel has already accepted are taken, and
those that have just been made get the time to send their request. Each answer closes its connection.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import logging
import os
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn

from convscope._hardware import max_threads
from convscope._records import Record
from convscope.deploy.predictor import Predictor
from convscope.deploy.server.app import ServerState, describe_model, make_app
from convscope.deploy.server.batching import Batcher
from convscope.deploy.server.http.gateway import MAX_HEADER_BYTES, Gateway
from convscope.deploy.server.http.protocol import KEEP_ALIVE_S, LimitedProtocol
from convscope.deploy.server.http.shedding import Shedder
from convscope.deploy.server.metrics import Metrics
from convscope.deploy.server.options import Access, ServeOptions
from convscope.deploy.server.page import StaticPage
from convscope.errors import ConvscopeError

ACCEPT_S = 0.1  # to take the connections that the kernel has accepted
FIRST_REQUEST_S = 1.0  # for which a connection without a request stays open
FINISH_S = 20  # within which accepted requests are answered

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
# A filter in the kernel's classic BPF, each instruction a code, two jumps and a number: load the byte with the flags of
# the TCP header; if SYN is set, go on, else leave out one; drop the packet; accept it.
_DROP_SYN = struct.pack("HBBI" * 4, 0x30, 0, 0, 13, 0x45, 0, 1, 0x02, 0x06, 0, 0, 0, 0x06, 0, 0, 0xFFFFFFFF)
MAX_THREADS = 4  # by default; Python gains little from more, but each may need memory for an image
MAX_EVENTS = 64  # sockets that the event loop handles before it turns to what the threads have finished
SWITCH_INTERVAL_S = 0.0005  # the event loop must not wait for the threads that decode


class WorkerConfig(Record):
    """The configuration of a worker.

    Attributes:
        model: The model file or run folder.
        fd: File descriptor of the socket that listens.
        options: Of the server.
        access: Who may use it.
        page: What /lab/ shows, if anything.
    """

    model: str
    fd: int
    options: ServeOptions
    access: Access
    page: StaticPage | None = None


class Ready(Record):
    """What a worker says once it answers requests.

    Attributes:
        sha256: Of the model file.
        name: Of the model file.
        classes: How many there are.
    """

    sha256: str
    name: str
    classes: int


class DrainingServer(uvicorn.Server):
    """A server that loses no request when it stops.

    Args:
        config: Of uvicorn.
        state: Of the worker.
        listener: The socket that listens.
    """

    def __init__(self, config: uvicorn.Config, state: ServerState, listener: socket.socket) -> None:
        super().__init__(config)
        self.state, self.listener = state, listener
        self.loop = asyncio.get_running_loop()
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, _: FrameType | None) -> None:
        """Handle the signal: begin to stop; a second Ctrl-C does not wait for anything."""
        if self.state.stopping:
            self.should_exit = self.force_exit = sig == signal.SIGINT
            return
        self.state.stopping = True
        self.loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        await asyncio.sleep(self.state.options.drain_delay)
        _refuse_handshakes(self.listener)
        await asyncio.sleep(ACCEPT_S)
        for server in self.servers:
            server.close()
        end = time.monotonic() + FIRST_REQUEST_S
        while self.server_state.connections and time.monotonic() < end:
            await asyncio.sleep(0.01)
        self.should_exit = True


def _refuse_handshakes(listener: socket.socket) -> None:
    """Let the kernel drop new handshakes for a listening socket: closing it would reset connections not yet accepted.

    Handshakes that have begun are completed: those clients may send a request. Only on Linux; elsewhere such
    connections are lost.
    """
    if sys.platform == "linux":
        code = ctypes.create_string_buffer(_DROP_SYN)
        program = struct.pack("HxxxxxxP", 4, ctypes.addressof(code))  # struct sock_fprog
        with suppress(OSError):  # a kernel without filters
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


async def _serve(config: WorkerConfig) -> None:
    options = config.options
    predictor = Predictor(config.model)
    metrics = Metrics(predictor.classes, predictor.preprocessing.typical)
    threads = options.threads or max(1, min(MAX_THREADS, max_threads() // options.workers))
    batcher = Batcher(
        predictor, threads, options.queue, options.max_waiting_images, options.max_megapixels, metrics
    )  # fmt: skip
    state = ServerState(options, config.access, predictor, describe_model(predictor), batcher, metrics)
    listener = socket.socket(fileno=config.fd)
    gateway = Gateway(make_app(state, config.page), state)
    server = DrainingServer(
        uvicorn.Config(
            cast("Any", gateway), http=cast("Any", partial(LimitedProtocol, state, Shedder(state))), ws="none",
            lifespan="off", loop="asyncio", log_config=None, log_level="critical", access_log=False,
            server_header=False, proxy_headers=False,
            timeout_keep_alive=int(KEEP_ALIVE_S), timeout_graceful_shutdown=FINISH_S,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        ),
        state, listener,
    )  # fmt: skip
    state.tasks = server.server_state.tasks
    announcement = Ready(sha256=predictor.sha256, name=predictor.path.name, classes=len(predictor.classes))
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    gc.collect()
    gc.freeze()  # what lives until the end need not be looked at again
    _announce(announcement)
    await serving


def _announce(ready: Ready) -> None:
    sys.stdout.write(ready.model_dump_json() + "\n")
    sys.stdout.flush()


class BoundedSelector(selectors.DefaultSelector):
    """Reports few sockets at a time, so that answers do not wait until the requests of all connections are refused.

    Those that have waited longest come first; the others are reported later, because selectors are level-triggered.
    """

    def __init__(self) -> None:
        super().__init__()
        self._round = 0
        self._reported: dict[int, int] = {}  # the last round, by file descriptor

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Sockets that are ready."""
        events = super().select(timeout)
        if len(events) > MAX_EVENTS:
            events.sort(key=lambda event: self._reported.get(event[0].fd, 0))
            del events[MAX_EVENTS:]
        self._round += 1
        for key, _ in events:
            self._reported[key.fd] = self._round
        return events


def _end_with_supervisor() -> None:
    """Stop in order when standard input ends."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Run the worker; its exit code."""
    config = WorkerConfig.model_validate(json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a client's mistakes are in its answer
    try:
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(BoundedSelector())) as runner:
            runner.run(_serve(config))
    except ConvscopeError as error:
        sys.stderr.write(f"convscope: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
