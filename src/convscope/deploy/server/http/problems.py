"""Errors as problem details (RFC 9457): every answer that is not a result has this form."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

from convscope._records import Record

DOCUMENTATION = "https://github.com/convscope/convscope/blob/main/docs/serving.md#"
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_random = random.Random()  # not secrets.token_hex: a request id is no secret, and a system call costs a thread switch


def new_request_id() -> str:
    """32 random hexadecimal digits."""
    return f"{_random.getrandbits(128):032x}"


def request_id_of(given: str) -> str:
    """The identifier that the client gave, or a new one if that is not made of 1 to 128 letters, digits and ._-"""
    return given if _REQUEST_ID.fullmatch(given) else new_request_id()


class Kind(NamedTuple):
    """A kind of problem: its HTTP status, and a title that is the same for each occurrence."""

    status: int
    title: str


KINDS = {
    "malformed-request": Kind(400, "The request is malformed"),
    "missing-token": Kind(401, "A valid token is needed"),
    "foreign-origin": Kind(403, "This web page may not use the server"),
    "not-found": Kind(404, "There is nothing at this path"),
    "method-not-allowed": Kind(405, "This path does not take the method"),
    "slow-request": Kind(408, "The request did not arrive in time"),
    "too-large": Kind(413, "The request is too large"),
    "long-address": Kind(414, "The path and query are too long"),
    "unsupported-media-type": Kind(415, "The content type is not supported"),
    "wrong-host": Kind(421, "The server is not known by this name"),
    "invalid-images": Kind(422, "Images cannot be classified"),
    "headers-too-large": Kind(431, "The headers are too large"),
    "internal-error": Kind(500, "The server failed"),
    "overloaded": Kind(503, "The server is overloaded"),
    "stopping": Kind(503, "The server is starting or stopping"),
}


class ImageProblem(Record):
    """What is wrong with one image of a request.

    Attributes:
        index: Which image, from 0.
        detail: What was expected, what came, what to do.
    """

    index: int
    detail: str


class ProblemDetails(Record):
    """A problem as in RFC 9457.

    Attributes:
        type: The kind of problem; the address of its documentation.
        title: The kind of problem in words.
        status: The HTTP status.
        detail: What was expected, what came, what to do.
        request_id: The identifier in the header X-Request-ID.
        errors: What is wrong with each bad image, if images are the problem; else empty.
    """

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: tuple[ImageProblem, ...] = ()


class Problem(Exception):  # noqa: N818
    """Ends the handling of a request.

    Args:
        kind: One of `KINDS`.
        detail: What was expected, what came, what to do.
        errors: What is wrong with each bad image.
        headers: Further headers of the answer.
    """

    def __init__(
        self, kind: str, detail: str, errors: Sequence[ImageProblem] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.errors = kind, detail, tuple(errors)
        self.status = KINDS[kind].status
        self.headers = {**(headers or {})}
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.headers["retry-after"] = str(RETRY_AFTER_S)

    def body(self, request_id: str) -> bytes:
        """The problem as JSON."""
        return json.dumps(
            {
                "type": DOCUMENTATION + self.kind,
                "title": KINDS[self.kind].title,
                "status": self.status,
                "detail": self.detail,
                "request_id": request_id,
                "errors": [error.model_dump() for error in self.errors],
            }
        ).encode()


def overloaded() -> Problem:
    """The answer while too many images wait."""
    return Problem("overloaded", "too many images are waiting: try again later")
