"""Continue a training that was stopped or killed, or train a finished run for more epochs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Unpack

from convscope._hardware import HardwareInfo, hardware_info, max_threads
from convscope._records import validate_options
from convscope._reporting import Reporter
from convscope.api.train import run_plan
from convscope.api.training.finetune import recorded_tail
from convscope.api.training.hooks import HookKeywords, Hooks
from convscope.api.training.options import CHECKPOINT_INTERVAL_S, TrainOptions
from convscope.api.training.plan import Plan, recorded_plan
from convscope.backends.native import backend
from convscope.backends.native.backend import use_threads
from convscope.data.dataset import Dataset
from convscope.errors import UsageError
from convscope.runs.config import INITIAL_WEIGHTS_FILE, LAST_WEIGHTS_FILE, WEIGHTS_FILES, RunConfig
from convscope.runs.folder import Run, open_run, open_unfinished, utc_now
from convscope.runs.weights import load_weights
from convscope.training.finetuning.cut import choose_cut
from convscope.training.probes.autotune import TuningProbe, TuningResult, autotune

PACKAGES_THAT_MATTER = ("convscope", "numpy", "torch")  # another version may change the bits of a training


def resume_run(
    path: str | Path,
    data: Dataset | None = None,
    checkpoint_interval: float = CHECKPOINT_INTERVAL_S,
    **hooks: Unpack[HookKeywords],
) -> Run:
    """Continue a training that was stopped or killed from its last checkpoint, and return the finished run.

    Everything is as `config.json` says. On the same machine and with the same versions, the resumed run is
    bit-identical to an uninterrupted one; otherwise the reporter gets a message.

    Args:
        path: the run folder.
        data: the data set, if the training had one in memory.
        checkpoint_interval: seconds between two checkpoints.
        hooks: `callbacks`, `metrics`, `augment` and `reporter`, as for `train_model`.

    Raises:
        UsageError: the run is complete, or an option of the training is missing.
        ModelFileError: there is no run, or it has no checkpoint.
        DataError: the data have changed.
    """
    given = Hooks(**hooks)
    options = validate_options(TrainOptions, {"run": path, "checkpoint_interval": checkpoint_interval})
    return run_plan(plan_resume(path, data, given.reporter), options, given, resume=True)


def train_more(
    path: str | Path,
    epochs: int,
    data: Dataset | None = None,
    run: str | Path | None = None,
    checkpoint_interval: float = CHECKPOINT_INTERVAL_S,
    **hooks: Unpack[HookKeywords],
) -> Run:
    """Train a finished run for more epochs, into a run folder of its own; see `plan_more`.

    Args:
        path: the folder of the finished run.
        epochs: number of epochs to add.
        data: the data set, if the training had one in memory.
        run: the folder to write; by default the next free one.
        checkpoint_interval: seconds between two checkpoints.
        hooks: `callbacks`, `metrics`, `augment` and `reporter`, as for `train_model`.

    Raises:
        ModelFileError: there is no finished run.
        DataError: the data have changed.
    """
    given = Hooks(**hooks)
    options = validate_options(TrainOptions, {"run": run, "checkpoint_interval": checkpoint_interval})
    return run_plan(plan_more(path, epochs, data, given.reporter), options, given)


def plan_resume(path: str | Path, data: Dataset | None, reporter: Reporter) -> Plan:
    """Return the plan that a run folder was made by; nothing is decided again. See `resume_run`."""
    config = open_unfinished(path)
    plan = recorded_plan(path, config, data, reporter)
    use_threads(config.machine.threads, _probe(plan).torch_works)
    changes = changes_since(config, hardware_info(config.machine.threads), backend.variant())
    if config.budget:
        changes.append("its learning rate follows the clock")
    if changes:
        reporter.message(f"the result will be equivalent, not bit-identical: {', '.join(changes)}")
    if not config.initial_epoch and config.init is None:
        return plan
    weights = load_weights(Path(path, INITIAL_WEIGHTS_FILE))
    return replace(plan, initial_weights=weights, tail=recorded_tail(config, plan.data, weights, reporter))


def plan_more(path: str | Path, epochs: int, data: Dataset | None, reporter: Reporter) -> Plan:
    """Return the plan of more epochs for a finished run, from the weights of its last epoch.

    The learning rate follows the end of a schedule over all epochs. Threads are those of the run, if this machine has
    as many, and precision is chosen for this machine. Of a run from a backbone, the last layers are trained, in
    float32; they continue from its selected weights if no epoch was better than the backbone with its classifier.

    Args:
        path: the folder of the finished run.
        epochs: number of epochs to add.
        data: the data set, if the training had one in memory.
        reporter: where messages and progress go.

    Raises:
        UsageError: only the classifier behind a backbone can be trained.
        ModelFileError: there is no finished run.
        DataError: the data have changed.
    """
    run = open_run(path)
    config = _with_cut(run)
    plan = recorded_plan(path, config, data, reporter)
    threads = min(config.machine.threads, max_threads())
    tuning = autotune(_probe(plan), threads) if config.init is None else TuningResult(threads, "float32")
    if config.init is not None:
        use_threads(threads, torch_works=True)
    reasons = {name: reason for name, reason in config.reasons.items() if name != "precision"}
    more = config.model_copy(
        update={
            "created": utc_now(),
            "recipe": config.recipe.override(epochs=epochs),
            "reasons": reasons | ({"precision": tuning.reason} if tuning.reason else {}),
            "epochs": epochs,
            "initial_epoch": config.initial_epoch + len(run.history),
            "budget": None,
            "time_limit": None,
            "precision": tuning.precision,
            "backend": backend.backend_name(),
            "machine": hardware_info(tuning.threads),
        }
    )
    selected = WEIGHTS_FILES[run.manifest.weights]
    file = LAST_WEIGHTS_FILE if config.init is None or run.manifest.selected_epoch else selected
    weights = load_weights(Path(path, file))
    if config.init is None:
        return replace(plan, config=more, initial_weights=weights)
    if run.manifest.selected_epoch:
        more = more.model_copy(update={"init": config.init.model_copy(update={"calibration": None})})
    before = load_weights(Path(path, INITIAL_WEIGHTS_FILE))  # with the same frozen layers, and maps in the cache
    return replace(plan, config=more, initial_weights=weights, tail=recorded_tail(more, plan.data, before, reporter))


def _with_cut(run: Run) -> RunConfig:
    """The configuration of a run; of one from a backbone, with layers that more epochs can train."""
    config = run.config
    if config.init is None or config.init.cut is not None:
        return config
    cut = choose_cut(config.network)
    if cut is None:
        raise UsageError(f"{run.path} has no layers behind its backbone that could be trained: train with --init none")
    return config.model_copy(update={"init": config.init.model_copy(update={"cut": cut})})


def changes_since(config: RunConfig, machine: HardwareInfo, variant: str) -> list[str]:
    """Return what differs from the machine of a run and may change the bits of a training, in words.

    Args:
        config: of the run.
        machine: this machine.
        variant: the kernels' instruction set here.
    """
    before = _facts(config.machine, config.backend.partition(",")[0])
    now = _facts(machine, variant)
    changes = [f"{name} changed from {before[name]} to {now[name]}" for name in now if now[name] != before[name]]
    if machine.cores < config.machine.threads:
        changes.append(f"{config.machine.threads} threads share {machine.cores} cores")
    return changes


def _facts(machine: HardwareInfo, variant: str) -> dict[str, str]:
    versions = {name: machine.versions.get(name, "unknown") for name in PACKAGES_THAT_MATTER}
    return {**versions, "the processor": machine.processor, "the system": machine.system, "kernels": variant}


def _probe(plan: Plan) -> TuningProbe:
    config = plan.config
    return TuningProbe(config.network, plan.data.train, config.preprocessing, config.recipe, config.seed)
