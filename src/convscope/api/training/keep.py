"""Whether training the layers of a backbone helped: otherwise the classifier on frozen features is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convscope._statistics import CLEAR
from convscope.api.training.plan import Plan
from convscope.backends.pytorch.models import build_model, set_weights
from convscope.evaluation.calibration import log_likelihoods
from convscope.training.callbacks import TrainResult
from convscope.training.loop import split_logits


def keep_if_better(plan: Plan, result: TrainResult) -> TrainResult:
    """Return the result of a training from a backbone, or one with its initial weights as those of epoch 0.

    The trained weights are kept if they recognize at least as many validation images, and give them a higher
    likelihood, calibrated, by a margin that is clear for that number of images.

    Args:
        plan: Of the training.
        result: What it found.
    """
    init = plan.config.init
    if init is None or init.cut is None or plan.initial_weights is None or not result.history:
        return result
    model, labels = build_model(plan.config.network), plan.data.validation.labels
    logits = []
    for weights in (plan.initial_weights, result.weights):
        set_weights(model, weights)
        logits.append(split_logits(model, plan.data.validation, plan.config.preprocessing, plan.tail))
    before, after = logits
    gains = log_likelihoods(after, labels) - log_likelihoods(before, labels)
    accuracy_gain = int((after.argmax(1) == labels).sum()) - int((before.argmax(1) == labels).sum())
    if accuracy_gain >= 0 and gains.mean() > CLEAR * gains.std() / np.sqrt(len(gains)):
        return result
    return replace(result, select="best", best=plan.initial_weights, best_epoch=0)
