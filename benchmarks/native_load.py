"""Runs http_load.cpp, which takes a tenth of the processor time of a client in Python."""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from helpers.http_load import Tally

SOURCE = Path(__file__).parent / "http_load.cpp"


def closed_load(address: tuple[str, int], requests: Sequence[bytes], clients: int, seconds: float) -> Tally:
    """Let each of the clients send its next request as soon as it has an answer."""
    return _load(address, requests, 0, seconds, clients)


def open_load(address: tuple[str, int], requests: Sequence[bytes], rate: float, seconds: float) -> Tally:
    """Send requests at a fixed rate, per second, over at most 1,000 connections, whether or not answers come."""
    return _load(address, requests, rate, seconds, 1000)


def _load(address: tuple[str, int], requests: Sequence[bytes], rate: float, seconds: float, connections: int) -> Tally:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(struct.pack("<I", len(request)) + request for request in requests))
        file.flush()
        words = [_program(), *address, file.name, rate, seconds, connections]
        output = subprocess.run(list(map(str, words)), stdout=subprocess.PIPE, text=True, check=True).stdout
    tally = Tally()
    for line in output.splitlines():
        status, _, latency = line.partition(" ")
        tally.add(int(status), float(latency))
    return tally


@cache
def _program() -> Path:
    """The program, compiled."""
    program = Path(tempfile.mkdtemp(prefix="convscope-"), "http_load")
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, "-O2", "-std=c++17", "-Wall", "-o", program, SOURCE], check=True)
    return program
