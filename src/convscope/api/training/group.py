"""What the processes of a group share before they train: the plan, the data, and the state that they start from."""

from __future__ import annotations

import os
from dataclasses import replace

from convscope._hardware import usable_cores
from convscope._reporting import SilentReporter
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import Plan, recorded_plan
from convscope.api.training.sources import FROM_SCRATCH
from convscope.backends.native import backend
from convscope.backends.native.backend import use_threads
from convscope.backends.pytorch.fusion import leaves_work_to_torch
from convscope.backends.pytorch.group import Group
from convscope.data.dataset import Dataset
from convscope.errors import UsageError
from convscope.runs.checkpoints import Checkpoint
from convscope.runs.config import RunConfig
from convscope.training.callbacks import Callback, Trainer

UNUSABLE_INIT = "trains in one process, because its frozen layers see the images only once: start it without torchrun"


class ShareState(Callback):
    """Gives every rank the state of rank 0: weights, momenta, counters and torch's random numbers."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def on_train_begin(self, trainer: Trainer) -> None:
        """Send it, or receive it."""
        own = Checkpoint.of(trainer, "").to_bytes() if self.group.rank == 0 else b""
        self.group.wait()  # for rank 0, which writes what the run begins with
        state = self.group.broadcast_bytes(own)
        if self.group.rank:
            Checkpoint.from_bytes(state).restore(trainer)


def options_in_group(options: TrainOptions) -> TrainOptions:
    """Return the options for a process of a group: its part of the machine's cores, and no backbone.

    Raises:
        UsageError: they ask for a backbone.
    """
    if options.init not in (None, FROM_SCRATCH):
        raise UsageError(f"--init {options.init} {UNUSABLE_INIT}")
    return options.model_copy(update={"init": FROM_SCRATCH, "threads": options.threads or threads_in_group()})


def threads_in_group() -> int:
    """The cores of this machine for each of the group's processes on it; torchrun sets OMP_NUM_THREADS to 1."""
    return max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def share_plan(plan: Plan, group: Group, threads: int | None = None) -> Plan:
    """On rank 0: send the plan to the other ranks, wait until they have the data, and return the plan for the group.

    Args:
        plan: what was decided.
        group: the processes.
        threads: of this process, by default its part of the cores.

    Raises:
        UsageError: it starts from a backbone.
    """
    if plan.config.init is not None:
        raise UsageError(f"the training starts from {plan.config.init.backbone.name}, which {UNUSABLE_INIT}")
    group.wait()
    group.broadcast_bytes(plan.config.model_dump_json().encode())
    group.wait()
    return _ready(plan, group, threads)


def share_nothing(group: Group) -> None:
    """On rank 0: tell the other ranks that nothing is left to train."""
    group.wait()
    group.broadcast_bytes(b"")


def receive_plan(group: Group, data: Dataset | None = None, threads: int | None = None) -> Plan | None:
    """On the other ranks: receive the plan of rank 0, and read the data that it names; None if nothing is left to do.

    The first rank of each machine reads them first, so that files are decoded once, into the cache of the machine.

    Args:
        group: the processes.
        data: the data set, if it is in memory.
        threads: of this process, by default its part of the cores.

    Raises:
        PeerError: rank 0 has failed.
        DataError: the data are not those of rank 0.
    """
    group.wait()
    received = group.broadcast_bytes()
    if not received:
        return None
    config = RunConfig.model_validate_json(received)
    is_first_here = os.environ.get("LOCAL_RANK", "0") == "0"
    if not is_first_here:
        group.wait()
    plan = recorded_plan("the run", config, data, SilentReporter())
    if is_first_here:
        group.wait()
    return _ready(plan, group, threads)


def _ready(plan: Plan, group: Group, threads: int | None) -> Plan:
    network = plan.config.network
    use_threads(threads or threads_in_group(), backend.native is None or leaves_work_to_torch(network))
    return replace(plan, group=group)
