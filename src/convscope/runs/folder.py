"""The run folder: what a training leaves, readable by anyone, checked when it is opened.

docs/run-folder.md specifies every file. Nothing in it is pickled, and every file is written whole or not at all.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from convscope._files import LOCK_FILE, remove, remove_temporary, sha256, write_atomically
from convscope._records import Record
from convscope._statistics import reaches
from convscope._text import pluralize
from convscope.errors import ModelFileError, UsageError
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
    WEIGHTS_FILES,
    FileInfo,
    Manifest,
    RunConfig,
    Status,
)

if TYPE_CHECKING:
    from torch import nn

AnyRecord = TypeVar("AnyRecord", bound=Record)


def check_free(path: Path) -> None:
    """Raises UsageError when there is something at `path` that a new run would overwrite."""
    if path.exists() and (not path.is_dir() or any(file.name != LOCK_FILE for file in path.iterdir())):
        raise UsageError(f"{path} exists already: choose another --run, or move it away")


class RunWriter:
    """A run folder in the making."""

    def __init__(self, path: Path, config: RunConfig, resumed: bool = False) -> None:
        """Make the folder and write `config.json`. Raises UsageError when there is something in it already.

        With `resumed` the folder is one of this config: it is no run any more until it is finished again.
        """
        self.path, self.config = path, config
        if resumed:
            for old in (
                path / MANIFEST_FILE,
                path / EVALUATION_FILE,
                path / REPORT_FILE,
                path / CARD_FILE,
                *(path / PLOT_FOLDER).glob("*.png"),
            ):
                remove(old)
            remove_temporary(path)
        else:
            check_free(path)
            self.write_record(CONFIG_FILE, config)

    def write(self, name: str, data: bytes | str) -> Path:
        """Write one file below the folder, whole or not at all."""
        write_atomically(self.path / name, data)
        return self.path / name

    def write_record(self, name: str, record: Record) -> None:
        """Write a record as one JSON object."""
        self.write(name, record.model_dump_json(indent=2) + "\n")

    def write_rows(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Write JSON Lines."""
        self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def finish(self, signal: int, selected_epoch: int, train_seconds: float) -> Run:
        """Write the manifest, after which the folder is a run."""
        names = sorted(path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())
        files = {
            name: _file(self.path / name)
            for name in names
            if name not in (MANIFEST_FILE, LOCK_FILE) and not name.startswith(f"{CHECKPOINT_FOLDER}/")
        }
        status: Status = "complete" if EVALUATION_FILE in files else "interrupted"
        manifest = Manifest(
            status=status,
            signal=signal,
            weights=self.config.recipe.selection.weights,
            selected_epoch=selected_epoch,
            train_seconds=train_seconds,
            files=files,
        )
        self.write_record(MANIFEST_FILE, manifest)
        return Run(self.path, self.config, manifest)


class Run:
    """An opened run folder; `open_run` makes it."""

    def __init__(self, path: Path, config: RunConfig, manifest: Manifest) -> None:
        self.path, self.config, self.manifest = path, config, manifest

    @property
    def network(self) -> Network:
        """The layer records."""
        return self.config.network

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return self.config.classes

    @property
    def warning(self) -> str:
        """What whoever uses this run has to know; empty for a run that was completed."""
        if self.manifest.status == "complete":
            return ""
        done = f"{len(self.history)} of {pluralize(self.config.epochs, 'epoch')}"
        return f"{self.path} was interrupted after {done} and never measured on the test set"

    @property
    def missed_target(self) -> bool:
        """Whether the recipe has a target that no epoch reached."""
        target, data = self.config.recipe.stopping.target_accuracy, self.config.dataset
        images = data.validation_images or data.test_images
        return target is not None and not any(
            reaches(row["validation_accuracy"], images, target) for row in self.history
        )

    @property
    def model_file(self) -> Path:
        """The ONNX file that `Predictor` reads."""
        return self.path / MODEL_FILE

    @property
    def weights_file(self) -> Path:
        """The safetensors file of the selected weights."""
        return self.path / WEIGHTS_FILES[self.manifest.weights]

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """One row per epoch, as `metrics.jsonl` holds them."""
        return [json.loads(line) for line in (self.path / METRICS_FILE).read_text().splitlines()]

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """The evaluation on the test split at the end of training; None when training was interrupted."""
        path = self.path / EVALUATION_FILE
        return Evaluation.model_validate_json(path.read_bytes()) if path.exists() else None

    def model(self) -> nn.Sequential:
        """The trained torch model, in evaluation mode. Raises ModelFileError when its weights do not fit."""
        from safetensors.numpy import load_file

        from convscope.backends.pytorch.models import build_model, set_weights

        model = build_model(self.network)
        try:
            set_weights(model, load_file(self.weights_file))
        except (KeyError, RuntimeError) as error:
            raise ModelFileError(
                f"{self.weights_file} does not fit {self.config.architecture!r}: train again"
            ) from error
        return model.eval()

    def to_dict(self) -> dict[str, Any]:
        """The whole run as JSON-able values: where it is, what was planned, how it went, how good it is."""
        return {
            "run": str(self.path),
            "status": self.manifest.status,
            "seconds": self.manifest.train_seconds,
            "weights": self.manifest.weights,
            "selected_epoch": self.manifest.selected_epoch,
            "config": self.config.model_dump(mode="json"),
            "history": self.history,
            "test": self.evaluation.model_dump(mode="json") if self.evaluation else None,
        }

    def __repr__(self) -> str:
        result = self.evaluation.accuracy_text if self.evaluation else self.manifest.status
        return f"Run({str(self.path)!r}: {self.config.model} on {self.config.dataset.name}, test accuracy {result})"

    def _repr_html_(self) -> str:
        accuracy = self.evaluation.accuracy_text if self.evaluation else "not measured: training was interrupted"
        facts = {
            "data": self.config.dataset.name,
            "architecture": self.config.architecture,
            "recipe": f"{self.config.recipe.name}, {pluralize(len(self.history), 'epoch')}, seed {self.config.seed}",
            "test accuracy": accuracy,
            "training": f"{self.manifest.train_seconds:.1f} s on {self.config.machine.summary}",
        }
        rows = "".join(f"<tr><th>{escape(term)}</th><td>{escape(value)}</td></tr>" for term, value in facts.items())
        return f"<p><b>{escape(str(self.path))}</b></p><table>{rows}</table>"


def open_run(path: str | Path) -> Run:
    """Open a run folder after checking every file against the manifest.

    Raises ModelFileError, naming the file, when one is missing, altered or of another format version.
    """
    folder = _folder(path)
    manifest = _read(
        folder / MANIFEST_FILE, Manifest, "its training did not finish, or it is no run folder: "
        f"go on with convscope train --resume {folder}, or train again"
    )  # fmt: skip
    for name, expected in manifest.files.items():
        file = folder / name
        if not file.is_file():
            raise ModelFileError(f"{file} is missing: put it back from a copy, or train again")
        if file.stat().st_size != expected.bytes or sha256(file) != expected.sha256:
            raise ModelFileError(f"{file} was altered since it was written: put it back from a copy, or train again")
    config = _read(folder / CONFIG_FILE, RunConfig, "put it back from a copy, or train again")
    return Run(folder, config, manifest)


def unfinished(path: str | Path) -> RunConfig:
    """What was decided for a training that did not reach its end.

    Raises ModelFileError where there is no such training, or one that was stopped without a checkpoint, and UsageError
    where it is complete.
    """
    folder = _folder(path)
    config = _read(folder / CONFIG_FILE, RunConfig, "give the folder of a training that was stopped or killed")
    if (folder / MANIFEST_FILE).exists():
        if _read(folder / MANIFEST_FILE, Manifest, "").status == "complete":
            raise UsageError(f"{folder} is complete already: --more-epochs trains it further")
        if not any((folder / CHECKPOINT_FOLDER).glob("*")):
            raise ModelFileError(f"{folder} has no checkpoint to go on from: use it as it is, or train again")
    return config


def next_run_folder(base: Path, dataset: str, model: str) -> Path:
    """The first of `base/dataset-model-1`, `-2`, ... that is not there yet."""
    number = 1
    while (folder := base / f"{dataset}-{model}-{number}").exists():
        number += 1
    return folder


def now() -> datetime:
    """The time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise ModelFileError(f"expected a run folder, but {folder} is {'a file' if folder.exists() else 'not there'}: "
                             "give the folder that 'convscope train' printed")  # fmt: skip
    return folder


def _file(path: Path) -> FileInfo:
    return FileInfo(bytes=path.stat().st_size, sha256=sha256(path))


def _read(path: Path, kind: type[AnyRecord], advice: str) -> AnyRecord:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelFileError(f"{path} is missing: {advice}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        message = f"{path} cannot be read by this version: {where}: {first['msg']}; use the version that wrote it"
        raise ModelFileError(message) from error
