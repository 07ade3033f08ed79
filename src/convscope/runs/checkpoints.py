"""Checkpoints: everything that training needs to continue after a batch, in one file that verifies itself.

docs/run-folder.md specifies the file. Nothing in it is pickled, and it is written completely or not at all.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from convscope._files import open_regular, remove, sha256, write_atomically
from convscope._records import Record
from convscope._reporting import Reporter
from convscope.backends.pytorch.models import get_weights, set_weights
from convscope.errors import DataError, ModelFileError
from convscope.runs.config import CHECKPOINT_FOLDER, CONFIG_FILE
from convscope.training.callbacks import Callback, Trainer, Weights
from convscope.training.state import EpochMetrics, StateDict

KEPT_CHECKPOINTS = 2
WEIGHTS, MOMENTA, BEST, LAST = "weights", "momenta", "best", "last"


class CheckpointInfo(Record):
    """What a checkpoint holds apart from arrays; `config` is the SHA-256 of the run's `config.json`."""

    format: Literal[1] = 1
    config: str
    state: StateDict
    best_epoch: int
    last_epoch: int
    history: tuple[EpochMetrics, ...]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training.

    arrays: float32 and int64 `weights/NAME`, as `get_weights` returns them; `last/NAME` and `best/NAME`, those of the
    last and the best epoch, the latter only if it is another epoch; float32 `momenta/NAME` of each trained weight;
    `random`, the uint8 state of torch's generator.
    """

    info: CheckpointInfo
    arrays: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, trainer: Trainer, config: str) -> Checkpoint:
        """Capture the present state."""
        result = trainer.result
        momenta = {name: tensor.numpy().copy(order="C") for name, tensor in trainer.optimizer.momenta.items()}
        groups = {WEIGHTS: get_weights(trainer.model), MOMENTA: momenta, LAST: result.last}
        if result.best_epoch != result.last_epoch:
            groups[BEST] = result.best
        arrays = {f"{group}/{name}": array for group, named in groups.items() for name, array in named.items()}
        arrays["random"] = torch.get_rng_state().numpy()
        info = CheckpointInfo(
            config=config,
            state=trainer.state.state_dict(),
            best_epoch=result.best_epoch,
            last_epoch=result.last_epoch,
            history=tuple(result.history),
        )
        return cls(info, arrays)

    def to_bytes(self) -> bytes:
        """Return the file: a line with the SHA-256 of the rest, a line of JSON, and a safetensors file."""
        info, arrays = self.info.model_dump_json().encode() + b"\n", save(self.arrays)
        digest = hashlib.sha256(info)
        digest.update(arrays)
        return b"".join([digest.hexdigest().encode(), b"\n", info, arrays])

    @classmethod
    def from_bytes(cls, file: bytes) -> Checkpoint:
        """Parse what `to_bytes` returned. Raises ValueError for anything else."""
        digest, _, content = file.partition(b"\n")
        if digest.decode(errors="replace") != hashlib.sha256(content).hexdigest():
            raise ValueError("is damaged")
        info, _, arrays = content.partition(b"\n")
        try:
            return cls(CheckpointInfo.model_validate_json(info), load(arrays))
        except (ValidationError, SafetensorError) as error:
            raise ValueError("was written by another version") from error

    def restore(self, trainer: Trainer) -> None:
        """Restore the state, torch's generator included. Raises KeyError or RuntimeError for another network."""
        momenta = self._group(MOMENTA)
        set_weights(trainer.model, self._group(WEIGHTS))
        for name, momentum in trainer.optimizer.momenta.items():
            momentum.copy_(torch.tensor(momenta[name]))
        result, info = trainer.result, self.info
        result.last, result.last_epoch = self._group(LAST), info.last_epoch
        result.best_epoch = info.best_epoch
        result.best = result.last if info.best_epoch == info.last_epoch else self._group(BEST)
        result.history[:] = info.history
        trainer.state.load_state_dict(info.state)
        torch.set_rng_state(torch.tensor(self.arrays["random"]))

    def _group(self, group: str) -> Weights:
        prefix = f"{group}/"
        return {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}


class Checkpoints(Callback):
    """Writes a checkpoint at every interval and when training is stopped, and keeps the last two.

    Args:
        run: the run folder, with its `config.json`.
        interval: seconds between two checkpoints.
        reporter: told which checkpoints cannot be used.
    """

    def __init__(self, run: Path, interval: float, reporter: Reporter) -> None:
        self.folder, self.config = run / CHECKPOINT_FOLDER, sha256(run / CONFIG_FILE)
        self.interval, self.reporter = interval, reporter
        self.kept: list[Path] = []
        self.last_saved = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer) -> None:
        """Write a checkpoint if it is time for one, and then remove those that are too old.

        Raises:
            ConvscopeError: writing failed; the older checkpoints are untouched.
        """
        if not trainer.stop_training and time.monotonic() - self.last_saved < self.interval:
            return
        path = self.folder / f"step-{trainer.state.step:010d}.ckpt"
        write_atomically(path, Checkpoint.of(trainer, self.config).to_bytes())
        self.kept = [*(kept for kept in self.kept if kept != path), path][-KEPT_CHECKPOINTS:]
        for file in self._files():
            if file not in self.kept:
                remove(file)
        self.last_saved = time.monotonic()

    on_epoch_end = on_train_batch_end

    def restore(self, trainer: Trainer) -> None:
        """Restore the newest usable checkpoint; without one, training starts from the beginning.

        Raises:
            ModelFileError: the checkpoint belongs to another network.
        """
        files = self._files()
        found = len(files)
        while files:
            self.kept, path = files[-KEPT_CHECKPOINTS:], files.pop()
            try:
                checkpoint = self.read(path)
            except ValueError as error:
                self.reporter.message(f"{path} {error}: skipping it")
                continue
            try:
                checkpoint.restore(trainer)
            except (KeyError, RuntimeError) as error:
                raise ModelFileError(f"{path} does not fit the network of this version: train again") from error
            state = checkpoint.info.state
            steps = trainer.state.steps
            self.reporter.message(f"resuming after step {state['step']} of {steps}, in epoch {state['epoch']}")
            return
        self.kept = []
        problem = "no checkpoint can be used" if found else "there is no checkpoint"
        self.reporter.message(f"{self.folder}: {problem}, so training starts from the beginning")

    def read(self, path: Path) -> Checkpoint:
        """Read a checkpoint of this run. Raises ValueError, with the reason, if it is not usable."""
        try:
            with open_regular(path) as file:
                checkpoint = Checkpoint.from_bytes(file.read())
        except OSError as error:
            raise ValueError(f"cannot be read ({error.strerror})") from error
        except DataError as error:
            raise ValueError(f"is no checkpoint: {error}") from error
        if checkpoint.info.config != self.config:
            raise ValueError("belongs to another training")
        return checkpoint

    def remove(self) -> None:
        """Remove all checkpoints, and the folder if it is empty then. Raises ConvscopeError if that fails."""
        for path in self._files():
            remove(path)
        with suppress(OSError):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        """Return the checkpoints from the oldest to the newest."""
        return sorted(self.folder.glob("step-*.ckpt"))


class RestoreCheckpoint(Callback):
    """Starts training from the newest usable checkpoint."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints

    def on_train_begin(self, trainer: Trainer) -> None:
        """Restore it."""
        self.checkpoints.restore(trainer)
