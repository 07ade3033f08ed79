"""The records of a run folder: `config.json` and `manifest.json`, and the names of its files.

docs/run-folder.md specifies every field.
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Literal

from pydantic import Field

from convscope._hardware import HardwareInfo
from convscope._records import Record
from convscope.data.options import LoadOptions
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.network.network import Network
from convscope.training.recipes import Recipe

FORMAT: Literal[1] = 1
CONFIG_FILE, MANIFEST_FILE = "config.json", "manifest.json"
BEST_WEIGHTS_FILE, LAST_WEIGHTS_FILE = "best.safetensors", "last.safetensors"
INITIAL_WEIGHTS_FILE = "initial.safetensors"  # only of a run that continues another
METRICS_FILE, EVALUATION_FILE, MODEL_FILE = "metrics.jsonl", "evaluation.json", "model.onnx"
CHECKPOINT_FOLDER, PLOT_FOLDER, EVENT_FOLDER = "checkpoints", "plots", "tensorboard"
REPORT_FILE, CARD_FILE = "report.html", "README.md"
Status = Literal["complete", "interrupted"]
Selection = Literal["best", "last"]
WEIGHTS_FILES: dict[Selection, str] = {"best": BEST_WEIGHTS_FILE, "last": LAST_WEIGHTS_FILE}


class DatasetInfo(Record):
    """Which data a run was trained on.

    `fingerprint` is the SHA-256 of its images, labels and class names; `load_options` says how images were read.
    """

    name: str
    path: str
    source: str
    load_options: LoadOptions | None = None
    fingerprint: str
    train_images: int
    validation_images: int
    test_images: int

    @property
    def split_sizes(self) -> str:
        """For example `1,293 training, 145 validation, 359 test images`."""
        held_out = f"{self.validation_images:,} validation, " if self.validation_images else ""
        return f"{self.train_images:,} training, {held_out}{self.test_images:,} test images"


class RunConfig(Record):
    """What was decided before step 0, as `config.json` holds it."""

    format: Literal[1] = FORMAT
    task: Literal["single-label"] = "single-label"
    created: datetime
    dataset: DatasetInfo
    classes: tuple[str, ...]
    model: str
    architecture: str
    input_shape: tuple[int, int, int]
    preprocessing: Preprocessing
    recipe: Recipe
    reasons: dict[str, str] = Field(default_factory=dict)
    augment: str = ""
    metrics: tuple[str, ...] = ()
    epochs: int
    initial_epoch: int = 0
    budget: float | None = None
    time_limit: float | None = None
    seed: int
    precision: Literal["float32", "bf16"]
    backend: str
    machine: HardwareInfo

    @cached_property
    def network(self) -> Network:
        """The layer records of the architecture line."""
        return parse_network(self.architecture, self.input_shape, len(self.classes))


class FileInfo(Record):
    """One file's size in bytes and SHA-256."""

    bytes: int
    sha256: str


class Manifest(Record):
    """How a run ended, and the checksum of each of its files.

    `signal` is 0, or the number of the signal that ended training. `weights` names the weights that `model.onnx` holds,
    and `selected_epoch` the epoch they are from; 0 means that training ended before its first epoch did.
    """

    format: Literal[1] = FORMAT
    status: Status
    signal: int
    weights: Selection
    selected_epoch: int
    train_seconds: float
    files: dict[str, FileInfo]
