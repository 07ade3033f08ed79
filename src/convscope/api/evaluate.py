"""Evaluation of a finished run on the test split of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from convscope._reporting import Reporter
from convscope._text import list_some
from convscope.data.dataset import Dataset
from convscope.data.load import load_data
from convscope.data.options import LoadOptions
from convscope.deploy.predictor import Predictor
from convscope.errors import DataError, UsageError
from convscope.evaluation.evaluate import evaluate_images
from convscope.evaluation.metrics import Evaluation
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage
from convscope.runs.folder import Run


def evaluate_run(
    run: Run, data: str | None = None, reporter: Reporter | None = None, tta: bool | None = None
) -> Evaluation:
    """Measure a run's model file on the test split of its own data set, or of another one with the same classes.

    Images of another size are transformed to the network's size as `Predictor.predict` does it.

    Args:
        run: an open run.
        data: name or path of another data set; None stands for the run's own.
        reporter: where messages and progress go.
        tta: whether to measure test-time augmentation, too; by default if the recipe does.

    Raises:
        UsageError: the run was trained on data in memory, and `data` is None.
        DataError: the data cannot be read, or have other classes.
    """
    reporter = reporter or Reporter()
    config = run.config
    dataset = _load(run, data, reporter)
    if set(dataset.classes) != set(config.classes):
        raise DataError(
            f"{dataset.name} has the classes {list_some(dataset.classes, 10)}, but the network was trained on "
            f"{list_some(config.classes, 10)}: choose data with the same classes"
        )
    if data is None and dataset.fingerprint != config.dataset.fingerprint:
        reporter.message(f"{config.dataset.path} has changed since {run.path} was trained on it")
    predictor = Predictor(run.model_file)
    chunks = dataset.test.chunks()
    if dataset.test.shape != config.input_shape:
        chunks = _transformed(chunks, config.preprocessing)
    order = [config.classes.index(name) for name in dataset.classes]
    labels = np.array(order)[dataset.test.labels]
    flip = config.recipe.augmentation.horizontal_flip == "always"
    with_tta = config.recipe.tta if tta is None else tta
    evaluation, _ = evaluate_images(
        predictor.predict_logits, chunks, labels, config.classes, tta_flip=flip if with_tta else None
    )
    return evaluation


def _load(run: Run, data: str | None, reporter: Reporter) -> Dataset:
    config = run.config
    if data is not None:
        return load_data(data, LoadOptions(preprocessing=config.preprocessing), reporter)
    if not config.dataset.path:
        raise UsageError(f"{run.path} was trained on data in memory: name a data set to evaluate on")
    return load_data(config.dataset.path, config.dataset.load_options, reporter)


def _transformed(chunks: Iterable[NDArray[np.uint8]], preprocessing: Preprocessing) -> Iterator[NDArray[np.uint8]]:
    return (np.stack([preprocessing.transform(DecodedImage(image))[0] for image in images]) for images in chunks)
