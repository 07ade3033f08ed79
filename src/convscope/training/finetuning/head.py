"""The classifier on frozen features: multinomial logistic regression, as strong as validation says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
        held_out: Logits of the training images, float32 (n, classes), each from a head that was not fitted on it; None
            unless a cross-validation chose the strength.
    """

    weight: Floats
    bias: Floats
    strength: float
    held_out: Floats | None = None

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
    held_out = None
    used = views[: max(1, MAX_ROWS // len(labels))]  # their rows add up, so each counts for less
    if len(validation[1]) >= MIN_VALIDATION_IMAGES:
        heads = list(_fit(views[0], labels, classes, STRENGTHS))
        losses = [_cross_entropy(head.logits(validation[0]), validation[1]) for head in heads]
        head = heads[int(np.argmin(losses))]
        if len(used) == 1:
            return head
        strength = head.strength
    else:
        found = _cross_validate(views[0], labels, classes)
        best = int(np.argmin([_cross_entropy(logits, labels) for logits in found]))
        strength, held_out = STRENGTHS[best], found[best]
    (head,) = _fit(np.concatenate(used), np.tile(labels, len(used)), classes, (strength / len(used),))
    return replace(head, held_out=held_out)


def _cross_entropy(logits: Floats, labels: Labels) -> float:
    from scipy.special import logsumexp  # type: ignore[import-untyped]

    exact = logits.astype(np.float64)
    return float((logsumexp(exact, axis=1) - exact[np.arange(len(labels)), labels]).mean())


def _cross_validate(features: Floats, labels: Labels, classes: int) -> Floats:
    """Logits of all images for each strength, (strengths, n, classes); of each class, every fifth image is held out."""
    fold = np.empty(len(labels), np.int64)
    fold[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % FOLDS
    logits = np.empty((len(STRENGTHS), len(labels), classes), np.float32)
    for number in range(min(FOLDS, len(labels))):
        rest, held_out = fold != number, fold == number
        for index, head in enumerate(_fit(features[rest], labels[rest], classes, STRENGTHS)):
            logits[index, held_out] = head.logits(features[held_out])
    return logits


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
