"""Training by torchrun: several processes, on one machine or many, train one model; see docs/torchrun.md.

torchrun --nnodes 2 --nproc-per-node 4 ... -m convscope train photos/ --run runs/photos
torchrun --nnodes 2 --nproc-per-node 4 ... script.py    # that calls train_model of this module
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack
from uuid import uuid4

from convscope._files import remove_temporary
from convscope._records import validate_options
from convscope._workers import under_torchrun
from convscope.api.training.hooks import HookKeywords, Hooks, TrainKeywords
from convscope.api.training.options import TrainOptions
from convscope.api.training.sources import load_sources
from convscope.data.dataset import Dataset
from convscope.data.load import DataSource, load_data
from convscope.errors import UsageError
from convscope.runs.config import CONFIG_FILE, MANIFEST_FILE
from convscope.runs.folder import Run, open_run

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

    from convscope.backends.pytorch.group import Group
    from convscope.training.config import Augment
    from convscope.training.recipe import Recipe

POLL_S = 0.02


@contextmanager
def process_group() -> Iterator[Group | None]:
    """Join the processes that torchrun has started; None outside torchrun.

    A process group that exists already, such as that of Ray Train, is used and left as it is.
    """
    exists = "torch" in sys.modules and sys.modules["torch"].distributed.is_initialized()
    if not exists and not under_torchrun():
        yield None
        return
    import torch.distributed as dist

    from convscope.backends.pytorch.group import Group

    if not exists:
        _init_process_group()
    group = Group(dist.get_rank(), dist.get_world_size())
    try:
        group.wait()  # a rank that ended now would leave others waiting for their connection to it
        yield group
    finally:
        if not exists:
            dist.destroy_process_group()


def _init_process_group() -> None:
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    from convscope.backends.pytorch.group import EXCHANGE_LIMIT, peer_errors

    with peer_errors():
        store, rank, size = next(rendezvous("env://", timeout=EXCHANGE_LIMIT))
        store = store_of_attempt(store, rank, size, EXCHANGE_LIMIT)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=EXCHANGE_LIMIT)


def store_of_attempt(store: Store, rank: int, size: int, limit: timedelta) -> Store:
    """Return a part of the store that only the processes use that are starting now.

    torchrun keeps one store over all restarts, with the addresses of processes that have ended. A process that reads
    such an address, because the new one is not there yet, tries to reach the old one; the new one waits for it in vain.
    To avoid that, rank 0 repeats the words that the ranks have written until every rank has found its own among them.

    Args:
        store: the same for all ranks, with whatever earlier attempts have left in it.
        rank: of this process.
        size: number of processes.
        limit: how long to wait for the others.

    Raises:
        RuntimeError: another process has not come.
    """
    from torch.distributed.distributed_c10d import PrefixStore

    word, others = uuid4().hex, range(1, size)
    store.set(f"word/{rank}", word)
    end = time.monotonic() + limit.total_seconds()
    if rank == 0:
        while others and not store.check([f"{word}/{other}" for other in others]):
            store.set("words", " ".join([word, *(store.get(f"word/{other}").decode() for other in others)]))
            _sleep_until(end)
        return PrefixStore(word, store)
    while word not in (words := store.get("words").decode().split()):
        _sleep_until(end)
    store.set(f"{words[0]}/{rank}", "here")
    return PrefixStore(words[0], store)


def _sleep_until(end: float) -> None:
    if time.monotonic() > end:
        raise RuntimeError("a process has not started in time")
    time.sleep(POLL_S)


def begun_run(folder: Path | None) -> Path | None:
    """Return the run folder if a training has begun in it, and None if not; what killed processes left is removed.

    Under torchrun, the same command begins a training and continues it after a restart.

    Args:
        folder: that of the options.

    Raises:
        UsageError: torchrun may restart the training, which would not find its folder.
    """
    if folder is None:
        if os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
            raise UsageError("torchrun --max-restarts needs --run FOLDER, so that a restart finds the training")
        return None
    if (folder / CONFIG_FILE).exists():
        return folder
    remove_temporary(folder)
    return None


def complete_run(folder: Path) -> Run | None:
    """Return the run in a folder if nothing is left to train, as after a process was lost at the end."""
    if not (folder / MANIFEST_FILE).exists():
        return None
    run = open_run(folder)
    return run if run.manifest.status == "complete" else None


def follow(
    group: Group, threads: int | None = None, data: Dataset | None = None, augment: Augment | None = None
) -> None:
    """Take part in the training of rank 0, as another rank; do nothing if its run is complete.

    Args:
        group: the processes.
        threads: of this process, by default its part of the cores.
        data: the data set, if it is in memory.
        augment: the caller's own augmentation.

    Raises:
        PeerError: rank 0 has failed.
        DataError: the data are not those of rank 0.
    """
    from convscope.api.train import follow_plan
    from convscope.api.training.group import receive_plan

    plan = receive_plan(group, data, threads)
    if plan is not None:
        follow_plan(plan, Hooks(augment=augment))


def train_model(
    data: DataSource | None = None,
    model: str | None = None,
    recipe: Recipe | str | None = None,
    **options: Unpack[TrainKeywords],
) -> Run | None:
    """`convscope.train_model` in each of the processes that torchrun has started; they train one model together.

    If a training has begun in the folder `run`, it is continued.

    Args:
        data: as for `convscope.train_model`, the same in every process.
        model: a preset or an architecture.
        recipe: a name or a `Recipe`.
        options: as for `convscope.train_model`. Callbacks and metrics are called in rank 0 only; callbacks must not
            change the weights after training has begun, nor take over 10 minutes.

    Returns:
        The run in rank 0; None in the other processes, which may not see its folder.

    Raises:
        PeerError: another process has ended.
        UsageError: the training would start from a backbone; and as `convscope.train_model`.
    """
    given: dict[str, Any] = {"model": model, "recipe": recipe, **options}
    hooks = Hooks(**{name: given.pop(name) for name in HookKeywords.__annotations__ if name in given})
    checked = validate_options(TrainOptions, given)
    with process_group() as group:
        if group is None:
            raise UsageError("expected to run under torchrun: start this script with it, or call convscope.train_model")
        if data is not None and not isinstance(data, str | Path):
            data = load_data(data, None, hooks.reporter)
        if group.rank == 0:
            return _lead(group, data, checked, hooks)
        follow(group, checked.threads, data if isinstance(data, Dataset) else None, hooks.augment)
        return None


def _lead(group: Group, data: Dataset | str | Path | None, options: TrainOptions, hooks: Hooks) -> Run:
    """Decide, train, and write the run, as rank 0."""
    from convscope.api.resume import plan_resume
    from convscope.api.train import run_plan
    from convscope.api.training.group import options_in_group, share_nothing, share_plan
    from convscope.api.training.start import plan_training

    started = time.monotonic()
    options = options_in_group(options)
    begun = begun_run(options.run)
    if begun is None:
        sources = load_sources(data, options, hooks.reporter)
        plan = plan_training(sources, options, hooks.reporter, started)
    elif run := complete_run(begun):
        share_nothing(group)
        return run
    else:
        plan = plan_resume(begun, data if isinstance(data, Dataset) else None, hooks.reporter)
    return run_plan(share_plan(plan, group, options.threads), options, hooks, resume=begun is not None)
