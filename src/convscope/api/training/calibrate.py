"""What a model file needs to know besides the weights: its calibration, and when it does not answer."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from convscope.backends.onnx.export import to_onnx, to_statistics_onnx
from convscope.backends.onnx.graph import Weights
from convscope.backends.onnx.metadata import LOGITS, ModelMetadata, TemperatureScaling
from convscope.backends.onnx.ood import STATISTICS
from convscope.backends.onnx.read import read_model_file
from convscope.backends.onnx.session import open_session, run_session
from convscope.data.dataset import Split
from convscope.deploy.predictor import Predictor
from convscope.evaluation.calibration import UNCALIBRATED, find_min_probability, fit_calibration, softmax
from convscope.evaluation.ood import OodInputs, conformal_limit, fit_ood
from convscope.network.layers.base import inference_bytes
from convscope.network.network import Network
from convscope.training.resolve import TrainData

MAX_TRAIN_IMAGES, MAX_HELD_OUT_IMAGES = 1_000, 10_000  # more change nothing
MIN_TRAIN_IMAGES, MAX_TRAIN_COST = 300, 1e11  # the least, and multiply-adds of all of them if they are more
MAX_BATCH, MAX_BATCH_BYTES = 500, 2**28  # images that are run at once, and their activations
MIN_IMAGES = 20  # of fewer, no limit keeps 95 %
NEVER = 1.0  # the probability that hardly any answer has
NAME = Path("the trained network")  # for messages


class Calibrated(NamedTuple):
    """The weights of a model file, those of its `ood_score` included, and its metadata."""

    weights: Weights
    metadata: ModelMetadata


def calibrate(
    network: Network,
    weights: Weights,
    metadata: ModelMetadata,
    data: TrainData,
    max_error: float | None = None,
    known: TemperatureScaling | None = None,
) -> Calibrated:
    """Calibrate the probabilities of a network; measure its `ood_score`, and the limits of both.

    They are measured on validation images, at most `MAX_HELD_OUT_IMAGES`. A recipe that trains on all images and
    validates on the test set, as the article's does, stays uncalibrated, and the limit of the
    `ood_score` is that of the training images. With fewer than `MIN_IMAGES` images there is none. If no limit
    keeps `max_error`, the model is unsure about every image.

    Args:
        network: The layers.
        weights: Arrays by name.
        metadata: Classes, preprocessing and architecture.
        data: The images of training and validation.
        max_error: Error rate that answers may have; None accepts all answers.
        known: The calibration, if it is not to be measured.
    """
    session = open_session(to_statistics_onnx(network, weights, metadata), NAME)
    batch_size = max(1, min(MAX_BATCH, MAX_BATCH_BYTES // inference_bytes(network.layers)))

    def run(split: Split) -> OodInputs:
        batches = split.chunks(batch_size)
        found = [run_session(session, NAME, (STATISTICS, LOGITS), images) for images in batches]
        return OodInputs(*(np.concatenate(values) for values in zip(*found, strict=True)))

    affordable = int(MAX_TRAIN_COST / network.multiply_adds)
    train = run(data.train.subsample(min(MAX_TRAIN_IMAGES, max(MIN_TRAIN_IMAGES, affordable))))
    held_out, labels, calibration = train, np.zeros(0, np.int64), UNCALIBRATED
    if data.validation is not data.dataset.test:
        validation = data.validation.subsample(MAX_HELD_OUT_IMAGES)
        held_out, labels = run(validation), validation.labels
        calibration = known or fit_calibration(held_out.logits, labels)
    min_probability = None
    if max_error is not None and len(labels):
        probabilities = softmax(held_out.logits, calibration)
        min_probability = find_min_probability(probabilities, labels, max_error) or NEVER
    limits: dict[str, float | None] = {"min_probability": min_probability}
    if len(held_out.logits) >= MIN_IMAGES:
        fit = fit_ood(train, held_out, metadata.rejection.ood_statistics)
        weights = {**weights, **fit.weights}
        limits["max_ood_score"] = fit.max_score
    rejection = metadata.rejection.model_copy(update=limits)
    metadata = metadata.model_copy(update={"calibration": calibration, "rejection": rejection})
    return Calibrated(weights, metadata)


def with_limits(path: Path, network: Network, held_out: Split, max_error: float | None) -> bytes:
    """The content of a model file with the limits that `calibrate` would measure on its own answers: for int8.

    Args:
        path: The model file.
        network: Its layers.
        held_out: The images that its limits were measured on.
        max_error: As in `calibrate`.
    """
    file, predictor = read_model_file(path), Predictor(path)
    limits, chosen = file.metadata.rejection, held_out.subsample(MAX_HELD_OUT_IMAGES)
    if limits.max_ood_score is not None:
        scores = np.concatenate([predictor.ood_scores(images) for images in chosen.chunks()])
        limits = limits.model_copy(update={"max_ood_score": conformal_limit(scores)})
    if limits.min_probability is not None and max_error is not None:
        probabilities = np.concatenate([predictor.predict_proba(images) for images in chosen.chunks()])
        found = find_min_probability(probabilities.astype(np.float64), chosen.labels, max_error)
        limits = limits.model_copy(update={"min_probability": found or NEVER})
    return to_onnx(network, file.constants, file.metadata.model_copy(update={"rejection": limits}))
