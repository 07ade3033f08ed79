"""A server with more requests than it can answer: what is refused, how, and what that costs those who are answered."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

import convscope
from convscope.deploy.server.app import ServerState
from convscope.deploy.server.http.shedding import MAX_SKIPPED_BYTES, Shedder
from convscope.deploy.server.metrics import Metrics
from convscope.deploy.server.options import Access
from helpers.hostile import RawAnswer, png, read_answer
from helpers.http_load import post
from helpers.serve_checks import metrics_of
from helpers.serving import RunningServer, form, serving

TOKEN = "correct-horse-battery-staple"
PAGE = "https://app.example"
LARGE = png(6000, 6000, zlib.compress(bytes(6001 * 6000), 1))
REFUSED = 'convscope_requests_total{path="/v1/predict",status="503"}'


class State:
    """What a shedder needs of a worker."""

    def __init__(self, access: Access) -> None:
        self.access, self.stopping = access, False
        self.metrics = Metrics(["0"], None)


def shedder(access: Access | None = None) -> Shedder:
    """A shedder of its own."""
    state: ServerState = State(access or Access())  # type: ignore[assignment]
    return Shedder(state)


def parse(answer: bytes) -> RawAnswer:
    """A whole answer, whose length must be as stated."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\ncontent-length: %d" % len(body) in head
    return RawAnswer(int(head[9:12]), head + b"\r\n", body)


@pytest.mark.parametrize("request_id", ["a", "tag-17", "x" * 128])
def test_refuse_of_usual_request_answers_503_with_its_id(request_id: str) -> None:
    refusal = shedder().refuse(post("/v1/predict", b"image", X_Request_ID=request_id))
    assert refusal is not None
    assert (refusal.ends, refusal.unread) == (False, 0)
    answer = parse(refusal.answer)
    assert answer.status == 503
    assert b"\r\nretry-after: 1\r\n" in answer.head
    assert f"\r\nx-request-id: {request_id}\r\n".encode() in answer.head
    problem = json.loads(answer.body)
    assert (problem["request_id"], problem["status"]) == (request_id, 503)
    assert problem["type"].endswith("#overloaded")


def test_refuse_of_malformed_id_makes_a_new_one() -> None:
    refusal = shedder().refuse(post("/v1/predict", b"", X_Request_ID="a<b"))
    assert refusal is not None
    assert len(json.loads(parse(refusal.answer).body)["request_id"]) == 32


ACCESS = {  # headers: the status with a token and one allowed page
    (("Host", "evil.example"),): 421,
    (("Origin", "https://evil.example"), ("Authorization", f"Bearer {TOKEN}")): 403,
    (): 401,
    (("Authorization", "Bearer another-token"),): 401,
    (("Authorization", f"Bearer {TOKEN}"),): 503,
}


@pytest.mark.parametrize("headers", ACCESS)
def test_refuse_checks_access_first(headers: tuple[tuple[str, str], ...]) -> None:
    data = post("/v1/predict", b"", **dict(headers))
    if headers and headers[0][0] == "Host":
        data = data.replace(b"Host: 127.0.0.1\r\n", b"")
    refusal = shedder(Access(token=TOKEN, origins=(PAGE,))).refuse(data)
    assert refusal is not None
    assert parse(refusal.answer).status == ACCESS[headers]


def test_refuse_lets_allowed_page_read_the_answer() -> None:
    refusal = shedder(Access(origins=(PAGE,))).refuse(post("/v1/predict", b"", Origin=PAGE))
    assert refusal is not None
    assert f"\r\naccess-control-allow-origin: {PAGE}\r\n".encode() in parse(refusal.answer).head


USUAL = post("/v1/predict", b"image")
UNUSUAL = {
    "other path": post("/v1/model", b""),
    "other method": USUAL.replace(b"POST", b"PUT"),
    "query": post("/v1/predict?a=1", b""),
    "HTTP/1.0": USUAL.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "part of the headers": USUAL[:40],
    "chunks": post("/v1/predict", b"0\r\n\r\n", Transfer_Encoding="chunked"),
    "closing": post("/v1/predict", b"", Connection="close"),
    "waiting for 100": post("/v1/predict", b"", Expect="100-continue"),
    "header twice": USUAL.replace(b"\r\n\r\n", b"\r\nHost: evil.example\r\n\r\n"),
    "no length": USUAL.replace(b"Content-Length: 5\r\n", b""),
    "negative length": USUAL.replace(b"Length: 5", b"Length: -5"),
    "folded header": USUAL.replace(b"\r\n\r\n", b"\r\n folded\r\n\r\n"),
    "space before colon": USUAL.replace(b"Host:", b"Host :"),
    "control character": USUAL.replace(b"image/png", b"image/\x01png"),
    "bare line feed": USUAL.replace(b"image/png", b"image/png\nX-A: 1"),
    "next request": USUAL + USUAL,
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_refuse_leaves_unusual_requests_to_the_parser(case: str) -> None:
    assert shedder().refuse(UNUSUAL[case]) is None


def test_refuse_of_headers_made_to_be_slow_takes_no_time() -> None:
    value = b" " * 300_000 + b"\x01"  # minutes for a pattern that tries every split of the spaces
    assert shedder().refuse(USUAL.replace(b"image/png", value)) is None


def test_refuse_of_request_whose_body_arrives_later_says_how_much_is_to_come() -> None:
    head = post("/v1/predict", bytes(1000))[:-1000]
    refusal = shedder().refuse(head + bytes(400))
    assert refusal is not None
    assert (refusal.ends, refusal.unread) == (False, 600)


def test_refuse_of_long_body_ends_the_connection() -> None:
    refusal = shedder().refuse(post("/v1/predict", bytes(MAX_SKIPPED_BYTES + 300))[:300])
    assert refusal is not None
    assert refusal.ends
    assert b"\r\nconnection: close\r\n" in parse(refusal.answer).head


@contextmanager
def full(run: convscope.Run, *words: str) -> Iterator[RunningServer]:
    """A server whose queue has one place, which large images take for some seconds."""
    options = ("--queue", "1", "--max-images", "4", "--max-megapixels", "100", *words)
    body, headers = form(LARGE, LARGE, LARGE)
    with serving(run.model_file, *options) as running:
        busy = threading.Thread()  # not started
        while running.predict(b"").status != 503:
            if not busy.is_alive():  # at the start, or because the image came while the place was taken
                busy = threading.Thread(target=running.request, args=["POST", "/v1/predict", body, headers])
                busy.start()
                time.sleep(0.02)
        yield running
        busy.join()


def statuses_of(server: RunningServer, parts: Sequence[bytes]) -> list[int]:
    """The answers on one connection to the parts of requests, sent one after the other, and then to GET /livez."""
    with socket.create_connection(server.address, timeout=10) as connection:
        for part in (*parts, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):
            connection.sendall(part)
            time.sleep(0.01)
        received = b""
        while part := connection.recv(65536):
            received += part
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", received)]


@pytest.mark.slow
def test_refused_connections_go_on(digits_run: convscope.Run, digit_files: list[bytes]) -> None:
    request = post("/v1/predict", digit_files[0])
    end = request.index(b"\r\n\r\n") + 4
    chunked = post("/v1/predict", b"", Transfer_Encoding="chunked").replace(b"Content-Length: 0\r\n", b"")
    cases = {
        "whole": [request],
        "body later": [request[:end], request[end:]],
        "body in parts": [request[: end + 9], request[end + 9 : end + 20], request[end + 20 :]],
        "head in parts": [request[:30], request[30:]],
        "two at once": [request + request],
        "chunks": [chunked, b"5\r\nabcde\r\n", b"0\r\n\r\n"],
    }
    with full(digits_run) as running:
        before = metrics_of(running)[REFUSED]
        found = {name: statuses_of(running, parts) for name, parts in cases.items()}
        assert found == {name: [503, 503, 200] if name == "two at once" else [503, 200] for name in cases}
        time.sleep(0.6)  # what /metrics may be behind
        assert metrics_of(running)[REFUSED] == before + len(cases) + 1


@pytest.mark.slow
def test_connection_that_is_refused_again_and_again_stays_open(
    digits_run: convscope.Run, digit_files: list[bytes]
) -> None:
    request, statuses = post("/v1/predict", digit_files[0]), []
    with (
        full(digits_run, "--read-timeout", "1") as running,  # so a connection may be idle for 1/3 s
        socket.create_connection(running.address, timeout=10) as connection,
    ):
        for _ in range(8):
            connection.sendall(request)
            statuses.append(read_answer(connection).status)
            time.sleep(0.1)
    assert statuses.count(503) >= 5
    assert set(statuses) <= {200, 503}
