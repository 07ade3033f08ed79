"""Stopping without losing a request.

A server that is told to stop is not ready from then on, but still accepts connections for a while, for clients that do
not know it yet. Then no further handshakes succeed, the connections that the kernel has already accepted are taken, and
those that have just been made get the time to send their request. Each answer closes its connection.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from types import FrameType

import uvicorn

from convscope.deploy.server.app import ServerState

ACCEPT_S = 0.1  # to take the connections that the kernel has accepted
FIRST_REQUEST_S = 1.0  # for which a connection without a request stays open
FINISH_S = 20  # within which accepted requests are answered

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # struct sock_filter of linux/filter.h: return 0 bytes of each packet


class DrainingServer(uvicorn.Server):
    """A server that loses no request when it is told to stop.

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
    """Let the kernel drop what arrives for a listening socket: closing it would reset connections not yet accepted.

    Only on Linux; elsewhere those connections are lost.
    """
    if sys.platform == "linux":
        code = ctypes.create_string_buffer(_DROP_ALL)
        program = struct.pack("HxxxxxxP", 1, ctypes.addressof(code))  # struct sock_fprog
        with suppress(OSError):  # a kernel without filters
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
