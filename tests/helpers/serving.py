"""Real servers: `convscope serve` in a process of its own, and a client of the standard library."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import coverage

ROOT = Path(__file__).parents[2]
START_S = 60
STOP_S = 30


class Reply(NamedTuple):
    """An answer: its status, its headers with names in lower case, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)


class RunningServer(NamedTuple):
    """A server that answers: its process, and what it printed when it was ready."""

    process: subprocess.Popen[str]
    info: dict[str, Any]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.info["url"])
        return str(parts.hostname), int(parts.port or 0)

    def request(
        self, method: str, path: str, body: bytes | str | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send one request over a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def predict(self, image: bytes, content_type: str = "image/png") -> Reply:
        """Send one image file."""
        return self.request("POST", "/v1/predict", image, {"Content-Type": content_type})

    def worker_pids(self) -> list[int]:
        """The processes that answer."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def stop(self) -> int:
        """Send SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


def form(*files: bytes, boundary: str = "b0undary") -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a form with these files, named 0.png, 1.png, ..."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{i}.png"\r\n\r\n'.encode() + file
        for i, file in enumerate(files)
    ]
    body = b"".join(part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


@contextmanager
def serving(model: Path, *words: str, environment: Mapping[str, str] | None = None) -> Iterator[RunningServer]:
    """Start `convscope serve` on a free port; it is stopped at the end of the block if it still runs.

    Args:
        model: A model file or run folder.
        words: Further options.
        environment: Further variables.
    """
    command = [sys.executable, "-m", "convscope", "serve", str(model), "--port", "0", "--json", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2", **_coverage_variables(), **(environment or {})},
    )  # fmt: skip
    try:
        yield RunningServer(process, _read_info(process))
    finally:
        if process.poll() is None:
            process.terminate()  # it writes its coverage as it stops
        try:
            process.communicate(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _coverage_variables() -> dict[str, str]:
    """Variables by which the server measures its coverage, if the tests are measured."""
    if coverage.Coverage.current() is None:
        return {}
    return {"COVERAGE_PROCESS_START": str(ROOT / "pyproject.toml"), "COVERAGE_FILE": str(ROOT / ".coverage")}


def _read_info(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON object that the server prints when it is ready."""
    assert process.stdout is not None
    text, timer = "", Timer(START_S, process.kill)  # a server that prints nothing must not stop the tests
    timer.start()
    try:
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, f"nothing was printed within {START_S} s, or: {process.communicate()[1]}"
            text += line
    finally:
        timer.cancel()
    info: dict[str, Any] = json.loads(text)
    return info
