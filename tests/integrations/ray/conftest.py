"""Ray in tests: it reports to nobody, and no test waits for it forever."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from helpers.command import required

TIMEOUT_S = 150  # on a busy machine; each takes some 10 s otherwise

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # by default 15: other tests would go first


@pytest.fixture(autouse=True)
def _time_limit() -> Iterator[None]:
    def too_slow(*_: object) -> None:
        raise TimeoutError(f"took over {TIMEOUT_S} s")

    before = signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(TIMEOUT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes with one core each, simulated on this machine; this process is connected to them."""
    if sys.platform != "linux":
        required("Ray simulates clusters on Linux")
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False, configure_logging=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()  # type: ignore[no-untyped-call]
