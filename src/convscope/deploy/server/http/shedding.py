"""Refuses predictions while too many wait: from the bytes of a request, for a small part of what an answer costs.

Only requests of the usual form are refused here; the application refuses others once they are parsed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from convscope.deploy.server.app import ServerState
from convscope.deploy.server.http.answers import render_problem
from convscope.deploy.server.http.problems import Problem, overloaded, request_id_of
from convscope.deploy.server.http.security import check_access, cors_headers

PATH = "/v1/predict"
MAX_SKIPPED_BYTES = 2**20  # of the body of a refused request; for longer ones the connection ends

_START = f"POST {PATH} HTTP/1.1\r\n".encode()
_HEADERS = re.compile(rb"(?:[A-Za-z0-9-]+:[\t -~]*\r\n)+")  # matches in one way only: no backtracking
_LENGTH = re.compile(r"\d{1,9}")
_ENDING = {"connection": "close"}


class Refusal(NamedTuple):
    """An answer.

    Attributes:
        answer: All of it.
        ends: Whether it is the last one of its connection.
        unread: Bytes of the request that have not arrived.
    """

    answer: bytes
    ends: bool
    unread: int


class Shedder:
    """Refuses predictions.

    Args:
        state: Of the worker.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._count = state.metrics.requests.labels(PATH, "503")
        self._answers: dict[int, list[bytes]] = {}  # without the request id, by the length of that

    def refuse(self, data: bytes) -> Refusal | None:
        """The answer to a request; None if it has to be parsed first.

        Args:
            data: All that has arrived of the request.
        """
        end = data.find(b"\r\n\r\n") + 2
        headers = _read_headers(data, end)
        length = headers.get("content-length", "")
        if not _LENGTH.fullmatch(length) or not headers.keys().isdisjoint(
            ("connection", "expect", "transfer-encoding")
        ):
            return None
        unread = end + 2 + int(length) - len(data)
        if unread < 0:  # the next request has arrived
            return None
        ends = self._state.stopping or unread > MAX_SKIPPED_BYTES
        return Refusal(self._render(headers, ends), ends, unread)

    def _render(self, headers: dict[str, str], ends: bool) -> bytes:
        request_id = request_id_of(headers.get("x-request-id", ""))
        access = self._state.access
        try:
            check_access(access, "POST", PATH, headers)
        except Problem as problem:
            self._state.metrics.requests.labels(PATH, str(problem.status)).inc()
            return self._render_slowly(problem, request_id, headers, ends)
        self._count.inc()
        if ends or access.origins:
            return self._render_slowly(overloaded(), request_id, headers, ends)
        parts = self._answers.get(len(request_id))
        if parts is None:
            blank = "~" * len(request_id)
            parts = self._answers[len(request_id)] = render_problem(overloaded(), blank).split(blank.encode())
        return request_id.encode().join(parts)

    def _render_slowly(self, problem: Problem, request_id: str, headers: dict[str, str], ends: bool) -> bytes:
        more = cors_headers(self._state.access, headers.get("origin", "")) | (_ENDING if ends else {})
        return render_problem(problem, request_id, more)


def _read_headers(data: bytes, end: int) -> dict[str, str]:
    """The headers of a request for a prediction, names in lower case; none if they are unusual.

    Args:
        data: The request.
        end: Where its headers end.
    """
    if not data.startswith(_START) or not _HEADERS.fullmatch(data, len(_START), end):
        return {}
    lines = [line.partition(":") for line in data[len(_START) : end - 2].decode().split("\r\n")]
    headers = {name.lower(): value.strip() for name, _, value in lines}
    return headers if len(headers) == len(lines) else {}  # a header that comes twice
