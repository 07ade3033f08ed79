"""The classifier on frozen features: multinomial logistic regression, as strong as validation says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Labels = NDArray[np.int64]
Examples = tuple[Floats, Labels]

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1)  # inverse penalties C on standardized features, for one view
MIN_VALIDATION_IMAGES = 100  # fewer do not choose a strength: cross-validation does
FOLDS = 5
MAX_ROWS = 20_000  # of views of images that are fitted
MAX_ITERATIONS = 60  # more change no answer
MIN_STD = 1e-6


@dataclass(frozen=True)
class Head:
    """A dense layer and how it was found.

    Attributes:
        weight: float32 (classes, features).
        bias: float32 (classes,).
        strength: The inverse penalty C.
    """

    weight: Floats
    bias: Floats
    strength: float

    def logits(self, features: Floats) -> Floats:
        """float32 (n, classes), of features (n, features)."""
        return features @ self.weight.T + self.bias


def fit_head(views: Sequence[Floats], labels: Labels, classes: int, validation: Examples) -> Head:
    """Fit a head on views of the same images.

    The strength is the one with the lowest cross-entropy on the validation images; with fewer than
    `MIN_VALIDATION_IMAGES`, in a stratified cross-validation of the training images. It is chosen on the first view.

    Args:
        views: float32 (n, features) each, the first of the images as they are.
        labels: int64 (n,), of each view's images.
        classes: How many there are.
        validation: Features and labels of images that are not trained on.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):  # these products are so small that a second thread makes them six times slower
        return _fit_head(views, labels, classes, validation)


def _fit_head(views: Sequence[Floats], labels: Labels, classes: int, validation: Examples) -> Head:
    used = views[: max(1, MAX_ROWS // len(labels))]  # their rows add up, so each counts for less
    if len(validation[1]) >= MIN_VALIDATION_IMAGES:
        heads = list(_fit(views[0], labels, classes, STRENGTHS))
        best = heads[int(np.argmin(_losses(heads, *validation)))]
        if len(used) == 1:
            return best
        strength = best.strength
    else:
        losses = [_losses(_fit(*fold, classes, STRENGTHS), *held_out) for fold, held_out in _folds(views[0], labels)]
        strength = STRENGTHS[int(np.argmin(np.mean(losses, 0)))]
    (head,) = _fit(np.concatenate(used), np.tile(labels, len(used)), classes, (strength / len(used),))
    return head


def _losses(heads: Iterable[Head], features: Floats, labels: Labels) -> list[float]:
    """The mean cross-entropy in nats of each head."""
    return [_cross_entropy(head.logits(features), labels) for head in heads]


def _cross_entropy(logits: Floats, labels: Labels) -> float:
    from scipy.special import logsumexp  # type: ignore[import-untyped]

    exact = logits.astype(np.float64)
    return float((logsumexp(exact, axis=1) - exact[np.arange(len(labels)), labels]).mean())


def _folds(features: Floats, labels: Labels) -> Iterator[tuple[Examples, Examples]]:
    """Features and labels to train on, and those to measure on; of each class, every fifth image is held out."""
    fold = np.empty(len(labels), np.int64)
    fold[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % FOLDS
    for number in range(min(FOLDS, len(labels))):
        rest, held_out = fold != number, fold == number
        yield (features[rest], labels[rest]), (features[held_out], labels[held_out])


def _fit(features: Floats, labels: Labels, classes: int, strengths: Sequence[float]) -> Iterator[Head]:
    """Heads of increasing strength, each found from the one before, by L-BFGS (Liu and Nocedal, 1989)."""
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    mean = features.mean(0, dtype=np.float64).astype(np.float32)  # exact, so that a constant feature becomes 0
    centered = features - mean
    std = centered.std(0) + MIN_STD
    scaled = np.concatenate([centered / std, np.ones((len(features), 1), np.float32)], 1)
    found = np.zeros(classes * scaled.shape[1])
    for strength in strengths:
        objective = partial(_objective, scaled, labels, classes, strength)
        found = minimize(objective, found, jac=True, method="L-BFGS-B", options={"maxiter": MAX_ITERATIONS}).x
        weight, bias = np.split(found.reshape(classes, -1), [-1], axis=1)
        weight = weight / std
        yield Head(weight.astype(np.float32), (bias[:, 0] - weight @ mean).astype(np.float32), strength)


def _objective(scaled: Floats, labels: Labels, classes: int, strength: float, flat: Doubles) -> tuple[float, Doubles]:
    """C times the summed cross-entropy plus half the squared weights, and its gradient; the bias is not penalized."""
    weights = flat.reshape(classes, -1)
    logits = scaled @ weights.T.astype(np.float32)
    logits -= logits.max(1, keepdims=True)
    errors = np.exp(logits)
    total = errors.sum(1, keepdims=True)
    rows = np.arange(len(labels))
    loss = float((np.log(total[:, 0]) - logits[rows, labels]).sum(dtype=np.float64))
    errors /= total
    errors[rows, labels] -= 1
    penalized = weights.copy()
    penalized[:, -1] = 0
    gradient = strength * (errors.T @ scaled) + penalized
    return strength * loss + 0.5 * float((penalized**2).sum()), gradient.ravel()
