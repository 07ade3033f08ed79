"""Checkpoints: all that training needs to go on after a batch, to the bit, each in one file that checks itself.

docs/run-folder.md specifies the file. Nothing in it is pickled, and it is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from convscope._files import remove, sha256, write_atomically
from convscope.backends.pytorch.models import get_weights, set_weights
from convscope.errors import ModelFileError
from convscope.runs.config import CHECKPOINT_FOLDER, CONFIG_FILE
from convscope.training.loop import State, Stop
from convscope.training.state import Epoch, Standing

EVERY = 60.0  # seconds of training between two checkpoints
KEPT = 2
WEIGHTS, VELOCITIES, SELECTED, BESIDE = "weights", "velocities", "selected", "beside"


class Facts(BaseModel):
    """What a checkpoint holds apart from arrays; `config` is the SHA-256 of the run's `config.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    config: str
    standing: Standing
    selected_epoch: int
    beside_epoch: int
    history: tuple[Epoch, ...]


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands.

    arrays: float32 and int64 `weights/NAME` and `selected/NAME` as `get_weights` gives them, the latter of the epoch
    selected so far and missing before the first one ends, `beside/NAME` where those beside it are of another; float32
    `velocities/NAME` of each weight that is trained; `random`, the uint8 state of torch's generator.
    """

    facts: Facts
    arrays: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, state: State, config: str) -> Checkpoint:
        """Where the training stands now."""
        velocities = {name: tensor.numpy().copy(order="C") for name, tensor in state.optimizer.velocities.items()}
        groups = {WEIGHTS: get_weights(state.model), VELOCITIES: velocities, SELECTED: state.fitted.weights}
        if state.fitted.beside_epoch != state.fitted.epoch:
            groups[BESIDE] = state.fitted.beside
        arrays = {f"{group}/{name}": array for group, named in groups.items() for name, array in named.items()}
        arrays["random"] = torch.get_rng_state().numpy()
        fitted = state.fitted
        facts = Facts(
            config=config,
            standing=state.course.standing(),
            selected_epoch=fitted.epoch,
            beside_epoch=fitted.beside_epoch,
            history=tuple(fitted.history),
        )
        return cls(facts, arrays)

    def to_bytes(self) -> bytes:
        """The file: a line with the SHA-256 of the rest, a line of JSON, and a safetensors file."""
        facts, arrays = self.facts.model_dump_json().encode() + b"\n", save(self.arrays)
        digest = hashlib.sha256(facts)
        digest.update(arrays)
        return b"".join([digest.hexdigest().encode(), b"\n", facts, arrays])

    @classmethod
    def from_bytes(cls, file: bytes) -> Checkpoint:
        """What `to_bytes` gave. Raises ValueError for anything else."""
        digest, _, content = file.partition(b"\n")
        if digest.decode(errors="replace") != hashlib.sha256(content).hexdigest():
            raise ValueError("is damaged")
        facts, _, arrays = content.partition(b"\n")
        try:
            return cls(Facts.model_validate_json(facts), load(arrays))
        except (ValidationError, SafetensorError) as error:
            raise ValueError("was written by another version") from error

    def restore(self, state: State) -> None:
        """Put everything back, torch's random numbers too. Raises KeyError or RuntimeError for another network."""
        velocities = self._group(VELOCITIES)
        set_weights(state.model, self._group(WEIGHTS))
        for name, velocity in state.optimizer.velocities.items():
            velocity.copy_(torch.tensor(velocities[name]))
        fitted, facts = state.fitted, self.facts
        fitted.weights, fitted.epoch = self._group(SELECTED), facts.selected_epoch
        same = facts.beside_epoch == facts.selected_epoch
        fitted.beside, fitted.beside_epoch = fitted.weights if same else self._group(BESIDE), facts.beside_epoch
        state.fitted.history[:] = self.facts.history
        state.course.go_on(self.facts.standing)
        torch.set_rng_state(torch.tensor(self.arrays["random"]))

    def _group(self, group: str) -> dict[str, NDArray[Any]]:
        start = f"{group}/"
        return {name.removeprefix(start): array for name, array in self.arrays.items() if name.startswith(start)}


class Checkpoints:
    """The checkpoints of a run, one every so many seconds and one when `stop` asks for the end; the last two are kept.

    `say` is told which of them cannot be used.
    """

    def __init__(self, run: Path, every: float, stop: Stop, say: Callable[[str], None]) -> None:
        self.folder, self.config = run / CHECKPOINT_FOLDER, sha256(run / CONFIG_FILE)
        self.every, self.stop, self.say = every, stop, say
        self.kept: list[Path] = []
        self.last = time.monotonic()

    def restore(self, state: State) -> None:
        """Put everything where the newest usable checkpoint has it; where there is none, `state` stays as it is.

        Raises ModelFileError where it is of another network.
        """
        files = self._files()
        while files:
            self.kept, path = files[-KEPT:], files.pop()
            try:
                checkpoint = self.read(path)
            except ValueError as error:
                self.say(f"{path} {error}: it is left out")
                continue
            try:
                checkpoint.restore(state)
            except (KeyError, RuntimeError) as error:
                raise ModelFileError(f"{path} does not fit the network of this version: train again") from error
            where = checkpoint.facts.standing
            self.say(f"going on after step {where.step} of {state.course.steps}, in epoch {where.epoch}")
            return
        self.kept = []
        self.say(f"{self.folder} has no checkpoint to go on from: training starts anew")

    def read(self, path: Path) -> Checkpoint:
        """Raises ValueError, with what is wrong with it, for a file that is no checkpoint of this run."""
        try:
            checkpoint = Checkpoint.from_bytes(path.read_bytes())
        except OSError as error:
            raise ValueError(f"cannot be read ({error.strerror})") from error
        if checkpoint.facts.config != self.config:
            raise ValueError("is of another training")
        return checkpoint

    def save(self, state: State) -> None:
        """Write a checkpoint where it is time, and then remove those that are too many.

        Raises ConvscopeError, the older checkpoints untouched, when that fails.
        """
        if not self.stop.number and time.monotonic() - self.last < self.every:
            return
        path = self.folder / f"step-{state.course.step:010d}.ckpt"
        write_atomically(path, Checkpoint.of(state, self.config).to_bytes())
        self.kept = [*(old for old in self.kept if old != path), path][-KEPT:]
        for old in self._files():
            if old not in self.kept:
                remove(old)
        self.last = time.monotonic()

    def remove(self) -> None:
        """Remove all of them, and the folder where nothing else is in it. Raises ConvscopeError when that fails."""
        for path in self._files():
            remove(path)
        with suppress(OSError):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        """From the oldest to the newest."""
        return sorted(self.folder.glob("step-*.ckpt"))
