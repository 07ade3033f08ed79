"""The run folder: everything that a training writes, verified when it is opened.

docs/run-folder.md specifies every file. Nothing is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from convscope._files import LOCK_FILE, kind_of, open_regular, remove, remove_temporary, sha256, write_atomically
from convscope._records import AnyRecord, Record, validation_reason
from convscope._statistics import first_epoch_at_target
from convscope._text import duration, pluralize
from convscope.backends.onnx.metadata import ModelMetadata
from convscope.backends.onnx.read import read_model_file
from convscope.errors import DataError, ModelFileError, UsageError
from convscope.evaluation.metrics import Evaluation
from convscope.network.network import Network
from convscope.runs.config import (
    CARD_FILE,
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    EVALUATION_FILE,
    MANIFEST_FILE,
    METRICS_FILE,
    MODEL_FILE,
    PLOT_FOLDER,
    REPORT_FILE,
    TRAINING_IMAGES_FILE,
    WEIGHTS_FILES,
    FileInfo,
    Manifest,
    MetricsRow,
    RunConfig,
    RunSummary,
    Selection,
)
from convscope.runs.verify import verify_contents, verify_files
from convscope.runs.weights import load_hashes, load_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn


RUNS_FOLDER = Path("runs")


def require_unused(path: Path) -> None:
    """Raise UsageError if a new run would overwrite something at `path`."""
    kind = kind_of(path, UsageError)
    if kind != "missing" and (kind != "folder" or any(file.name != LOCK_FILE for file in path.iterdir())):
        raise UsageError(f"{path} exists already: choose another --run, or move it away")


class RunWriter:
    """Writes a run folder. Without a manifest, which comes last, the folder is not a run yet."""

    def __init__(self, path: Path, config: RunConfig, resumed: bool = False) -> None:
        """Create the folder and write `config.json`.

        Args:
            path: The folder.
            config: Of the run.
            resumed: The folder belongs to this config; remove the manifest and the results of an earlier end.

        Raises:
            UsageError: There are files in the folder already.
        """
        self.path, self.config = path, config
        if resumed:
            results = (MANIFEST_FILE, EVALUATION_FILE, REPORT_FILE, CARD_FILE)
            for old in (*(path / name for name in results), *(path / PLOT_FOLDER).glob("*.png")):
                remove(old)
            remove_temporary(path)
        else:
            require_unused(path)
            self.write_record(CONFIG_FILE, config)

    def write(self, name: str, data: bytes | str) -> Path:
        """Write one file below the folder, completely or not at all."""
        write_atomically(self.path / name, data)
        return self.path / name

    def write_record(self, name: str, record: Record) -> None:
        """Write a record as one JSON object."""
        self.write(name, record.model_dump_json(indent=2) + "\n")

    def write_rows(self, name: str, rows: Iterable[Mapping[str, float | None]]) -> None:
        """Write JSON Lines."""
        self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def finish(self, signal: int, selected_epoch: int, train_seconds: float, weights: Selection | None = None) -> Run:
        """Write the manifest, which makes the folder a run.

        Args:
            signal: The signal that ended training, or 0.
            selected_epoch: The epoch of the selected weights.
            train_seconds: Duration of training.
            weights: Which weights were selected; by default those that the recipe selects.
        """
        names = sorted(path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())
        files = {
            name: _file_info(self.path / name)
            for name in names
            if name not in (MANIFEST_FILE, LOCK_FILE) and not name.startswith(f"{CHECKPOINT_FOLDER}/")
        }
        manifest = Manifest(
            status="complete" if EVALUATION_FILE in files else "interrupted",
            signal=signal,
            weights=weights or self.config.recipe.selection.weights,
            selected_epoch=selected_epoch,
            train_seconds=train_seconds,
            files=files,
        )
        self.write_record(MANIFEST_FILE, manifest)
        return Run(self.path, self.config, manifest)


class Run:
    """A verified run folder; `open_run` returns it."""

    def __init__(self, path: Path, config: RunConfig, manifest: Manifest) -> None:
        self.path, self.config, self.manifest = path, config, manifest

    @property
    def network(self) -> Network:
        """The network that was trained."""
        return self.config.network

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return self.config.classes

    @property
    def warning(self) -> str:
        """What users of this run should know; empty for a complete run."""
        if self.manifest.status == "complete":
            return ""
        done = f"{len(self.history)} of {pluralize(self.config.epochs, 'epoch')}"
        return f"{self.path} was interrupted after {done} and not evaluated on the test set"

    @property
    def missed_target(self) -> bool:
        """Whether the recipe has a target accuracy that no epoch reached."""
        target, config = self.config.recipe.stopping.target_accuracy, self.config
        if target is None:
            return False
        accuracies = [row["validation_accuracy"] for row in self.history]
        if config.init and not accuracies:  # its classifier was all that was trained
            accuracies = [config.init.score.accuracy]
        planned = None if config.time_limit else config.epochs
        return not first_epoch_at_target(accuracies, config.dataset.validation_images, target, planned)

    @property
    def model_file(self) -> Path:
        """The ONNX file that `Predictor` reads."""
        return self.path / MODEL_FILE

    @property
    def weights_file(self) -> Path:
        """The safetensors file of the selected weights."""
        return self.path / WEIGHTS_FILES[self.manifest.weights]

    @cached_property
    def metadata(self) -> ModelMetadata:
        """What the model file says about itself: calibration, limits for answers and so on."""
        return read_model_file(self.model_file).metadata

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """One row per epoch, as in `metrics.jsonl`; see `MetricsRow`."""
        lines = (self.path / METRICS_FILE).read_bytes().splitlines()
        return [_parse_record(line, self.path / METRICS_FILE, MetricsRow).model_dump() for line in lines]

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """The evaluation on the test split; None if training was interrupted."""
        if self.manifest.status != "complete":
            return None
        return _read_record(self.path / EVALUATION_FILE, Evaluation, "restore it from a copy, or train again")

    @cached_property
    def training_images(self) -> NDArray[np.uint64]:
        """The `Split.hashes` of all images that training used, those for validation included."""
        return load_hashes(self.path / TRAINING_IMAGES_FILE)

    def model(self) -> nn.Sequential:
        """Build the torch model with the selected weights, in evaluation mode.

        Raises ModelFileError if the weights do not fit the network.
        """
        from convscope.backends.pytorch.models import build_model, set_weights

        model = build_model(self.network)
        try:
            set_weights(model, load_weights(self.weights_file))
        except (KeyError, RuntimeError) as error:
            raise ModelFileError(
                f"{self.weights_file} does not fit {self.config.architecture!r}: train again"
            ) from error
        return model.eval()

    def summary(self) -> RunSummary:
        """Everything about the run in one record."""
        return RunSummary(
            run=self.path,
            status=self.manifest.status,
            train_seconds=self.manifest.train_seconds,
            weights=self.manifest.weights,
            selected_epoch=self.manifest.selected_epoch,
            config=self.config,
            history=tuple(MetricsRow.model_validate(row) for row in self.history),
            evaluation=self.evaluation,
        )

    def __repr__(self) -> str:
        result = self.evaluation.accuracy_text if self.evaluation else self.manifest.status
        return f"Run({str(self.path)!r}: {self.config.model} on {self.config.dataset.name}, test accuracy {result})"

    def _repr_html_(self) -> str:
        accuracy = self.evaluation.accuracy_text if self.evaluation else "not measured: training was interrupted"
        details = {
            "data": self.config.dataset.name,
            "architecture": self.config.architecture,
            "recipe": f"{self.config.recipe.name}, {pluralize(len(self.history), 'epoch')}, seed {self.config.seed}",
            "test accuracy": accuracy,
            "training": f"{duration(self.manifest.train_seconds)} on {self.config.machine.summary}",
        }
        rows = "".join(f"<tr><th>{escape(term)}</th><td>{escape(value)}</td></tr>" for term, value in details.items())
        return f"<p><b>{escape(str(self.path))}</b></p><table>{rows}</table>"


def open_run(path: str | Path) -> Run:
    """Open a run folder and verify every file against the manifest; only `README.md` may be edited.

    Raises ModelFileError, with its name, if a file is missing, altered, not listed or of another format version.
    """
    folder = _existing_folder(path)
    manifest = _read_record(
        folder / MANIFEST_FILE,
        Manifest,
        "its training did not finish, or it is not a run folder: "
        f"continue with convscope train --resume {folder}, or train again",
    )
    verify_files(folder, manifest)
    config = _read_record(folder / CONFIG_FILE, RunConfig, "restore it from a copy, or train again")
    verify_contents(folder, config, manifest)
    return Run(folder, config, manifest)


def open_unfinished(path: str | Path) -> RunConfig:
    """Read the config of a training that can be resumed.

    Raises:
        ModelFileError: It is not a run folder, or it was stopped without a checkpoint.
        UsageError: The training is complete.
    """
    folder = _existing_folder(path)
    config = _read_record(folder / CONFIG_FILE, RunConfig, "expected the folder of a stopped or killed training")
    if (folder / MANIFEST_FILE).exists():
        if _read_record(folder / MANIFEST_FILE, Manifest, "").status == "complete":
            raise UsageError(f"{folder} is complete already: use --more-epochs to train it further")
        if not any((folder / CHECKPOINT_FOLDER).glob("*")):
            raise ModelFileError(f"{folder} has no checkpoint to continue from: use it as it is, or train again")
    return config


def next_run_folder(base: Path, dataset: str, model: str) -> Path:
    """The first of `base/dataset-model-1`, `-2`, ... that does not exist."""
    number = 1
    while (folder := base / f"{dataset}-{model}-{number}").exists():
        number += 1
    return folder


def utc_now() -> datetime:
    """The time in UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def _existing_folder(path: str | Path) -> Path:
    folder = Path(path)
    kind = kind_of(folder, ModelFileError)
    if kind != "folder":
        problem = "does not exist" if kind == "missing" else "is a file"
        raise ModelFileError(
            f"expected a run folder, but {folder} {problem}: use the folder that 'convscope train' printed"
        )
    return folder


def _file_info(path: Path) -> FileInfo:
    return FileInfo(bytes=path.stat().st_size, sha256=sha256(path))


def _read_record(path: Path, kind: type[AnyRecord], advice: str) -> AnyRecord:
    try:
        with open_regular(path) as file:
            return _parse_record(file.read(), path, kind)
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} is missing: {advice}") from error
    except DataError as error:
        raise ModelFileError(f"{path}: {error}") from error
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}): check its permissions") from error


def _parse_record(content: bytes, path: Path, kind: type[AnyRecord]) -> AnyRecord:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        message = f"{path} cannot be read by this version: {validation_reason(error)}; use the version that wrote it"
        raise ModelFileError(message) from error
