"""The data of a training, loaded as its options say. It loads no torch."""

from __future__ import annotations

from pathlib import Path

from convscope._hardware import usable_cores
from convscope._reporting import Reporter
from convscope.api.options import TrainOptions
from convscope.data.dataset import Dataset
from convscope.data.load import load_data, load_default

PREPARATION_SECONDS = 10.0  # of a budget, for decoding, probes and results, about
Source = str | Path | Dataset


def load_for_training(source: Source | None, options: TrainOptions, reporter: Reporter) -> tuple[Dataset, str]:
    """Load a data set, by default MNIST or digits; return it with the name or path that it came from, or "".

    With a budget, the image size is limited to what it allows.

    Args:
        source: see `load_data`; None for the default.
        options: of the training.
        reporter: where messages and progress go.

    Raises:
        DataError: the data set is unknown or cannot be read.
    """
    if source is None:
        dataset = load_default(reporter)
        return dataset, dataset.name
    dataset = load_data(source, options.load_options(core_seconds(options)), reporter)
    return dataset, str(source) if isinstance(source, str | Path) else ""


def core_seconds(options: TrainOptions) -> float | None:
    """Return the seconds of a budget that training can use, times the number of cores; None without a budget."""
    seconds = options.budget_seconds
    return None if seconds is None else max(seconds - PREPARATION_SECONDS, 1) * usable_cores()
