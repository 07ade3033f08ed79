"""Named architectures."""

from __future__ import annotations

import difflib
import re

from convscope.errors import UsageError
from convscope.network.backbones import BACKBONES
from convscope.network.keywords import KEYWORDS
from convscope.network.layers.base import Shape

PRESETS: dict[str, str] = {
    "article": "conv 32 3, relu, maxpool 2, flatten, dense 100, relu",
    "lenet5": "conv 6 5 pad same, tanh, avgpool 2, conv 16 5, tanh, avgpool 2, "
    "flatten, dense 120, tanh, dense 84, tanh",
    "quick": "conv 32 7, relu, maxpool 3, flatten, dense 64, batchnorm, relu",
    "tiny": "conv 12 5, relu, maxpool 2, conv 16 3, batchnorm, relu, conv 16 3, batchnorm, relu, maxpool 2, "
    "conv 16 3, batchnorm, relu, flatten",
    "small": "conv 16 3, relu, maxpool 2, conv 32 3 pad same, batchnorm, relu, maxpool 2, "
    "flatten, dense 64, batchnorm, relu",
    "large": "conv 32 5, relu, maxpool 2, 2 * (conv 64 3 pad same, batchnorm, relu), maxpool 2, "
    "conv 128 3 pad same, batchnorm, relu, conv 128 3, batchnorm, relu, flatten",
    "airbench": "whiten 2, gelu, "
    "conv 64 3 pad same init identity, maxpool 2, batchnorm, gelu, "
    "conv 64 3 pad same init identity, batchnorm, gelu, "
    "conv 256 3 pad same init identity, maxpool 2, batchnorm, gelu, "
    "conv 256 3 pad same init identity, batchnorm, gelu, "
    "conv 256 3 pad same init identity, maxpool 2, batchnorm, gelu, "
    "conv 256 3 pad same init identity, batchnorm, gelu, globalmax",
    "airbench-deep": "whiten 2, gelu, "
    "conv 32 3 pad same init identity, maxpool 2, batchnorm, gelu, "
    "conv 64 3 pad same init identity, maxpool 2, batchnorm, gelu, "
    "conv 64 3 pad same init identity, batchnorm, gelu, "
    "conv 256 3 pad same init identity, maxpool 2, batchnorm, gelu, "
    "2 * (conv 256 3 pad same init identity, batchnorm, gelu), maxpool 2, "
    "conv 256 3 pad same init identity, batchnorm, gelu, globalmax",
    "residual": "conv 16 3 pad same, batchnorm, relu, "
    "residual(conv 32 3 stride 2 pad same, batchnorm, relu, conv 32 3 pad same, batchnorm), relu, "
    "residual(conv 64 3 stride 2 pad same, batchnorm, relu, conv 64 3 pad same, batchnorm), relu, globalavg",
}

MNIST_SHAPE: Shape = (28, 28, 1)


def resolve_architecture(text: str) -> str:
    """The architecture that a user means.

    Args:
        text: Name of a preset, or an architecture.

    Raises:
        UsageError: If it is a single word that is neither a preset nor a layer.
    """
    if text in PRESETS:
        return PRESETS[text]
    if text in BACKBONES:
        return BACKBONES[text].architecture
    if re.fullmatch(r"[\w.-]+", text.strip()) and text.strip() not in KEYWORDS:
        names = [*PRESETS, *BACKBONES]
        similar = difflib.get_close_matches(text, names, 1)
        hint = f"did you mean {similar[0]!r}? " if similar else ""
        raise UsageError(
            f"unknown preset {text!r}: {hint}presets are {', '.join(names)}, or write an architecture such as "
            f"{PRESETS['article']!r}"
        )
    return text
