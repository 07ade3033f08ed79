"""The records of a run folder, and the names of its files.

docs/run-folder.md specifies every field.
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from convscope._hardware import HardwareInfo
from convscope._records import Record
from convscope.backends.onnx.metadata import ClassNames, ModelMetadata, Rejection, TemperatureScaling, TrainingInfo
from convscope.data.options import LoadOptions
from convscope.evaluation.metrics import Evaluation
from convscope.images.preprocessing import Preprocessing
from convscope.network.build import parse_network
from convscope.network.network import Network
from convscope.pretrained.backbone import IMAGENET, BackboneInfo
from convscope.training.recipe import MAX_EPOCHS, MAX_SEED, Recipe

FORMAT: Literal[1] = 1
CONFIG_FILE, MANIFEST_FILE = "config.json", "manifest.json"
BEST_WEIGHTS_FILE, LAST_WEIGHTS_FILE = "best.safetensors", "last.safetensors"
INITIAL_WEIGHTS_FILE = "initial.safetensors"  # only of a run that continues another, or starts from a backbone
TRAINING_IMAGES_FILE = "training-images.safetensors"
METRICS_FILE, EVALUATION_FILE, MODEL_FILE = "metrics.jsonl", "evaluation.json", "model.onnx"
CHECKPOINT_FOLDER, PLOT_FOLDER, EVENT_FOLDER = "checkpoints", "plots", "tensorboard"
REPORT_FILE, CARD_FILE = "report.html", "README.md"
Status = Literal["complete", "interrupted"]
Selection = Literal["best", "last"]
WEIGHTS_FILES: dict[Selection, str] = {"best": BEST_WEIGHTS_FILE, "last": LAST_WEIGHTS_FILE}


class DatasetInfo(Record):
    """The data that a run was trained on.

    `path` is a name, a path, or empty for data in memory. `fingerprint` is the SHA-256 of images, labels and class
    names; `load_options` are set for image files.
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


class ValidationScore(Record):
    """How good a network is on the validation images: accuracy, 0..1, and cross-entropy in nats."""

    accuracy: float
    cross_entropy: float


class Race(Record):
    """A short training from scratch, next to the start from a backbone.

    Attributes:
        accuracy: What it reached on its validation images, 0..1.
        seconds: How long it trained: a quarter of the time that the budget had left.
    """

    accuracy: float
    seconds: float


class InitInfo(Record):
    """The backbone that a training starts from.

    Attributes:
        backbone: What it is and where it comes from.
        cut: How many of the first layers stay as they are while the others are trained, 0 if all are; None if only the
            classifier is.
        views: How many versions of each training image the classifier and the last layers learned from.
        strength: Inverse penalty C of the classifier, on standardized features.
        score: Of the backbone with its new classifier, before any other layer was trained.
        calibration: Of the backbone with its new classifier, if it was found on training images, each held out once, as
            there are few validation images.
        race: The training from scratch that it won; None if there was none.
    """

    backbone: BackboneInfo
    cut: int | None
    views: int
    strength: float
    score: ValidationScore
    calibration: TemperatureScaling | None = None
    race: Race | None = None


class RunConfig(Record):
    """Everything that was decided before the first step: `config.json`."""

    format: Literal[1] = FORMAT
    task: Literal["single-label"] = "single-label"
    created: datetime
    dataset: DatasetInfo
    classes: ClassNames
    model: str
    architecture: str
    input_shape: tuple[int, int, int]
    preprocessing: Preprocessing
    recipe: Recipe
    reasons: dict[str, str] = Field(default_factory=dict)
    augment: str = ""
    metrics: tuple[str, ...] = ()
    epochs: int = Field(ge=0, le=MAX_EPOCHS)
    initial_epoch: int = Field(default=0, ge=0, le=MAX_EPOCHS)
    init: InitInfo | None = None
    max_error: float | None = Field(default=None, gt=0, lt=1)
    budget: float | None = None
    time_limit: float | None = None
    seed: int = Field(ge=0, le=MAX_SEED)
    precision: Literal["float32", "bf16"]
    backend: str
    machine: HardwareInfo

    @cached_property
    def network(self) -> Network:
        """The network that the architecture describes."""
        return parse_network(self.architecture, self.input_shape, len(self.classes))

    def model_metadata(self) -> ModelMetadata:
        """What the model file says about the network, before calibration."""
        training = TrainingInfo(
            dataset=self.dataset.name,
            fingerprint=self.dataset.fingerprint,
            images=self.dataset.train_images,
            recipe=self.recipe.name,
            seed=self.seed,
        )
        knows_many_images = self.init and self.init.backbone.provenance.training_data == IMAGENET
        return ModelMetadata(
            classes=self.classes,
            preprocessing=self.preprocessing,
            architecture=self.architecture,
            rejection=Rejection(ood_statistics="features" if knows_many_images else "activations"),
            training=training,
        )


class FileInfo(Record):
    """Size in bytes and SHA-256 of a file."""

    bytes: int
    sha256: str


class Manifest(Record):
    """How a run ended, and the checksums of its files: `manifest.json`.

    `signal` is 0, or the number of the signal that ended training. `weights` names the weights that `model.onnx` holds,
    and `selected_epoch` the epoch they are from; 0 means that training ended before its first epoch did, or
    that no epoch was clearly better than the weights it began with.
    """

    format: Literal[1] = FORMAT
    status: Status
    signal: int
    weights: Selection
    selected_epoch: int
    train_seconds: float
    files: dict[str, FileInfo]


class MetricsRow(Record):
    """A row of `metrics.jsonl`: losses in nats, accuracies 0..1, and the user's own metrics as `validation_NAME`.

    `train_accuracy` leaves out batches that CutMix has mixed; it is null if there are no others.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    epoch: int
    train_loss: float
    train_accuracy: float | None
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    images_per_second: float
    seconds: float


class RunSummary(Record):
    """A whole run: `convscope train --json`. Without a complete training, `evaluation` is None."""

    run: Path
    status: Status
    train_seconds: float
    weights: Selection
    selected_epoch: int
    config: RunConfig
    history: tuple[MetricsRow, ...]
    evaluation: Evaluation | None
