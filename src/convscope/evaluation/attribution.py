"""Which pixels speak for a class."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convscope.backends.pytorch.models import as_batch

INTEGRATION_STEPS = 32  # of integrated gradients, by Gauss-Legendre quadrature
BATCH_PIXELS = 2**18  # of the steps computed at once: more do not fit into the cache, and take five times as long

Floats = NDArray[np.float32]


def integrated_gradients(model: nn.Sequential, image: Floats, target: int) -> Floats:
    """Attribute a logit to the pixels (Sundararajan et al., 2017).

    The baseline is an input of zeros: a black image under plain preprocessing, the training images' mean color under
    standardization. The values add up to the difference between the logits of image and baseline, up to the
    integration error.

    Args:
        model: In evaluation mode.
        image: Preprocessed, float32 (height, width, channels).
        target: Number of the class.

    Returns:
        float32 (height, width), summed over channels; positive values speak for the class.
    """
    pixels = as_batch(image[None])
    positions, weights = np.polynomial.legendre.leggauss(INTEGRATION_STEPS)  # on -1..1
    scales, step_weights = (
        torch.from_numpy(values / 2).float().reshape(-1, 1, 1, 1) for values in (positions + 1, weights)
    )
    size = max(1, BATCH_PIXELS // pixels[0, 0].numel())
    mean = torch.zeros_like(pixels[0])
    for first in range(0, INTEGRATION_STEPS, size):
        some = slice(first, first + size)
        inputs = (scales[some] * pixels).requires_grad_()
        (gradients,) = torch.autograd.grad(model(inputs)[:, target].sum(), inputs)
        mean += (step_weights[some] * gradients).sum(0)
    result: Floats = (mean * pixels[0]).sum(0).float().numpy()
    return result
