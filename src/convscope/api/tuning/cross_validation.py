"""Cross-validation: every training image, classified by a network that was not trained on it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from convscope._extras import require_package
from convscope._files import check_replaceable, replace_file
from convscope._records import Record, validate_options
from convscope._reporting import Reporter
from convscope._statistics import wilson
from convscope._text import duration, percent
from convscope.api.training.hooks import OptionKeywords
from convscope.api.training.sources import Sources, load_sources
from convscope.api.tuning.folds import assign_folds, check_folds, dataset_of, leave_out
from convscope.api.tuning.options import CrossvalOptions
from convscope.api.tuning.trial import Mapper, TrialResult, hits, run_trial
from convscope.data.dataset import Dataset
from convscope.data.load import DataSource
from convscope.data.types import Labels
from convscope.evaluation.calibration import Calibration, Doubles, log_probabilities, measure_calibration


class FoldScore(Record):
    """The images of one fold, classified by the training that left them out.

    Attributes:
        fold: Its number, from 0.
        n: Number of its images.
        accuracy: Fraction that is right, 0..1.
        interval: 95 % Wilson interval of that.
        model: The network.
        recipe: How it was trained.
        epochs: That were trained.
        seconds: That it took.
    """

    fold: int
    n: int
    accuracy: float
    interval: tuple[float, float]
    model: str
    recipe: str
    epochs: int
    seconds: float


class CrossvalSummary(Record):
    """A cross-validation: `convscope crossval --json`.

    Attributes:
        data: Name of the data set.
        classes: Class names.
        n: Number of training images, each of which was left out once.
        grouped: Whether some images belong together, and were left out together.
        seed: Of folds and trainings.
        accuracy: Fraction of the images that is right, 0..1.
        interval: 95 % Wilson interval of that.
        loss: Mean cross-entropy in nats, of calibrated probabilities.
        calibration: How far confidence and accuracy are apart.
        folds: By number.
        out: The file with the probabilities; None if there is none.
    """

    data: str
    classes: tuple[str, ...]
    n: int
    grouped: bool
    seed: int
    accuracy: float
    interval: tuple[float, float]
    loss: float
    calibration: Calibration
    folds: tuple[FoldScore, ...]
    out: Path | None


@dataclass(frozen=True)
class CrossValidation:
    """A cross-validation with its probabilities.

    Attributes:
        summary: Accuracy, loss and folds.
        labels: Of the training images, int64 (n,).
        folds: The fold of each, int64 (n,).
        probabilities: By the training that left the image out, float64 (n, classes).
    """

    summary: CrossvalSummary
    labels: Labels
    folds: Labels
    probabilities: Doubles


class CrossvalKeywords(OptionKeywords, total=False):
    """Keyword arguments of `cross_validate`: the fields of `CrossvalOptions`, and where messages go."""

    folds: int
    out: str | Path | None
    reporter: Reporter
    mapper: Mapper


def cross_validate(data: DataSource | None = None, **options: Unpack[CrossvalKeywords]) -> CrossValidation:
    """Train as often as there are folds, each time without one of them, and classify the images of that fold.

    The test split is not used. Classes are spread evenly over the folds, and images that belong together, such as
    near-duplicates, stay together.

    Args:
        data: See `load_data`.
        options: Fields of `CrossvalOptions`: `folds`, `out` (a .parquet for the probabilities) and those of
            `TrainOptions` that do not concern a run folder; `reporter`, and `mapper`, which runs the trainings, by
            default one after the other.

    Raises:
        UsageError: An option is wrong.
        DataError: The data cannot be read, or a class has too few images.
    """
    given: dict[str, Any] = dict(options)
    reporter, mapper = given.pop("reporter", Reporter()), given.pop("mapper", Mapper())
    return run_folds(data, validate_options(CrossvalOptions, given), reporter, mapper)


def run_folds(data: DataSource | None, options: CrossvalOptions, reporter: Reporter, mapper: Mapper) -> CrossValidation:
    """The same with a checked record of options; see `cross_validate`."""
    started = time.monotonic()
    options.chosen_recipe()  # a wrong option is reported before anything is loaded
    if options.out:
        require_package("pyarrow", "writing Parquet")
        check_replaceable(options.out)
    sources = load_sources(data, options, reporter)
    dataset = dataset_of(sources)
    folds = assign_folds(dataset.train, options.folds, options.seed)
    check_folds(folds, dataset.train.labels, dataset.classes)
    jobs = _Jobs(sources, _share_budget(options, started, mapper.workers), folds)
    probabilities, scores = np.zeros((len(folds), len(dataset.classes))), []
    calibrated = True
    for fold, result in mapper.map(_train_fold, jobs, range(options.folds)):
        probabilities[folds == fold] = result.probabilities
        calibrated &= result.calibrated
        scores.append(_score(fold, result, dataset.train.labels[folds == fold]))
        reporter.message(f"fold {fold}: {percent(scores[-1].accuracy)} in {duration(result.seconds)}")
    calibration = measure_calibration(probabilities, dataset.train.labels, calibrated)
    summary = _summary(dataset, options, probabilities, calibration, sorted(scores, key=lambda score: score.fold))
    if options.out:
        write_probabilities(options.out, dataset, folds, probabilities)
    return CrossValidation(summary, dataset.train.labels, folds, probabilities)


@dataclass(frozen=True)
class _Jobs:
    """What all folds share."""

    sources: Sources
    options: CrossvalOptions
    folds: Labels


def _train_fold(jobs: _Jobs, fold: int) -> TrialResult:
    return run_trial(leave_out(jobs.sources, jobs.folds == fold), jobs.options)


def _share_budget(options: CrossvalOptions, started: float, workers: int) -> CrossvalOptions:
    """The options of one fold, which gets an equal share of the time that is left."""
    if options.budget_seconds is None:
        return options
    left = options.budget_seconds - (time.monotonic() - started)
    return options.model_copy(update={"budget": max(1.0, left / ceil(options.folds / workers))})


def _score(fold: int, result: TrialResult, labels: Labels) -> FoldScore:
    correct = int(hits(result.probabilities, labels).sum())
    return FoldScore(
        fold=fold,
        n=len(labels),
        accuracy=correct / len(labels),
        interval=wilson(correct, len(labels)),
        model=result.config.model,
        recipe=result.config.recipe.name,
        epochs=len(result.training.history),
        seconds=result.seconds,
    )


def _summary(
    dataset: Dataset,
    options: CrossvalOptions,
    probabilities: Doubles,
    calibration: Calibration,
    folds: Iterable[FoldScore],
) -> CrossvalSummary:
    labels = dataset.train.labels
    correct, n = int(hits(probabilities, labels).sum()), len(labels)
    return CrossvalSummary(
        data=dataset.name,
        classes=dataset.classes,
        n=n,
        grouped=dataset.train.groups is not None,
        seed=options.seed,
        accuracy=correct / n,
        interval=wilson(correct, n),
        loss=float(-log_probabilities(probabilities, labels).mean()),
        calibration=calibration,
        folds=tuple(folds),
        out=options.out,
    )


def write_probabilities(path: Path, dataset: Dataset, folds: Labels, probabilities: Doubles) -> None:
    """Write a Parquet file with a row per training image: image, label, fold, and the probability of each class.

    Args:
        path: The file.
        dataset: `image` is a path for image files, and the index in the training split for arrays.
        folds: The fold of each image.
        probabilities: (n, classes).
    """
    import pyarrow as pa
    from pyarrow.parquet import write_table

    train = dataset.train
    rows: NDArray[np.int64] = train.indices(np.arange(len(train)))
    images = [dataset.files[row] for row in rows.tolist()] if dataset.files else np.arange(len(train))
    columns = {
        "image": pa.array(images),
        "label": pa.array([dataset.classes[label] for label in train.labels.tolist()]),
        "fold": pa.array(folds),
        **{f"probability_{name}": pa.array(probabilities[:, i]) for i, name in enumerate(dataset.classes)},
    }
    with replace_file(path) as file:
        write_table(pa.table(columns), file)
