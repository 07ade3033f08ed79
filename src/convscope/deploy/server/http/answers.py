"""What all answers have in common, and problems as bytes, for when there is no application to answer."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from convscope.deploy.server.http.problems import MEDIA_TYPE, Problem

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


def render_problem(problem: Problem, request_id: str, more: Mapping[str, str] | None = None) -> bytes:
    """A whole answer: status line, headers and body.

    Args:
        problem: What is answered.
        request_id: Of the request.
        more: Further headers.
    """
    body = problem.body(request_id)
    headers = {
        "content-type": MEDIA_TYPE, "content-length": str(len(body)), "x-request-id": request_id,
        **HEADERS, **problem.headers, **(more or {}),
    }  # fmt: skip
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
