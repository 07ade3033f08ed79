"""A load generator for `convscope serve`: many connections in one process, each with one request at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What a load has been answered.

    Attributes:
        statuses: How often each status came; 0 for a request that got no answer.
        latencies: Seconds of each answer 200.
        refusals: Seconds of each answer 503.
        wrong: Messages about answers that are not what was asked for.
    """

    statuses: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, status: int, seconds: float) -> None:
        """Count one answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 200:
            self.latencies.append(seconds)
        elif status == 503:
            self.refusals.append(seconds)

    def milliseconds(self, quantile: float, of: str = "latencies") -> float:
        """A quantile, 0..1, of the latencies or the refusals; NaN if there are none."""
        values = sorted(getattr(self, of))
        return 1000 * values[min(len(values) - 1, int(quantile * len(values)))] if values else float("nan")


def post(path: str, body: bytes, content_type: str = "image/png", **headers: str) -> bytes:
    """A whole request."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Client(asyncio.Protocol):
    """One connection, opened again whenever the server closes it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[tuple[int, bytes, bytes] | None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport, self._buffer = transport, b""

    def connection_lost(self, _: Exception | None) -> None:
        """The answer does not come anymore."""
        self.transport = None
        if self._answer and not self._answer.done():
            self._answer.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Put the parts of an answer together."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if len(self._buffer) >= end + 4 + length:
            body, self._buffer = self._buffer[end + 4 :], b""
            if self._answer and not self._answer.done():
                self._answer.set_result((int(head[9:12]), head, body))

    async def send(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Send a request; status, headers in lower case and body of the answer. Status 0 if there is none."""
        loop = asyncio.get_running_loop()
        if self.transport is None or self.transport.is_closing():
            try:
                await loop.create_connection(lambda: self, *self.address)
            except OSError:
                return -1, b"", b""  # not accepted
        assert self.transport is not None
        self._answer = loop.create_future()
        self.transport.write(request)
        answer = await self._answer
        if answer is None:
            return 0, b"", b""
        if b"\r\nconnection: close" in answer[1] and self.transport is not None:
            self.transport.close()
            self.transport = None
        return answer


Check = Callable[[int, bytes, bytes], str]  # index of the request, headers, body -> what is wrong, or ""


async def closed_loop(
    address: tuple[str, int],
    requests: Sequence[bytes],
    clients: int,
    stop: Callable[[], bool],
    check: Check | None = None,
) -> Tally:
    """Let `clients` connections send one request after the other until `stop()`.

    Args:
        address: Of the server.
        requests: Sent in turn.
        clients: Number of connections.
        stop: Asked before each request.
        check: Called with each answer 200.
    """
    tally, number = Tally(), 0

    async def run() -> None:
        nonlocal number
        client = Client(address)
        while not stop():
            index = number % len(requests)
            number += 1
            start = time.perf_counter()
            status, head, body = await client.send(requests[index])
            tally.add(status, time.perf_counter() - start)
            if status == 200 and check and (wrong := check(index, head, body)):
                tally.wrong.append(wrong)
            if status == -1:
                await asyncio.sleep(0.01)
        if client.transport:
            client.transport.close()

    await asyncio.gather(*(run() for _ in range(clients)))
    return tally
