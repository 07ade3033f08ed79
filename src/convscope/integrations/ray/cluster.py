"""A connection to Ray: started here or joined. It is quiet, and reports to nobody."""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from convscope._extras import needs_extra
from convscope._text import reason_of
from convscope.errors import ConvscopeError, UsageError

LOCAL, AUTO = "local", "auto"
ADDRESS = re.compile(r"local|auto|(ray://)?[\w.-]+:\d+|(ray://)?\[[0-9a-fA-F:]+\]:\d+")
NO_REPORTS = {"RAY_USAGE_STATS_ENABLED": "0"}  # read by every process of the cluster that is started here
PORTS_CLOSED = ("RAY_AUTH_MODE", "token"), ("RAY_AUTH_TOKEN", secrets.token_hex())  # to everybody but this process


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
        for name, value in PORTS_CLOSED:
            os.environ.setdefault(name, value)
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, **own)
    except ConnectionError as error:
        raise ConvscopeError(
            f"no Ray cluster at {address} ({reason_of(error)}): start one with 'ray start --head', or use --ray local"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
