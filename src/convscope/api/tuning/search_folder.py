"""The folder of a search: what it tries, and one file per finished trial, from which a killed search goes on.

search.json          data, options and configurations
trials/003-1.json    configuration 3 in rung 1
result.json          the outcome
report.html          the same for people
run/                 the chosen configuration, trained on all images and measured on the test split
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from convscope._files import remove_temporary, write_atomically
from convscope._records import Record, validation_reason
from convscope.api.tuning.space import Configuration
from convscope.errors import ModelFileError, UsageError
from convscope.runs.config import MetricsRow

SEARCHES_FOLDER = Path("searches")
CONFIG_FILE, RESULT_FILE, REPORT_FILE, TRIAL_FOLDER, RUN_FOLDER = (
    "search.json",
    "result.json",
    "report.html",
    "trials",
    "run",
)
AnyRecord = TypeVar("AnyRecord", bound=Record)


class SearchConfig(Record):
    """What a search tries: `search.json`.

    `path` is a name, a path, or empty for data in memory; `options` are those that were given.
    """

    format: Literal[1] = 1
    created: datetime
    data: str
    path: str
    fingerprint: str
    options: dict[str, Any]
    rungs: tuple[int, ...]
    configurations: tuple[Configuration, ...]


class Trial(Record):
    """One training of a search.

    Attributes:
        number: Of the configuration; 0 are the defaults.
        rung: From 0.
        configuration: What it does differently.
        budget: Seconds that it was given; None for no limit.
        seconds: That it took.
        model: The network; "" if it failed.
        recipe: How it was trained.
        epochs: That were trained.
        accuracy: Fraction right, 0..1, of images that no trial trained on; 0 if it failed.
        loss: Cross-entropy on these in nats, calibrated; infinite values are not stored.
        error: Why it failed; "" if it did not.
    """

    number: int
    rung: int
    configuration: Configuration
    budget: float | None
    seconds: float
    model: str = ""
    recipe: str = ""
    epochs: int = 0
    accuracy: float = 0.0
    loss: float = Field(default=1e9)
    error: str = ""

    @property
    def rank(self) -> tuple[float, float, int]:
        """Sorts the best first: by accuracy, then by loss."""
        return -self.accuracy, self.loss, self.number


class StoredTrial(Record):
    """A trial with its epochs, and which images it classified correctly: packed bits in hexadecimal digits."""

    trial: Trial
    epochs: tuple[MetricsRow, ...] = ()
    n: int = 0
    correct: str = ""

    def hits(self) -> NDArray[np.bool_]:
        """Which images it classified correctly, bool (n,)."""
        return np.unpackbits(np.frombuffer(bytes.fromhex(self.correct), np.uint8), count=self.n).astype(bool)


def pack_hits(hits: NDArray[np.bool_]) -> str:
    """The text for `StoredTrial.correct`."""
    return np.packbits(hits).tobytes().hex()


def next_search_folder(name: str) -> Path:
    """The first free name in `searches/`."""
    number = 1
    while (SEARCHES_FOLDER / f"{name}-{number}").exists():
        number += 1
    return SEARCHES_FOLDER / f"{name}-{number}"


def write_record(path: Path, record: Record) -> None:
    """Write a record as one JSON object, completely or not at all."""
    write_atomically(path, record.model_dump_json(indent=2) + "\n")


def read_config(folder: Path) -> SearchConfig:
    """What a search tries. Raises UsageError if the folder is none of a search."""
    if not (folder / CONFIG_FILE).is_file():
        raise UsageError(f"{folder} has no {CONFIG_FILE}: expected the folder of a search")
    return _read(SearchConfig, folder / CONFIG_FILE)


def read_trials(folder: Path) -> dict[tuple[int, int], StoredTrial]:
    """The finished trials, by rung and number; what a killed process left unfinished is removed."""
    remove_temporary(folder)
    stored = [_read(StoredTrial, path) for path in sorted((folder / TRIAL_FOLDER).glob("*.json"))]
    return {(one.trial.rung, one.trial.number): one for one in stored}


def write_trial(folder: Path, stored: StoredTrial) -> None:
    """Write a finished trial."""
    write_record(folder / TRIAL_FOLDER / f"{stored.trial.number:03}-{stored.trial.rung}.json", stored)


def _read(record: type[AnyRecord], path: Path) -> AnyRecord:
    try:
        return record.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ModelFileError(f"{path} is damaged: {validation_reason(error)}; remove it to repeat the trial") from error
