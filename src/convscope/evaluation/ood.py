"""Fit the score that tells images unlike the training images (out of distribution); `backends.onnx.ood` defines it."""

from __future__ import annotations

from math import ceil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convscope.backends.onnx.metadata import OodStatistics
from convscope.backends.onnx.ood import COMPONENTS, ENERGY_SCALE, MEAN, OFFSET, SCALE

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

COVERAGE = 0.95  # of the images that are like the training images, which stay below the limit
MAX_COMPONENTS = 32
SHRINKAGE = 0.01  # of the mean variance, added to every component's
MIN_RELATIVE_STD = 1e-3  # of the largest standard deviation: a statistic that never varies must not have a scale of 0
LIMIT_STEPS = 10_000  # per unit: the limit has four decimals
MIN_VARIANCE = 1e-6  # of standardized statistics; 0 if none of them varies


class OodInputs(NamedTuple):
    """What the score is computed from, for n images: `statistics`, float32 (n, d), and `logits`, float32 (n, c)."""

    statistics: Floats
    logits: Floats

    @property
    def energy(self) -> Doubles:
        """-log(sum(exp(logits))), float64 (n,)."""
        from scipy.special import logsumexp  # type: ignore[import-untyped]  # of the training extra

        result: Doubles = -logsumexp(self.logits.astype(np.float64), axis=1)
        return result


class OodFit(NamedTuple):
    """The constants of the score, by name, and the largest score of an image like the training images."""

    weights: dict[str, NDArray[Any]]
    max_score: float


def fit_ood(train: OodInputs, held_out: OodInputs, kind: OodStatistics = "activations") -> OodFit:
    """Measure the constants of the score.

    Distance and energy are scaled so that each has its median at 0 and its 95 % quantile at 1, and added; with
    features, the score is the distance alone.

    Args:
        train: Of training images; they give mean and covariance of the statistics.
        held_out: Of images that the network was not trained on, which give scales and limit.
        kind: Of the statistics. Those of activations are standardized; features have a common scale.
    """
    mean, scale, components = _fit_covariance(train.statistics.astype(np.float64), kind == "activations")
    stored = components.astype(np.float16)
    distances = _distances(held_out.statistics, mean, scale, stored.astype(np.float64))
    center, spread = _center_and_spread(distances)
    energy_center, energy_spread = _center_and_spread(held_out.energy)
    energy_scale = 1 / energy_spread if kind == "activations" else 0.0
    scores = (distances - center) / spread + (held_out.energy - energy_center) * energy_scale
    weights = {
        MEAN: mean,
        SCALE: scale / np.sqrt(spread),
        ENERGY_SCALE: np.array([energy_scale]),
        OFFSET: np.array([center / spread + energy_center * energy_scale]),
    }
    constants = {name: values.astype(np.float32) for name, values in weights.items()}
    return OodFit({**constants, COMPONENTS: stored}, conformal_limit(scores))


def _fit_covariance(statistics: Doubles, standardize: bool) -> tuple[Doubles, Doubles, Doubles]:
    """Mean (d,), scale (d,) and components (d, k); the squared distance is |z|^2 - |z C|^2, z = (x - mean) * scale."""
    mean, deviation = statistics.mean(0), statistics.std(0)
    if not standardize:
        deviation[:] = deviation.mean()
    deviation = np.maximum(deviation, MIN_RELATIVE_STD * deviation.max() + 1e-12)
    z = (statistics - mean) / deviation
    covariance = z.T @ z / len(z)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    k = min(MAX_COMPONENTS, (len(values) + 1) // 2)
    ridge = SHRINKAGE * max(values.mean(), MIN_VARIANCE)
    rest = max(values[k:].mean() if k < len(values) else values[-1], 0) + ridge
    kept = np.maximum(values[:k], 0) + ridge
    # 1 / rest for every direction, less what the components have too much of it
    return mean, 1 / (deviation * np.sqrt(rest)), vectors[:, :k] * np.sqrt(np.maximum(0, 1 - rest / kept))


def _distances(statistics: Floats, mean: Doubles, scale: Doubles, components: Doubles) -> Doubles:
    z = (statistics.astype(np.float64) - mean) * scale
    result: Doubles = (z**2).sum(1) - ((z @ components) ** 2).sum(1)
    return result


def _center_and_spread(values: Doubles) -> tuple[float, float]:
    center, high = np.quantile(values, [0.5, COVERAGE])
    return float(center), float(max(high - center, 1e-3 * max(1, abs(center))))


def conformal_limit(scores: NDArray[np.floating[Any]]) -> float:
    """The conformal quantile (Vovk et al., 2005): a new image of the same kind exceeds it in at most 5 % of cases.

    Args:
        scores: Of images like the training images, float (n,), n at least 1.
    """
    rank = min(len(scores), ceil(COVERAGE * (len(scores) + 1)))
    return ceil(float(np.sort(scores)[rank - 1]) * LIMIT_STEPS) / LIMIT_STEPS
