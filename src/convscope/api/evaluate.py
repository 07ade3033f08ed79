"""Evaluation of a finished run on a data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from convscope._reporting import Reporter
from convscope._text import list_some, percent, pluralize
from convscope.data.dataset import Dataset
from convscope.data.labeled import LabeledImages, labeled_test_split
from convscope.data.load import load_data, load_labeled
from convscope.data.options import LoadOptions
from convscope.data.registry import NAMES
from convscope.data.types import Labels
from convscope.deploy.prediction import Status
from convscope.deploy.predictor import Predictor
from convscope.errors import DataError, UsageError
from convscope.evaluation.answers import count_answers
from convscope.evaluation.calibration import UNCALIBRATED, measure_calibration, softmax
from convscope.evaluation.evaluate import evaluate_images
from convscope.evaluation.foreign import ForeignImages
from convscope.evaluation.metrics import Evaluation
from convscope.images.preprocessing import Preprocessing
from convscope.runs.config import DatasetInfo
from convscope.runs.folder import Run

MAX_EXCLUDED_RATIO = 1.2  # files of a data set to images that a training on it used


def evaluate_run(
    run: Run, data: str | None = None, reporter: Reporter | None = None, tta: bool | None = None
) -> Evaluation:
    """Measure a run's model file on the test split of its own data set, or on another one with classes of the run.

    Another data set is measured on its test split, or on all of its images if it has none; `Evaluation.measured` says
    on which. It need not have all classes, and labels 0..n-1 without names stand for the run's n classes in order. Its
    images are transformed as `Predictor.predict` does it, and messages say how they clearly differ from the training
    images, and how many of them training used. If the run's own data set has changed, only images that training did not
    use are measured.

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
    if _are_numbers_of(labeled, config.classes):
        labeled = labeled._replace(classes=config.classes)
        meaning = list_some(f"{i} = {name}" for i, name in enumerate(config.classes))
        reporter.message(f"the labels of {data} are numbers: they stand for the network's classes in order, {meaning}")
    order = _class_order(labeled, config.classes, data)
    chunks = labeled.images.chunks()
    foreign = ForeignImages(config.preprocessing, labeled.preprocessed)
    if not labeled.is_own:
        chunks = foreign.transform(chunks)
    flip = config.recipe.augmentation.horizontal_flip == "always"
    with_tta = config.recipe.tta if tta is None else tta
    predictor = Predictor(run.model_file)
    answers = Answering(predictor)
    evaluation, logits = evaluate_images(
        predictor.predict_logits,
        chunks,
        order[labeled.images.labels],
        config.classes,
        tta_flip=flip if with_tta else None,
        plain=answers.predict_logits,
    )
    if not labeled.is_own:
        for message in _used_images(run, labeled, logits.argmax(1) == order[labeled.images.labels]):
            reporter.message(message)
    for message in foreign.messages():
        reporter.message(message)
    fields = describe_answers(predictor, logits, order[labeled.images.labels], answers.statuses, "these images")
    update = {"measured": labeled.description, **fields}
    return evaluation.model_copy(update=update)


class Answering:
    """Predicts logits, and remembers which images the model answered."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.statuses: list[Status] = []

    def predict_logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, float32 (n, classes), of uint8 images (n, height, width, channels)."""
        logits, statuses = self.predictor.predict_logits_and_statuses(images)
        self.statuses += statuses
        return logits


def describe_answers(
    predictor: Predictor, logits: NDArray[np.float32], labels: Labels, statuses: Sequence[Status], images: str
) -> dict[str, Any]:
    """The fields `calibration` and `answers` of the evaluation of a model file.

    Args:
        predictor: The model file.
        logits: float32 (n, classes).
        labels: (n,), the true classes.
        statuses: n, whether the model answers.
        images: What the images are called.
    """
    fitted = predictor.metadata.calibration
    probabilities = softmax(logits, fitted)
    answers = count_answers(statuses, images, probabilities.argmax(1) == labels)
    return {"calibration": measure_calibration(probabilities, labels, fitted != UNCALIBRATED), "answers": (answers,)}


def _are_numbers_of(labeled: LabeledImages, classes: tuple[str, ...]) -> bool:
    """Whether a set has the labels 0..n-1 without names, for a network with n classes that are not called so."""
    expected = tuple(map(str, range(len(classes))))
    return labeled.is_numbered and labeled.classes == expected and not set(expected) & set(classes)


def _class_order(labeled: LabeledImages, classes: tuple[str, ...], data: str | None) -> Labels:
    """The network's number of each class of a set. Raises DataError if the network lacks one that has images."""
    names = {normalize("NFC", name): i for i, name in enumerate(classes)}
    used = {labeled.classes[label]: None for label in np.unique(labeled.images.labels)}
    if unknown := [name for name in used if normalize("NFC", name) not in names]:
        raise DataError(
            f"{data} has classes that the network was not trained on: {list_some(unknown)}; choose data with its "
            f"classes, which are {list_some(classes, 10)}"
        )
    return np.array([names.get(normalize("NFC", name), 0) for name in labeled.classes])


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
            as_trained = config.preprocessing.model_copy(update={"frame": None, "background": None})
            return _unused(run, load_labeled(trained.path, config.classes, _options(run, as_trained), reporter))
        return _held_out(dataset, trained.path)
    labeled = load_labeled(data, config.classes, _options(run, config.preprocessing), reporter)
    copy = _load_copy(data, labeled, trained, reporter)
    return _held_out(copy, data) if copy else labeled


def _options(run: Run, preprocessing: Preprocessing) -> LoadOptions:
    """How to read images that are measured."""
    before = run.config.dataset.load_options or LoadOptions()
    return LoadOptions(
        preprocessing=preprocessing, class_level=before.class_level, max_megapixels=before.max_megapixels
    )


def _used(run: Run, labeled: LabeledImages) -> NDArray[np.bool_]:
    """Which of the images training used."""
    return np.isin(labeled.images.hashes(), run.training_images)


def _unused(run: Run, labeled: LabeledImages) -> LabeledImages:
    """The images that training did not use."""
    used = _used(run, labeled)
    if used.all():
        raise DataError(f"training used all of {labeled.description}: name other images to measure {run.path} on")
    description = f"the {pluralize(int((~used).sum()), 'image')} that training did not use, of {labeled.description}"
    return labeled._replace(images=labeled.images.take(~used), description=description, is_own=True)


def _used_images(run: Run, labeled: LabeledImages, correct: NDArray[np.bool_]) -> Iterator[str]:
    """A message about images that training used, with the accuracy on the others."""
    used = _used(run, labeled)
    if count := int(used.sum()):
        n = len(used) - count
        others = f"; accuracy on the other {n:,}: {percent(correct[~used].mean())}" if n else ""
        yield f"training used {count:,} of these {pluralize(len(used), 'image')}, which are easier for it{others}"


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
