"""A connection to Ray: started here or joined. It is quiet, and reports to nobody."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from threading import current_thread
from typing import Any, TextIO, cast

import ray

from convscope.errors import ConvscopeError, UsageError

LOCAL = "local"
ADDRESS = re.compile(r"local|auto|[\w.-]+:\d+|\[[0-9a-fA-F:]+\]:\d+")
NO_REPORTS = {"RAY_USAGE_STATS_ENABLED": "0"}  # read by every process of a cluster that is started here
MODE = "RAY_AUTH_MODE"  # Ray sets it once it has a token, which it keeps for the rest of the process
TOKEN = "RAY_AUTH_TOKEN"  # without it, Ray writes one into the user's home that opens the ports of every cluster
CONNECT_TIMEOUT_S = 10.0
MAX_RETRIES = 8  # of a task whose process or node is lost; more often, and its own work may be the reason


def check_ray_address(address: str) -> None:
    """Raise UsageError unless this is the address of a cluster, or `local` or `auto`."""
    if not ADDRESS.fullmatch(address):
        raise UsageError(f"--ray {address}: expected local (this machine), auto (the cluster it is in), or HOST:PORT")


def connect_ray(address: str) -> None:
    """Connect to a cluster.

    Args:
        address: `local` starts Ray on this machine, with a worker per core; `auto` joins the cluster that this machine
            belongs to; HOST:PORT joins another.

    Raises:
        UsageError: The address is none.
        ConvscopeError: There is no cluster.
    """
    check_ray_address(address)
    os.environ |= NO_REPORTS
    own: dict[str, Any] = {}
    if address == LOCAL:
        own = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        if MODE not in os.environ:
            os.environ.setdefault(TOKEN, secrets.token_hex())
    logging.getLogger("ray").setLevel(logging.ERROR)
    host, _, port = address.rpartition(":")
    try:
        if host:  # Ray itself would wait for two minutes
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
        ray.init(address=address, log_to_driver=False, configure_logging=False, **own)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConvscopeError(f"--ray {address}: no cluster: {reason}; start one with: ray start --head") from error


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection for as long as the block lasts, see `connect_ray`; one that exists already is used and kept."""
    if ray.is_initialized():
        yield
        return
    connect_ray(address)
    try:
        with redirect_stdout(cast("TextIO", _WithoutRay(sys.stdout))):
            yield
    finally:
        ray.shutdown()


@contextmanager
def plain_errors(lost: str) -> Iterator[None]:
    """Turn errors of `ray.get` into those of this package; other errors of the task itself pass.

    Args:
        lost: What to say if its worker is lost too often.
    """
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ConvscopeError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise ConvscopeError(f"a worker ended {MAX_RETRIES + 1} times {lost} ({type(error).__name__})") from error


class _WithoutRay:
    """A stream that drops what Ray's threads write: reports of lost nodes, even with `log_to_driver=False`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, unless a thread of Ray does."""
        return len(text) if current_thread().name.startswith("ray_") else self._stream.write(text)
