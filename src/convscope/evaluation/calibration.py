"""Probabilities that can be trusted: temperature, calibration error, and a limit for answers."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from convscope._records import Record
from convscope._statistics import binomial_tail
from convscope._text import percent
from convscope.backends.onnx.metadata import (
    MAX_EXPONENT,
    MAX_TEMPERATURE,
    MIN_EXPONENT,
    MIN_TEMPERATURE,
    TemperatureScaling,
)
from convscope.evaluation.proportion import interval_text

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Labels = NDArray[np.int64]

BINS, MIN_IMAGES_PER_BIN = 15, 20
RESAMPLES = 400
CONFIDENCE = 0.95
UNCALIBRATED = TemperatureScaling()
LIMIT_STEPS = 10**6  # the limit for answers has six decimals
MIN_LIKELIHOOD_RATIO = 6.63  # 99 % quantile of chi-squared with one degree of freedom: an exponent of 1 rarely passes
MIN_LIKELIHOOD = 1e-12  # has a logarithm
WRONG_IMAGES = 0.5  # and as many right ones, are added to those that a calibration is fitted to
COVERAGES = 20  # that `find_min_probability` tries


class ReliabilityBin(Record):
    """Images of similar confidence: their number, their mean confidence and the fraction that is right."""

    n: int
    confidence: float
    accuracy: float


class Calibration(Record):
    """How far confidence, the probability of the predicted class, is from accuracy.

    Attributes:
        ece: Expected calibration error (Naeini et al., 2015), 0..1: the mean distance of confidence and accuracy over
            bins with equal numbers of images.
        interval: 95 % bootstrap interval of `ece`.
        noise: What `ece` would be on average, for as many images, if the probabilities were exactly right: with few
            images the accuracy of a bin is uncertain.
        mean_confidence: Of all images.
        bins: By increasing confidence.
        fitted: Whether the probabilities were calibrated on images that the network was not trained on.
    """

    ece: float = Field(ge=0, le=1)
    interval: tuple[float, float]
    noise: float
    mean_confidence: float
    bins: tuple[ReliabilityBin, ...]
    fitted: bool = True

    @property
    def text(self) -> str:
        """For example `0.42 % (95 % interval 0.31 to 0.60; 0.28 % if the probabilities were exact)`."""
        doubt = "" if self.fitted else "; uncalibrated, as no images were held out to calibrate on"
        return (
            f"{percent(self.ece)} (95 % interval {interval_text(self.interval)}; "
            f"{percent(self.noise)} if the probabilities were exact){doubt}"
        )


def softmax(logits: NDArray[np.floating[Any]], calibration: TemperatureScaling = UNCALIBRATED) -> Doubles:
    """Calibrated probabilities, float64 (n, classes), of logits (n, classes)."""
    exponentials = np.exp(calibration.scale(logits))
    result: Doubles = exponentials / exponentials.sum(1, keepdims=True)
    return result


def log_likelihoods(logits: Floats, labels: Labels) -> Doubles:
    """Log-likelihood of each label in nats, float64 (n,), after calibration on the same images.

    Args:
        logits: float32 (n, classes).
        labels: int64 (n,).
    """
    return log_probabilities(softmax(logits, fit_calibration(logits, labels)), labels)


def log_probabilities(probabilities: Doubles, labels: Labels) -> Doubles:
    """Logarithm of the probability of each label, float64 (n,), of probabilities (n, classes); at least 1e-12 each."""
    result: Doubles = np.log(np.maximum(probabilities[np.arange(len(labels)), labels], MIN_LIKELIHOOD))
    return result


def fit_calibration(logits: Floats, labels: Labels) -> TemperatureScaling:
    """The temperature that gives the lowest cross-entropy (Guo et al., 2017), and an exponent if it is clearly needed.

    The exponent is 1 unless another one passes a likelihood-ratio test (Wilks, 1938) at 1 %. Then both numbers are
    those with the lowest Brier score (1950) of the confidence: cross-entropy would spend the exponent on the few images
    of which the network is sure and wrong. Half an image counts as wrong besides the n images (the prior of Jeffreys,
    1946), in equal parts for the likeliest other class of each: otherwise a model that recognizes all of a few images
    would be infinitely sure.

    Args:
        logits: float32 (n, classes), of images that the network was not trained on.
        labels: int64 (n,).
    """
    from scipy.special import logsumexp  # type: ignore[import-untyped]

    n = len(labels)
    targets = _soft_targets(logits, labels)
    correct = logits.argmax(1) == labels

    def cross_entropy(calibration: TemperatureScaling) -> float:
        scaled = calibration.scale(logits)
        return float((logsumexp(scaled, axis=1) - (targets * scaled).sum(1)).mean())

    def brier_score(calibration: TemperatureScaling) -> float:
        return float(np.square(softmax(logits, calibration).max(1) - correct).mean())

    simple = _minimize(cross_entropy, (1.0,))
    better = _minimize(cross_entropy, (simple.temperature, 1.0))
    if 2 * n * (cross_entropy(simple) - cross_entropy(better)) > MIN_LIKELIHOOD_RATIO:
        return _minimize(brier_score, (better.temperature, better.exponent))
    return simple


def _soft_targets(logits: Floats, labels: Labels) -> Doubles:
    """The labels, one-hot, but for a part of half an image in the likeliest other class: float64 (n, classes)."""
    n, rows = len(labels), np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    wrong = WRONG_IMAGES / (n + 2 * WRONG_IMAGES)
    targets = np.zeros(logits.shape)
    targets[rows, labels] = 1 - wrong
    targets[rows, others.argmax(1)] += wrong
    return targets


def _minimize(loss: Callable[[TemperatureScaling], float], start: tuple[float, ...]) -> TemperatureScaling:
    """The temperature, and the exponent if `start` has one, with the lowest loss."""
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    limits = ((MIN_TEMPERATURE, MAX_TEMPERATURE), (MIN_EXPONENT, MAX_EXPONENT))[: len(start)]

    def scaling(point: Doubles) -> TemperatureScaling:
        exact = [float(np.clip(np.exp(x), low, high)) for x, (low, high) in zip(point, limits, strict=True)]
        values = [float(f"{value:.6g}") for value in exact]  # more digits say nothing
        return TemperatureScaling(**dict(zip(("temperature", "exponent"), values, strict=False)))

    bounds = [(log(low), log(high)) for low, high in limits]
    method = {"method": "Nelder-Mead", "options": {"xatol": 1e-4}}
    return scaling(minimize(lambda point: loss(scaling(point)), np.log(start), bounds=bounds, **method).x)


def measure_calibration(probabilities: Doubles, labels: Labels, fitted: bool = True) -> Calibration:
    """Compare confidence and accuracy.

    Args:
        probabilities: (n, classes).
        labels: int64 (n,), n at least 1.
        fitted: As in `Calibration`.
    """
    order = np.argsort(probabilities.max(1), kind="stable")
    confidence, correct = probabilities.max(1)[order], (probabilities.argmax(1) == labels)[order]
    n = len(order)
    bins = np.array_split(np.arange(n), max(1, min(BINS, n // MIN_IMAGES_PER_BIN)))
    starts = [part[0] for part in bins]

    def error(differences: Doubles) -> float:
        """Of confidence and correctness, by increasing confidence."""
        return float(np.abs(np.add.reduceat(differences, starts)).sum() / n)

    random = np.random.default_rng(0)
    resampled = [error((confidence - correct)[np.sort(random.integers(0, n, n))]) for _ in range(RESAMPLES)]
    exact = [error(confidence - (random.random(n) < confidence)) for _ in range(RESAMPLES)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Calibration(
        ece=error(confidence - correct),
        interval=(float(low), float(high)),
        noise=float(np.mean(exact)),
        mean_confidence=float(confidence.mean()),
        bins=tuple(
            ReliabilityBin(n=len(part), confidence=float(confidence[part].mean()), accuracy=float(correct[part].mean()))
            for part in bins
        ),
        fitted=fitted,
    )


def find_min_probability(probabilities: Doubles, labels: Labels, max_error: float) -> float | None:
    """The lowest limit for answers that keeps their error rate, with 95 % confidence; None if there is none.

    The limits tried are those that answer 5 %, 10 %, ... of the images. Each is tested with an exact binomial test (as
    Geifman and El-Yaniv, 2017), and the tests share an error of 5 % (union bound).

    Args:
        probabilities: (n, classes), of images that the network was not trained on.
        labels: int64 (n,).
        max_error: Fraction of the answers that may be wrong, above 0 and below 1.
    """
    confidence = probabilities.max(1)
    order = np.argsort(-confidence, kind="stable")
    correct = np.cumsum((probabilities.argmax(1) == labels)[order])
    for coverage in np.linspace(1, 0, COVERAGES, endpoint=False):
        answered = int(coverage * len(labels))
        level = (1 - CONFIDENCE) / COVERAGES
        if answered and binomial_tail(int(correct[answered - 1]), answered, 1 - max_error) <= level:
            return ceil(float(confidence[order[answered - 1]]) * LIMIT_STEPS) / LIMIT_STEPS
    return None
