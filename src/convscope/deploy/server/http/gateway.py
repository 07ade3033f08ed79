"""The layer around the application: request ids, access, limits of the body, headers of every answer, metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convscope.deploy.server.app import ServerState, problem_response
from convscope.deploy.server.http.answers import HEADERS
from convscope.deploy.server.http.problems import Problem, request_id_of
from convscope.deploy.server.http.security import check_access, cors_headers, preflight_headers

PATHS = ("/v1/predict", "/v1/model", "/livez", "/readyz", "/metrics", "/openapi.json")
MAX_HEADER_BYTES = 16_384
MAX_BUFFERED_BYTES = 2**28  # of all request bodies in memory

logger = logging.getLogger("convscope.server")


class Gateway:
    """An ASGI application around another one.

    Args:
        app: The application.
        state: Of the worker.
    """

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        start = time.monotonic()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        exchange = _Exchange(self.state, headers, receive, send)
        scope = {**scope, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
        scope["state"] = {"request_id": exchange.request_id}
        try:
            await self._answer(scope, headers, exchange)
        except ClientDisconnect:
            pass
        except Exception:
            logger.exception("request %s failed", exchange.request_id)
        finally:
            self.state.body_bytes -= exchange.body_bytes
            path = scope["path"] if scope["path"] in PATHS else "other"
            self.state.metrics.requests.labels(path, str(exchange.status)).inc()
            self.state.metrics.latency.labels(path).observe(time.monotonic() - start)

    async def _answer(self, scope: Scope, headers: dict[str, str], exchange: _Exchange) -> None:
        response: ASGIApp = self.app
        try:
            check_access(self.state.access, scope["method"], scope["path"], headers)
            _check_head(scope, headers)
            exchange.check_length(headers.get("content-length", "0"))
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers and "origin" in headers:
                response = Response(status_code=204, headers=preflight_headers())
        except Problem as problem:
            response = problem_response(problem, exchange.request_id)
        await response(scope, exchange.receive, exchange.send)


def _check_head(scope: Scope, headers: Mapping[str, str]) -> None:
    """Raise Problem for what h11 accepts although others may read it differently, and for what is too long."""
    if scope["http_version"] not in ("1.0", "1.1"):
        raise Problem("malformed-request", f"expected HTTP/1.1, got HTTP/{scope['http_version']}")
    if "content-length" in headers and "transfer-encoding" in headers:
        raise Problem("malformed-request", "expected either Content-Length or Transfer-Encoding, got both")
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_HEADER_BYTES // 2:
        raise Problem("long-address", f"expected at most {MAX_HEADER_BYTES // 2:,} bytes of path and query")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        raise Problem("headers-too-large", f"expected headers of at most {MAX_HEADER_BYTES:,} bytes")


class _Exchange:
    """One request and its answer: counts what is received, completes what is sent."""

    def __init__(self, state: ServerState, headers: dict[str, str], receive: Receive, send: Send) -> None:
        self.state, self._receive, self._send = state, receive, send
        self.request_id = request_id_of(headers.get("x-request-id", ""))
        self.body_bytes = 0
        self.status = 0  # none was sent
        self._added = {
            **HEADERS,
            "x-request-id": self.request_id,
            **cors_headers(state.access, headers.get("origin", "")),
        }

    def check_length(self, length: str) -> None:
        """Raise Problem if a body of this length, a decimal number, is too large."""
        limit = self.state.options.max_body_mb
        if len(length) > 18 or int(length) > limit * 1e6:
            raise Problem("too-large", f"expected a body of at most {limit:g} * 10^6 bytes, got {length[:30]} bytes")

    async def receive(self) -> Message:
        """The next part of the body."""
        message = await self._receive()
        size = len(message.get("body", b""))
        self.body_bytes += size
        self.state.body_bytes += size
        self.check_length(str(self.body_bytes))
        if self.state.body_bytes > MAX_BUFFERED_BYTES:
            raise Problem("overloaded", "too many large requests arrive at the same time: try again later")
        return message

    async def send(self, message: Message) -> None:
        """The next part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self._added.items():
                headers.setdefault(name, value)
            if self.state.stopping:
                headers["connection"] = "close"
        await self._send(message)
