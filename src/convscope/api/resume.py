"""One call from the folder of a training that was stopped, or that is to go further, to a finished run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from safetensors.numpy import load_file

from convscope._hardware import HardwareInfo, hardware_info, keep_memory, max_threads
from convscope._reporting import Reporter
from convscope.api.train import Plan, run_plan
from convscope.backends.native import backend
from convscope.backends.native.backend import use_threads
from convscope.data.dataset import Dataset
from convscope.data.load import load_data
from convscope.errors import DataError, UsageError
from convscope.runs.checkpoints import EVERY
from convscope.runs.config import INITIAL_WEIGHTS_FILE, LAST_WEIGHTS_FILE, RunConfig
from convscope.runs.folder import Run, now, open_run, unfinished
from convscope.training.autotune import TuningProbe, autotune
from convscope.training.loop import parts
from convscope.training.recipes import changed
from convscope.training.state import Progress

DECIDING = ("convscope", "numpy", "torch")  # packages whose versions may change the bits of a training


def resume_run(
    path: str | Path,
    data: Dataset | None = None,
    *,
    watch: Callable[[Progress], None] = lambda _: None,
    reporter: Reporter | None = None,
    checkpoint_every: float = EVERY,
) -> Run:
    """Go on with a training that was stopped or killed, from its last checkpoint, and return its finished run.

    Everything is as its `config.json` says; `data` is for a training on a Dataset that was in memory. On the same
    machine, with the same versions, the weights are to the bit those of a training that was never disturbed; the
    reporter is told where they may not be, and from where training goes on. Raises UsageError for a run that is
    complete, ModelFileError for what is no run folder, and DataError if the data are no longer those of the training.
    """
    plan = planned_again(path, data, reporter)
    return run_plan(plan, path, watch, checkpoint_every=checkpoint_every, resumed=True, reporter=reporter)


def train_more(
    path: str | Path,
    epochs: int,
    data: Dataset | None = None,
    *,
    run: str | Path | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
    reporter: Reporter | None = None,
    checkpoint_every: float = EVERY,
) -> Run:
    """Train a finished run for so many epochs more, into a run of its own; see `planned_more` and `train_model`."""
    plan = planned_more(path, epochs, data, reporter)
    return run_plan(plan, run, watch, checkpoint_every=checkpoint_every, reporter=reporter)


def planned_again(
    path: str | Path,
    data: Dataset | None = None,
    reporter: Reporter | None = None,
) -> Plan:
    """The plan that a run folder was made by, nothing settled anew. See `resume_run`."""
    config = unfinished(path)
    plan = _plan_of(path, config, data, reporter)
    use_threads(config.machine.threads, _trial(plan).torch_works)
    changes = changed_since(config, hardware_info(config.machine.threads), backend.variant())
    if config.budget:
        changes.append("its learning rate follows the clock")
    if changes:
        (reporter or Reporter()).message(f"equivalent, not identical: {', '.join(changes)}")
    return replace(plan, start=load_file(Path(path, INITIAL_WEIGHTS_FILE)) if config.before else None)


def planned_more(
    path: str | Path,
    epochs: int,
    data: Dataset | None = None,
    reporter: Reporter | None = None,
) -> Plan:
    """The plan of so many epochs more for a finished run, from its last weights.

    The learning rate is planned anew, as the end of a training of all epochs; threads are as many as there were, as far
    as this machine has them, and the precision is what it is good at. Raises ModelFileError for what is no run, and
    DataError where the data are no longer those of the training.
    """
    run = open_run(path)
    config = run.config
    plan = _plan_of(path, config, data, reporter)
    settings = autotune(_trial(plan), min(config.machine.threads, max_threads()))
    more = config.model_copy(
        update={
            "created": now(),
            "recipe": changed(config.recipe, epochs=epochs),
            "epochs": epochs,
            "before": config.before + len(run.history),
            "budget": None,
            "training_seconds": None,
            "precision": settings.precision,
            "precision_why": settings.why,
            "kernels": backend.backend_name(),
            "machine": hardware_info(settings.threads),
        }
    )
    return replace(plan, config=more, start=load_file(Path(path, LAST_WEIGHTS_FILE)))


def _plan_of(path: str | Path, config: RunConfig, data: Dataset | None, reporter: Reporter | None) -> Plan:
    """Its data, as they were."""
    if data is None and not config.dataset.path:
        raise UsageError(f"{path} was trained on data given in memory: give them to resume_run or train_more as data")
    dataset = data or load_data(config.dataset.path, config.dataset.load_options, reporter)
    if dataset.fingerprint != config.dataset.fingerprint:
        raise DataError(
            f"{config.dataset.path or dataset.name} is no longer the data that {path} was trained on: "
            "put them back, or train again"
        )
    keep_memory()
    return Plan(dataset, *parts(dataset, config.recipe, config.seed), config)


def _trial(plan: Plan) -> TuningProbe:
    config = plan.config
    return TuningProbe(config.network, plan.training, config.preprocessing, config.recipe, config.seed)


def changed_since(config: RunConfig, machine: HardwareInfo, kernels: str) -> list[str]:
    """In words, what is not as it was and may change the bits of a training."""

    def facts(machine: HardwareInfo, kernels: str) -> dict[str, str]:
        versions = {name: machine.versions.get(name, "unknown") for name in DECIDING}
        return {**versions, "the processor": machine.processor, "the system": machine.system, "kernels": kernels}

    then = facts(config.machine, config.kernels.partition(",")[0])
    changes = [
        f"{name} {'were' if name == 'kernels' else 'was'} {then[name]}, {'are' if name == 'kernels' else 'is'} {now}"
        for name, now in facts(machine, kernels).items()
        if now != then[name]
    ]
    if machine.cores < config.machine.threads:
        changes.append(f"{config.machine.threads} threads have to share {machine.cores} cores")
    return changes
