"""What a server does under load, when it is stopped and when a worker is killed; for tests and the benchmark."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convscope.deploy.predictor import Predictor
from convscope.images.read import encode_png
from helpers.hostile import fault_of, send_raw
from helpers.http_load import Check, Client, Tally, closed_loop, post
from helpers.serving import RunningServer, serving

READY = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
TOLERANCE = 1e-5  # of a probability: batches of other sizes round differently


class Stop(NamedTuple):
    """How a server under load ended after SIGTERM.

    Attributes:
        answered: Requests that were answered with 200.
        lost: Requests without an answer, on connections that the server had accepted.
        refused: Requests that were answered with 503.
        not_ready_s: Seconds until it was not ready anymore.
        exit_s: Seconds until it had ended.
        code: Its exit code.
    """

    answered: int
    lost: int
    refused: int
    not_ready_s: float
    exit_s: float
    code: int


def digit_requests(images: NDArray[np.uint8]) -> list[bytes]:
    """A request for each image, uint8 (n, h, w, c), with its index as its request id."""
    return [post("/v1/predict", encode_png(image), X_Request_ID=f"tag-{i}") for i, image in enumerate(images)]


def tag_check(model: Path, images: NDArray[np.uint8]) -> Check:
    """A check that each answer is that of its own image, known from `Predictor`, and has its own request id."""
    known = [one.probabilities for one in Predictor(model).predict([encode_png(image) for image in images])]

    def check(index: int, head: bytes, body: bytes) -> str:
        if f"\r\nx-request-id: tag-{index}".encode() not in head:
            return f"request {index}: another request id"
        (answer,) = json.loads(body)["predictions"]
        worst = max(abs(answer["probabilities"][name] - value) for name, value in known[index].items())
        return f"request {index}: a probability is {worst:.2g} off" if worst > TOLERANCE else ""

    return check


def run_load(server: RunningServer, requests: Sequence[bytes], clients: int, seconds: float) -> Tally:
    """Let clients send one request after the other for some seconds."""
    end = time.monotonic() + seconds
    return asyncio.run(closed_loop(server.address, requests, clients, lambda: time.monotonic() > end))


def run_count(server: RunningServer, requests: Sequence[bytes], clients: int, count: int, check: Check) -> Tally:
    """Let clients send `count` requests, and check the answers."""
    left = count

    def stop() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    return asyncio.run(closed_loop(server.address, requests, clients, stop, check))


def stop_under_load(model: Path, requests: Sequence[bytes], clients: int, *options: str) -> Stop:
    """Start a server, send it requests, and stop it with SIGTERM.

    Args:
        model: What to serve.
        requests: Sent in turn.
        clients: Number of connections.
        options: Further options of the server.
    """
    with serving(model, *options) as server:
        return asyncio.run(_stop(server, requests, clients))


async def _stop(server: RunningServer, requests: Sequence[bytes], clients: int) -> Stop:
    ended = False
    load = asyncio.create_task(closed_loop(server.address, requests, clients, lambda: ended))
    await asyncio.sleep(0.5)
    start = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    client, status = Client(server.address), 200
    while status == 200:
        status, _, _ = await client.send(READY)
    not_ready = time.monotonic() - start
    code = await asyncio.get_running_loop().run_in_executor(None, server.process.wait, 60)
    exit_s = time.monotonic() - start
    ended = True
    statuses = (await load).statuses
    return Stop(statuses.get(200, 0), statuses.get(0, 0), statuses.get(503, 0), not_ready, exit_s, code)


def seconds_until_ready_after_kill(server: RunningServer) -> float:
    """Kill the only worker with SIGKILL; how long until another one is ready."""
    (pid,) = server.worker_pids()
    start = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    while time.monotonic() - start < 60:
        try:
            if server.worker_pids() not in ([], [pid]) and server.request("GET", "/readyz").status == 200:
                break
        except OSError:
            pass
        time.sleep(0.01)
    return time.monotonic() - start


class Trial(NamedTuple):
    """What hostile images did.

    Attributes:
        statuses: How often each status came.
        faults: What was wrong.
        peak_mb: The most memory that one of them took, in 10^6 bytes.
        slowest_s: The longest that one of them took.
    """

    statuses: dict[int, int]
    faults: list[str]
    peak_mb: float
    slowest_s: float


def try_images(server: RunningServer, images: Iterable[tuple[str, bytes]]) -> Trial:
    """Send each image in a request of its own; each must be answered, with 200 or a problem detail."""
    statuses: dict[int, int] = {}
    faults: list[str] = []
    peak = slowest = 0.0
    (pid,) = server.worker_pids()
    for name, content in images:
        before, start = _reset_peak(pid), time.monotonic()
        try:
            answer = send_raw(server.address, post("/v1/predict", content, "application/octet-stream"))
        except TimeoutError:
            faults.append(f"{name}: hangs")
            continue
        slowest = max(slowest, time.monotonic() - start)
        peak = max(peak, _memory(pid)["VmHWM"] - before)
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
        if fault := fault_of(answer):
            faults.append(f"{name}: {fault}")
    if server.worker_pids() != [pid]:
        faults.append("the worker crashed")
    return Trial(statuses, faults, peak / 1e6, slowest)


def resident_mb(server: RunningServer) -> float:
    """Memory of all workers, in 10^6 bytes."""
    return sum(_memory(pid)["VmRSS"] for pid in server.worker_pids()) / 1e6


def _reset_peak(pid: int) -> int:
    """Let VmHWM start anew at the present memory, in bytes, which is returned."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _memory(pid)["VmRSS"]


def _memory(pid: int) -> dict[str, int]:
    """The lines of /proc/PID/status that are sizes, in bytes."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if words[-1] == "kB"}


def metrics_of(server: RunningServer) -> dict[str, float]:
    """The numbers at /metrics, by name and labels as they are written there."""
    text = server.request("GET", "/metrics").body.decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
