"""Serves the page on this machine: the standard library, no other file, no request to anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from convscope.deploy.server.static import read_files
from convscope.errors import UsageError
from convscope.lab.bundle import PAGE

HOST = "127.0.0.1"
# No script, style, image or connection but this server's; `blob:` and `data:` are images that the page makes itself.
POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Served(NamedTuple):
    """A file of the page: its type and content, and more headers."""

    kind: str
    content: bytes
    headers: dict[str, str]


More = Callable[[str], Served | None]  # what is answered to a path; None if nothing


def page_files(model: bytes | None, name: str) -> dict[str, Served]:
    """What the server answers, by path.

    Args:
        model: The model file; None if the user opens one in the page.
        name: What the page calls it.
    """
    files = {f"/{path}": Served(kind, content, {}) for path, (content, kind) in read_files(PAGE).items()}
    if model is not None:
        files["/model.onnx"] = Served("application/octet-stream", model, {"X-Model-Name": quote(name)})
    return files


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "convscope", ""
    timeout = 60

    def __init__(self, files: dict[str, Served], more: More, *arguments: object) -> None:
        self.files, self.more = files, more
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Send a file."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Send a file's headers."""
        self._answer(with_body=False)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, with_body: bool) -> None:
        # Another name would be a page elsewhere that was pointed at this address (DNS rebinding).
        host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
        if host not in (HOST, "localhost"):
            return self._send(HTTPStatus.MISDIRECTED_REQUEST, Served("text/plain", b"another host\n", {}), with_body)
        path = urlsplit(self.path).path
        found = self.files.get(path) or self.more(path)
        if found is None:
            return self._send(HTTPStatus.NOT_FOUND, Served("text/plain", b"not found\n", {}), with_body)
        return self._send(HTTPStatus.OK, found, with_body)

    def _send(self, status: HTTPStatus, served: Served, with_body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", served.kind)
        self.send_header("Content-Length", str(len(served.content)))
        for name, value in (HEADERS | served.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(served.content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that hangs up."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def serve_page(
    port: int, model: Path | None, content: bytes | None, started: Callable[[str], None], samples: More | None = None
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        port: 0 takes a free one.
        model: The path of the model file, for its name.
        content: The model file; None if the user opens one in the page.
        started: Called with the address.
        samples: Answers to other paths, about images of the model's data set.

    Raises:
        UsageError: The port is in use.
    """
    name = "/".join(model.parts[-2:]) if model else ""
    files = page_files(content, name)
    if samples:
        files["/model.onnx"].headers["X-Lab-Samples"] = "offered"
    try:
        server = _Server((HOST, port), partial(_Handler, files, samples or (lambda _: None)))
    except OSError as error:
        raise UsageError(f"port {port} cannot be used ({error.strerror}): choose another --port") from error
    with server:
        started(f"http://{HOST}:{server.server_port}/")
        server.serve_forever()
