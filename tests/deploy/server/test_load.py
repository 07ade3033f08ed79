"""A real server under load, stopped, killed, and attacked; `benchmarks/bench_serve.py` does the same for longer."""

from __future__ import annotations

import json
import os
import signal
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

import convscope
from helpers.hostile import SlowClients, bombs, mutated_images, send_raw, try_tricks
from helpers.http_load import post
from helpers.serve_checks import (
    digit_requests,
    metrics_of,
    run_count,
    run_load,
    seconds_until_ready_after_kill,
    stop_under_load,
    tag_check,
    try_images,
)
from helpers.serving import RunningServer, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """50 digits."""
    return convscope.load_data("digits").test.images[:50]


def test_answers_to_many_clients_are_those_of_their_own_images(
    server: RunningServer, digits_run: convscope.Run, images: np.ndarray
) -> None:
    check = tag_check(digits_run.model_file, images)
    before = metrics_of(server)
    tally = run_count(server, digit_requests(images), clients=16, count=1000, check=check)
    assert (tally.statuses, tally.wrong) == ({200: 1000}, [])
    time.sleep(0.6)  # what /metrics may be behind
    after = metrics_of(server)
    name = 'convscope_requests_total{path="/v1/predict",status="200"}'
    assert after[name] - before.get(name, 0) == 1000
    answers = [key for key in after if key.startswith("convscope_answers_total")]
    assert sum(after[key] - before[key] for key in answers) == 1000
    assert after["convscope_batch_images_count"] - before["convscope_batch_images_count"] < 1000  # some were batches


def test_full_queue_refuses_with_retry_after_and_answers_the_rest(
    digits_run: convscope.Run, images: np.ndarray
) -> None:
    with serving(digits_run.model_file, "--queue", "4", "--max-images", "4") as running:
        tally = run_load(running, digit_requests(images), clients=32, seconds=1)
        assert set(tally.statuses) == {200, 503}
        assert running.predict(b"").status == 422  # which is not refused anymore


def test_sigterm_under_load_loses_no_request(digits_run: convscope.Run, images: np.ndarray) -> None:
    requests = digit_requests(images)
    closing = [request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1) for request in requests]
    for stop in (
        stop_under_load(digits_run.model_file, requests, 16),
        stop_under_load(digits_run.model_file, closing, 16, "--workers", "2"),
    ):
        assert stop.answered > 0
        assert (stop.lost, stop.code) == (0, 0)
        assert stop.exit_s < 30


def test_killed_worker_is_replaced(digits_run: convscope.Run) -> None:
    with serving(digits_run.model_file) as running:
        assert seconds_until_ready_after_kill(running) < 30  # 5 on a quiet machine, which bench_serve.py checks
        assert running.request("GET", "/readyz").status == 200
        assert running.stop() == 0


def test_model_that_changed_is_not_served_by_a_new_worker(digits_run: convscope.Run, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(digits_run.model_file.read_bytes())
    with serving(model) as running:
        model.write_bytes(b"another one")
        os.kill(running.worker_pids()[0], signal.SIGKILL)
        assert running.process.wait(30) == 4


def test_tricks_with_paths_headers_and_bodies_are_refused(server: RunningServer) -> None:
    assert try_tricks(server.address) == []


def test_damaged_images_and_bombs_are_answered_within_memory(server: RunningServer) -> None:
    trial = try_images(server, [*mutated_images(100, seed=1), *bombs().items()])
    assert trial.faults == []
    assert trial.statuses[422] > 50
    assert trial.peak_mb < 200


def test_pngsuite_is_answered(server: RunningServer, data_folder: Path) -> None:
    with tarfile.open(data_folder / "pngsuite" / "pngsuite.tar.gz") as archive:
        members = [member for member in archive if member.name.endswith(".png")]
        files = [(member.name, archive.extractfile(member).read()) for member in members]  # type: ignore[union-attr]
    trial = try_images(server, files)
    assert trial.faults == []
    damaged = sum(Path(name).name.startswith("x") for name, _ in files)
    assert trial.statuses == {200: len(files) - damaged, 422: damaged}


def test_slow_clients_are_disconnected_and_do_not_disturb_others(digits_run: convscope.Run) -> None:
    with serving(digits_run.model_file, "--read-timeout", "1", "--max-connections", "120") as running:
        slow = SlowClients(running.address, 100, interval=0.1)
        assert running.request("GET", "/livez").status == 200
        slow.wait(20)
        assert not slow.open
        assert running.request("GET", "/livez").status == 200


def test_slow_body_is_answered_with_408(digits_run: convscope.Run) -> None:
    with serving(digits_run.model_file, "--read-timeout", "1") as running:
        answer = send_raw(running.address, post("/v1/predict", bytes(100))[:-1])
        assert answer.status == 408
        assert json.loads(answer.body)["type"].endswith("#slow-request")


def test_connections_beyond_the_limit_get_503(digits_run: convscope.Run) -> None:
    with serving(digits_run.model_file, "--max-connections", "10") as running:
        idle = SlowClients(running.address, 40, interval=1)
        answer = send_raw(running.address, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        idle.wait(0)
        assert answer.status == 503
        assert b"retry-after: 1" in answer.head
