"""A connection to Ray: started here or joined. It is quiet, and reports to nobody."""

from __future__ import annotations

import logging
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from threading import current_thread
from typing import Any, TextIO, cast

from convscope._extras import needs_extra
from convscope._text import reason_of
from convscope.errors import ConvscopeError, UsageError

LOCAL, AUTO = "local", "auto"
ADDRESS = re.compile(r"local|auto|(ray://)?[\w.-]+:\d+|(ray://)?\[[0-9a-fA-F:]+\]:\d+")
NO_REPORTS = {"RAY_USAGE_STATS_ENABLED": "0"}  # read by every process of the cluster that is started here
TOKEN = "RAY_AUTH_TOKEN"  # without it, Ray writes one into the user's home that opens the ports of every cluster


def check_ray_address(address: str) -> None:
    """Raise UsageError unless this is the address of a cluster, or `local` or `auto`."""
    if not ADDRESS.fullmatch(address):
        raise UsageError(f"--ray {address}: expected local (this machine), auto (the cluster it is in), or HOST:PORT")


def import_ray(feature: str) -> Any:
    """Ray, with its reports of usage switched off.

    Args:
        feature: What needs it.

    Raises:
        MissingExtraError: It is not installed.
    """
    os.environ.update(NO_REPORTS)
    with needs_extra(feature):
        import ray
    return ray


@contextmanager
def connect_ray(address: str, feature: str) -> Iterator[Any]:
    """A connection to Ray for as long as the block lasts; yields Ray. One that exists already is used and kept.

    Args:
        address: `local` starts Ray on this machine, with a worker per core; `auto` joins the cluster that this machine
            belongs to; HOST:PORT joins another.
        feature: What needs it.

    Raises:
        MissingExtraError: Ray is not installed.
        ConvscopeError: There is no cluster.
    """
    check_ray_address(address)
    ray = import_ray(feature)
    if ray.is_initialized():
        yield ray
        return
    own = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address == LOCAL else {}
    if own:
        os.environ.setdefault(TOKEN, secrets.token_hex())
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, **own)
    except ConnectionError as error:
        raise ConvscopeError(
            f"no Ray cluster at {address} ({reason_of(error)}): start one with 'ray start --head', or use --ray local"
        ) from error
    try:
        with redirect_stdout(cast("TextIO", _WithoutRay(sys.stdout))):
            yield ray
    finally:
        ray.shutdown()


class _WithoutRay:
    """A stream that drops what Ray's threads write: reports of lost nodes, even with `log_to_driver=False`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, unless a thread of Ray does."""
        return len(text) if current_thread().name.startswith("ray_") else self._stream.write(text)
