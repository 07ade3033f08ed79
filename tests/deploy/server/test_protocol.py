"""What the server builds on in uvicorn without its documentation, and the order in which sockets are handled."""

from __future__ import annotations

import asyncio
import selectors
import socket

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from convscope.deploy.server.worker import MAX_EVENTS, BoundedSelector

USED = {  # by LimitedProtocol, DrainingServer and ServerState.tasks; if one is missing, read uvicorn's changes first
    "connections", "tasks", "conn", "cycle", "loop", "transport", "timeout_keep_alive_task",
    "_unset_keepalive_if_required", "timeout_keep_alive_handler", "on_response_complete", "send_400_response",
    "pause_writing", "resume_writing",
}  # fmt: skip


async def _answer(scope: object, receive: object, send: object) -> None:
    """Answer nothing."""


async def _protocol() -> H11Protocol:
    return H11Protocol(uvicorn.Config(_answer), ServerState(), {}, asyncio.get_running_loop())


def test_uvicorn_has_what_the_protocol_uses() -> None:
    protocol = asyncio.run(_protocol())
    assert {name for name in USED if not hasattr(protocol, name)} == set()
    assert protocol.tasks is protocol.server_state.tasks
    server = vars(uvicorn.Server(uvicorn.Config(_answer)))
    assert {"started", "server_state", "should_exit", "force_exit"} <= server.keys()


def test_select_with_many_ready_sockets_reports_each_in_turn() -> None:
    pairs = [socket.socketpair() for _ in range(MAX_EVENTS + 10)]
    with BoundedSelector() as selector:
        for number, (reader, writer) in enumerate(pairs):
            selector.register(reader, selectors.EVENT_READ, number)
            writer.send(b"x")
        first = [key.data for key, _ in selector.select(1)]
        for number in first:
            pairs[number][0].recv(1)
            pairs[number][1].send(b"x")  # a busy client sends the next request at once
        second = [key.data for key, _ in selector.select(1)]
    for pair in pairs:
        for one in pair:
            one.close()
    assert (len(first), len(second)) == (MAX_EVENTS, MAX_EVENTS)
    assert set(first) | set(second) == set(range(len(pairs)))  # nobody waits longer than one round
