"""A real S3 server, and a line to it that throttles and breaks."""

from __future__ import annotations

import http.client
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

from helpers.command import required
from helpers.process import wait_until

SERVER = Path(__file__).parents[2] / "build" / "s3" / "bin" / "moto_server"  # an environment of its own, see .ci/run
ENDPOINT = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """The endpoint of a server without any buckets; without one installed the test is skipped, or fails in CI."""
    if not SERVER.exists():
        required("an S3 server in build/s3, see .ci/run")
    log = folder / "s3.log"
    with log.open("wb") as file:
        process = subprocess.Popen([SERVER, "-H", "127.0.0.1", "-p", "0"], stdout=file, stderr=file, text=True)
    try:
        wait_until(lambda: ENDPOINT.search(log.read_text()) is not None, process)
        yield re.findall(ENDPOINT, log.read_text())[0]
    finally:
        process.kill()
        process.wait()


@contextmanager
def unreliable_line(endpoint: str, throttled: int, broken: int) -> Iterator[tuple[str, list[int]]]:
    """A proxy of a server that fails now and then; yields its address, and how often it did: throttled, broken.

    Args:
        endpoint: The server.
        throttled: Of this number of requests, one is answered with 503 SlowDown.
        broken: Of this number of requests, one is ended without an answer.
    """
    target, numbers, failures = endpoint.removeprefix("http://"), count(1), [0, 0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_request(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            number = next(numbers)
            if number % broken == 0:
                failures[1] += 1
                self.close_connection = True
                return
            if number % throttled == 0:
                failures[0] += 1
                self._answer(503, {}, SLOW_DOWN)
                return
            connection = http.client.HTTPConnection(target, timeout=20)
            connection.request(self.command, self.path, content, dict(self.headers))
            answer = connection.getresponse()
            self._answer(answer.status, dict(answer.getheaders()), answer.read())
            connection.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_request  # noqa: N815  names of http.server

        def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}", failures
        proxy.shutdown()
