"""Evaluation of a finished run on a data set."""

from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

import numpy as np

from convscope._reporting import Reporter
from convscope._text import list_some
from convscope.data.dataset import Dataset
from convscope.data.labeled import LabeledImages, labeled_test_split
from convscope.data.load import load_data, load_labeled
from convscope.data.options import LoadOptions
from convscope.data.registry import NAMES
from convscope.deploy.predictor import Predictor
from convscope.errors import DataError, UsageError
from convscope.evaluation.evaluate import evaluate_images
from convscope.evaluation.foreign import ForeignImages
from convscope.evaluation.metrics import Evaluation
from convscope.runs.config import DatasetInfo
from convscope.runs.folder import Run

MAX_EXCLUDED_RATIO = 1.2  # files of a data set to images that a training on it used


def evaluate_run(
    run: Run, data: str | None = None, reporter: Reporter | None = None, tta: bool | None = None
) -> Evaluation:
    """Measure a run's model file on the test split of its own data set, or on another one with classes of the run.

    Another data set is measured on its test split, or on all of its images if it has none; `Evaluation.measured` says
    on which. It need not have all classes. Its images are transformed as `Predictor.predict` does it, and messages say
    how they clearly differ from the training images.

    Args:
        run: an open run.
        data: name or path of another data set; None stands for the run's own.
        reporter: where messages and progress go.
        tta: whether to measure test-time augmentation, too; by default if the recipe does.

    Raises:
        UsageError: the run was trained on data in memory, and `data` is None.
        DataError: the data cannot be read, or have other classes.
    """
    config, reporter = run.config, reporter or Reporter()
    labeled = _load(run, data, reporter)
    names = {normalize("NFC", name): i for i, name in enumerate(config.classes)}
    used = {labeled.classes[label]: None for label in np.unique(labeled.images.labels)}
    if unknown := [name for name in used if normalize("NFC", name) not in names]:
        raise DataError(
            f"{data} has classes that the network was not trained on: {list_some(unknown)}; choose data with its "
            f"classes, which are {list_some(config.classes, 10)}"
        )
    chunks = labeled.images.chunks()
    foreign = ForeignImages(config.preprocessing, labeled.preprocessed)
    if not labeled.is_own:
        chunks = foreign.transform(chunks)
    order = np.array([names.get(normalize("NFC", name), 0) for name in labeled.classes])
    flip = config.recipe.augmentation.horizontal_flip == "always"
    with_tta = config.recipe.tta if tta is None else tta
    evaluation, _ = evaluate_images(
        Predictor(run.model_file).predict_logits,
        chunks,
        order[labeled.images.labels],
        config.classes,
        tta_flip=flip if with_tta else None,
    )
    for message in foreign.messages():
        reporter.message(message)
    return evaluation.model_copy(update={"measured": labeled.description})


def _load(run: Run, data: str | None, reporter: Reporter) -> LabeledImages:
    """The images to measure: those that training held out, if the data are those of the run."""
    config = run.config
    trained = config.dataset
    if data is None and not trained.path:
        raise UsageError(f"{run.path} was trained on data in memory: name a data set to evaluate on")
    if data is None or _is_same(data, trained.path):
        dataset = load_data(trained.path, trained.load_options, reporter)
        if dataset.fingerprint != trained.fingerprint:
            reporter.message(f"{trained.path} has changed since {run.path} was trained on it")
        return _held_out(dataset, trained.path)
    before = trained.load_options or LoadOptions()
    options = LoadOptions(
        preprocessing=config.preprocessing, class_level=before.class_level, max_megapixels=before.max_megapixels
    )
    labeled = load_labeled(data, config.classes, options, reporter)
    copy = _load_copy(data, labeled, trained, reporter)
    return _held_out(copy, data) if copy else labeled


def _is_same(data: str, path: str) -> bool:
    """Whether a name or path is that of the data that a run was trained on."""
    return data == path or (
        bool(path) and {data, path}.isdisjoint(NAMES) and Path(data).resolve() == Path(path).resolve()
    )


def _load_copy(data: str, labeled: LabeledImages, trained: DatasetInfo, reporter: Reporter) -> Dataset | None:
    """The data set, if it is a copy of the one that a run was trained on, which is known by its number of images."""
    total = trained.train_images + trained.validation_images + trained.test_images
    if data in NAMES or not total <= len(labeled.images) <= MAX_EXCLUDED_RATIO * total:
        return None
    try:
        dataset = load_data(data, trained.load_options, reporter)
    except DataError:
        return None
    return dataset if dataset.fingerprint == trained.fingerprint else None


def _held_out(dataset: Dataset, name: str) -> LabeledImages:
    """The test split of the data that a run was trained on."""
    labeled = labeled_test_split(dataset, name)
    return labeled._replace(description=f"{labeled.description}; the network was trained on the others", is_own=True)
