"""HTTP/1.1 connections with limits: how many, how slow, and what is refused before it costs anything.

uvicorn has no time limit for a request that arrives slowly or an answer that is read slowly, and answers malformed
requests with plain text.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from convscope.deploy.server.app import ServerState
from convscope.deploy.server.http.answers import render_problem
from convscope.deploy.server.http.gateway import MAX_HEADER_BYTES
from convscope.deploy.server.http.problems import Problem, new_request_id
from convscope.deploy.server.http.shedding import Shedder

KEEP_ALIVE_S = 30.0
LINGER_S = 1.0  # how long a refused client may go on sending before the connection is reset


@dataclass
class ConnectionLimits:
    """Seconds and numbers; see `ServeOptions`."""

    header_timeout: float
    read_timeout: float
    max_connections: int


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol with limits.

    Args:
        state: Of the worker.
        shedder: Refuses requests while too many wait.
        rest: What uvicorn passes.
    """

    def __init__(self, state: ServerState, shedder: Shedder, **rest: Any) -> None:
        super().__init__(**rest)
        options = state.options
        self.worker, self.shedder = state, shedder
        self.limits = ConnectionLimits(options.read_timeout / 3, options.read_timeout, options.max_connections)
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._stage: tuple[object, object] = None, None  # what the client is sending, and the request before
        self._refused = False
        self._refusal_time = 0.0  # of the last one
        self._unread = 0  # bytes of the body of a refused request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or refuse it if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._refuse(Problem("overloaded", "too many connections: try again later"))
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived; what a refused client still sends is thrown away."""
        if self._unread:
            data, self._unread = data[self._unread :], max(0, self._unread - len(data))
        if self._refused or not data or self._shed(data):
            return
        super().data_received(data)
        self._watch()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends nothing more; it still gets the answer to a request that has arrived."""
        answering = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        if answering:
            self.cycle.keep_alive = False
        return answering

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._watch()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        error = sys.exc_info()[1]
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431:
            self._refuse(Problem("headers-too-large", f"expected headers of at most {MAX_HEADER_BYTES:,} bytes"))
        else:
            self._refuse(Problem("malformed-request", f"not a valid HTTP/1.1 request: {str(error or msg)[:200]}"))

    def pause_writing(self) -> None:
        """The client does not read its answer."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.limits.read_timeout, self._reset)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _reset(self) -> None:
        """Close the connection; the kernel must not keep what the client does not read."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _watch(self) -> None:
        """Let the time run in which headers, or a body, have to arrive."""
        stage = self.conn.their_state, self.cycle
        if stage == self._stage:
            return
        self._leave_stage()
        self._stage = stage
        if stage[0] is h11.IDLE:
            self._read_timer = self.loop.call_later(self.limits.header_timeout, self._time_out)
        elif stage[0] is h11.SEND_BODY:
            self._read_timer = self.loop.call_later(self.limits.read_timeout, self._time_out)
            self.worker.uploads += 1

    def _leave_stage(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        if self._stage[0] is h11.SEND_BODY:
            self.worker.uploads -= 1
        self._stage = None, None

    def _time_out(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            idle = self.loop.time() - self._refusal_time
            if idle < self.limits.header_timeout:  # it is in use, although nothing was parsed
                self._read_timer = self.loop.call_later(self.limits.header_timeout - idle, self._time_out)
            else:
                self.timeout_keep_alive_handler()
        else:
            self._refuse(Problem("slow-request", f"expected the whole request within {self.limits.read_timeout:g} s"))

    def _shed(self, data: bytes) -> bool:
        """Refuse a request while too many wait, before it is parsed; whether it was refused."""
        if not self.worker.is_full or self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]:
            return False
        refusal = self.shedder.refuse(data)
        if refusal is None:
            return False
        if refusal.ends:
            self._end(refusal.answer)
        else:
            self._unset_keepalive_if_required()
            self._refusal_time = self.loop.time()
            self._unread = refusal.unread
            self.transport.write(refusal.answer)
        return True

    def _refuse(self, problem: Problem) -> None:
        self._end(render_problem(problem, new_request_id(), {"connection": "close"}))

    def _end(self, answer: bytes) -> None:
        """Answer and close the connection, but not before the client could read the answer."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._stop_timers()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
            return
        self.transport.write(answer)
        with suppress(OSError):  # the client is gone already
            self.transport.write_eof()
        self._read_timer = self.loop.call_later(LINGER_S, self.transport.abort)

    def _stop_timers(self) -> None:
        self._unset_keepalive_if_required()
        self._leave_stage()
        if self._write_timer is not None:
            self._write_timer.cancel()
