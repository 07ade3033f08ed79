"""Which regions of an image speak for a class: class activation maps and occlusion maps.

`page/network/why.js` computes the same in the browser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convscope.backends.pytorch.models import as_batch
from convscope.images.preprocessing import Preprocessing
from convscope.network.layers.base import Layer
from convscope.network.layers.elementwise import Dropout
from convscope.network.layers.pooling import GlobalAvgPool
from convscope.network.network import Network

PATCHES_PER_SIDE = 7  # that would cover the shorter side without overlap

Floats = NDArray[np.float32]
Kind = Literal["class activation map", "contributions", "HiResCAM"]


@dataclass(frozen=True, eq=False)
class ClassMap:
    """How much each position of the last feature maps of more than one position adds to a class's logit.

    A value is the sum over the channels of activation times the logit's gradient (HiResCAM; Draelos and Carin, 2020).
    If only one dense layer follows the pooled or flattened maps, the sum of all values plus the class's bias is the
    logit, exactly. After a global average, the map is the class activation map of Zhou et al. (2016), divided by the
    number of positions; if more layers follow, Grad-CAM (Selvaraju et al., 2017) without its ReLU. Grad-CAM itself
    averages gradients over positions, which is wrong for flattened maps.

    Attributes:
        kind: "class activation map" after a global average and one dense layer; "contributions" after another end of
            one dense layer, exact as well; "HiResCAM" for all others, where it is a local approximation.
        layer: The layer whose output these maps are; "input" if no layer has maps.
        heat: float32 (height, width) of the feature maps.
    """

    kind: Kind
    layer: str
    heat: Floats


def class_map(model: nn.Sequential, network: Network, image: Floats, target: int) -> ClassMap:
    """How much each position of the last feature maps adds to the logit of a class.

    Args:
        model: In evaluation mode.
        network: Its records.
        image: Preprocessed, float32 (height, width, channels).
        target: Number of the class.
    """
    *layers, _softmax = network.layers
    start = next(i for i, layer in enumerate(layers) if np.prod(layer.output_shape[:-1]) == 1)
    with torch.no_grad():
        x = as_batch(image[None])
        for layer in layers[:start]:
            x = model.get_submodule(layer.name)(x)
    maps = y = x.detach().requires_grad_()
    for layer in layers[start:]:
        y = model.get_submodule(layer.name)(y)
    (gradients,) = torch.autograd.grad(y[0, target], maps)
    heat: Floats = (maps.detach() * gradients)[0].double().sum(0).float().numpy()
    head = [type(layer) for layer in layers[start:] if not isinstance(layer, Dropout)]
    return ClassMap(_kind(head), layers[start - 1].name if start else "input", heat)


def _kind(head: list[type[Layer]]) -> Kind:
    if len(head) > 2:
        return "HiResCAM"
    return "class activation map" if head[0] is GlobalAvgPool else "contributions"


@dataclass(frozen=True, eq=False)
class Patches:
    """Where a square patch is put on an image.

    Attributes:
        size: Its height and width in pixels.
        rows: First rows of the places, ascending.
        columns: First columns of the places, ascending.
    """

    size: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @classmethod
    def cover(cls, height: int, width: int) -> Patches:
        """Patches of a seventh of the shorter side, half a patch apart, that cover an image."""
        size = -(-min(height, width) // PATCHES_PER_SIDE)
        rows, columns = (
            tuple(dict.fromkeys((*range(0, side - size, max(1, size // 2)), side - size))) for side in (height, width)
        )
        return cls(size, rows, columns)

    def spread(self, drops: Floats, height: int, width: int) -> Floats:
        """The mean over the patches that cover each pixel.

        Args:
            drops: float32 (rows, columns) of the places.
            height: Of the image.
            width: Of the image.

        Returns:
            float32 (height, width).
        """
        sums, counts = np.zeros((2, height, width))
        for i, top in enumerate(self.rows):
            for j, left in enumerate(self.columns):
                covered = np.s_[top : top + self.size, left : left + self.size]
                sums[covered] += drops[i, j]
                counts[covered] += 1
        result: Floats = (sums / counts).astype(np.float32)
        return result


def occlusion_maps(
    logits: Callable[[NDArray[np.uint8]], Floats],
    pixels: NDArray[np.uint8],
    preprocessing: Preprocessing,
    patches: Patches | None = None,
) -> tuple[Patches, Floats]:
    """How much each class's logit drops if a patch covers a part of the image (Zeiler and Fergus, 2014).

    The patch has the color `preprocessing.fill`: that of the background if the training images share one, else their
    mean color.

    Args:
        logits: Maps uint8 (n, height, width, channels) to the logits, float32 (n, classes).
        pixels: uint8 (height, width, channels), as the network sees them.
        preprocessing: Of the network.
        patches: The places; by default `Patches.cover`.

    Returns:
        The places, and the drops, float32 (classes, rows, columns); positive values where the class needs the region.
    """
    places = patches or Patches.cover(*pixels.shape[:2])
    covered = np.repeat(pixels[None], 1 + len(places.rows) * len(places.columns), axis=0)
    at = 1  # the first one stays as it is
    for top in places.rows:
        for left in places.columns:
            covered[at, top : top + places.size, left : left + places.size] = preprocessing.fill
            at += 1
    found = logits(covered)
    drops = (found[0] - found[1:]).T
    return places, drops.reshape(-1, len(places.rows), len(places.columns))
