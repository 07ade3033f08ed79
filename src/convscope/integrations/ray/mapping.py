"""Trainings of a cross-validation or search as Ray tasks, each on all cores of a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import ray

from convscope.api.tuning.trial import Item, Mapper, Result, Shared
from convscope.integrations.ray.cluster import MAX_RETRIES, connect_ray, plain_errors


class RayMapper(Mapper):
    """Calls a function once per item on the machines of a Ray cluster.

    A call that is lost with its machine is repeated on another one.

    Args:
        address: Of the cluster; "auto" for the one that is found, "local" for a new one on this machine. If Ray is
            connected already, that connection is used.
        threads: CPUs of each call; None for as many as the smallest machine has.
    """

    def __init__(self, address: str = "auto", threads: int | None = None) -> None:
        if not ray.is_initialized():
            connect_ray(address)
        cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        self.cpus = threads or max(1, min(cpu for cpu in cpus if cpu))
        self.workers = max(1, sum(cpu // self.cpus for cpu in cpus))

    def map(
        self, function: Callable[[Shared, Item], Result], shared: Shared, items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result]]:
        """Yield each item with the result of `function(shared, item)`, as soon as it is there.

        Args:
            function: A function of a module.
            shared: The first argument of every call; it is sent to every machine once.
            items: The second arguments.

        Raises:
            ConvscopeError: A worker was lost too often.
        """
        task = ray.remote(num_cpus=self.cpus, max_retries=MAX_RETRIES)(function)
        stored = ray.put(shared)
        waiting = {task.remote(stored, item): item for item in items}
        while waiting:
            (done, *_), _ = ray.wait(list(waiting))
            with plain_errors("while it trained; is its memory enough?"):
                result = ray.get(done)
            yield waiting.pop(done), result
