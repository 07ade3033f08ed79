"""What a finished training writes: weights, model file, evaluation, figures, report and model card."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import nn

from convscope._reporting import Reporter
from convscope.api.evaluate import Answering, describe_answers
from convscope.api.training.calibrate import NEVER, calibrate
from convscope.api.training.hooks import Hooks
from convscope.api.training.plan import Plan
from convscope.backends.onnx.export import to_onnx
from convscope.backends.onnx.metadata import TestInfo
from convscope.backends.onnx.read import read_model_file
from convscope.backends.pytorch.models import build_model, set_weights
from convscope.data.dataset import Split
from convscope.deploy.predictor import Predictor
from convscope.evaluation.answers import count_answers, other_images, unlike_images
from convscope.evaluation.evaluate import evaluate_images
from convscope.evaluation.golden import golden_inputs
from convscope.evaluation.metrics import Evaluation
from convscope.images.golden import golden_files
from convscope.report.content import make_report
from convscope.report.figures import dataset_figure, issue_figures, render_figures, result_figures
from convscope.report.html import render_page
from convscope.report.layer_figures import layer_figures
from convscope.report.model_card import model_card
from convscope.report.plots import learning_curves
from convscope.report.region_figures import Predict, mistake_figures
from convscope.runs.config import (
    BEST_WEIGHTS_FILE,
    CARD_FILE,
    EVALUATION_FILE,
    LAST_WEIGHTS_FILE,
    MODEL_FILE,
    PLOT_FOLDER,
    REPORT_FILE,
    RunConfig,
)
from convscope.runs.folder import RunWriter
from convscope.training.callbacks import TrainResult
from convscope.training.loop import predict_logits

NO_ANSWERS = "the model will not answer; choose a larger --max-error, or train on more images"


def write_weights(writer: RunWriter, plan: Plan, result: TrainResult, reporter: Reporter) -> None:
    """Write the weights of the best and the last epoch, and the calibrated model file with the selected ones."""
    writer.write(BEST_WEIGHTS_FILE, save(result.best))
    writer.write(LAST_WEIGHTS_FILE, save(result.last))
    config = plan.config
    known = config.init.calibration if config.init and not result.epoch else None
    metadata = config.model_metadata()
    calibrated = calibrate(config.network, result.weights, metadata, plan.data, config.max_error, known)
    if calibrated.metadata.rejection.min_probability == NEVER:
        images = f"{config.dataset.validation_images:,} validation images"
        reporter.message(f"{images} show no limit that keeps an error of {config.max_error}: {NO_ANSWERS}")
    model = build_model(config.network).eval()
    set_weights(model, result.weights)
    golden = golden_inputs(
        golden_files(config.preprocessing.channels),
        config.preprocessing,
        lambda images: predict_logits(model, images, config.preprocessing),
        calibrated.metadata.calibration,
    )
    metadata = calibrated.metadata.model_copy(update={"golden": golden})
    writer.write(MODEL_FILE, to_onnx(config.network, calibrated.weights, metadata))


def write_results(writer: RunWriter, plan: Plan, model: nn.Sequential, result: TrainResult, hooks: Hooks) -> None:
    """Evaluate the selected weights on the test split, and write evaluation, figures, report and model card."""
    predictor = Predictor(writer.path / MODEL_FILE)
    calibration = predictor.metadata.calibration
    config, dataset, test = plan.config, plan.data.dataset, plan.data.dataset.test
    model.eval()
    flip = config.recipe.augmentation.horizontal_flip == "always"
    predict: Predict = partial(predict_logits, model, preprocessing=config.preprocessing)
    if config.init:  # ONNX Runtime is three times as fast as PyTorch on large networks
        predict = predictor.predict_logits
    answering = Answering(predictor)
    evaluation, logits = evaluate_images(
        predict,
        test.chunks(),
        test.labels,
        config.classes,
        tta_flip=flip if config.recipe.tta else None,
        metrics=hooks.metrics,
        plain=answering.predict_logits,
    )
    evaluation = evaluation.model_copy(update=_answers(answering, test, logits))
    writer.write_record(EVALUATION_FILE, evaluation)
    _write_test_result(writer, config, evaluation)
    correct = np.flatnonzero(logits.argmax(1) == test.labels)
    example = int(correct[0]) if len(correct) else 0
    title = f"test image {example}, labeled {config.classes[test.labels[example]]}"
    rows = [epoch.to_row() for epoch in result.history]
    scaled = calibration.scale(logits).astype(np.float32)
    curves = partial(learning_curves, rows, result.epoch, config.recipe.validation_name)
    specs = chain(
        result_figures(dataset, evaluation, scaled, curves, cutmix=config.recipe.augmentation.cutmix > 0),
        mistake_figures(config, model, dataset, logits, predict),
        layer_figures(config, model, test.image(example), title, calibration, every_layer=False),
        issue_figures(dataset),
        [dataset_figure(dataset)],
    )
    figures = []
    for name, figure in render_figures(specs, hooks.renderer):
        writer.write(f"{PLOT_FOLDER}/{name}.png", figure.png)
        figures.append(figure)
    writer.write(REPORT_FILE, render_page(make_report(config, evaluation, result, figures, dataset.issues)))
    writer.write(CARD_FILE, model_card(config, evaluation, result))


def _write_test_result(writer: RunWriter, config: RunConfig, evaluation: Evaluation) -> None:
    """Write into the model file how good it is."""
    assert evaluation.calibration is not None
    file = read_model_file(writer.path / MODEL_FILE)
    test = TestInfo(
        n=evaluation.n,
        accuracy=evaluation.accuracy,
        interval=evaluation.interval,
        calibration_error=evaluation.calibration.ece,
        answered=evaluation.answers[0].answered,
    )
    metadata = file.metadata.model_copy(update={"test": test})
    writer.write(MODEL_FILE, to_onnx(config.network, file.constants, metadata))


def _answers(answering: Answering, test: Split, logits: NDArray[np.float32]) -> dict[str, Any]:
    """The fields of the evaluation that say which images the model file answers: test images, and others."""
    predictor = answering.predictor
    fields = describe_answers(predictor, logits, test.labels, answering.statuses, "test images")
    others = [
        count_answers(predictor.predict_statuses(images)[1], what)
        for what, images in chain(
            unlike_images(predictor.preprocessing, test), other_images(predictor.preprocessing, predictor.classes)
        )
    ]
    return fields | {"answers": (*fields["answers"], *others)}
