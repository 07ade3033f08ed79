"""The last layers of a network, trained on what its first layers have computed once."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn

Maps = NDArray[np.float16]
EVALUATION_BATCH = 256
EXTRACTING = "extracting features"  # the task of a reporter's progress


@dataclass(frozen=True, eq=False)
class Tail:
    """Cached feature maps, and which layers they are the input of.

    Attributes:
        cut: How many layers stay frozen.
        views: Of the training images, float16 (n, height, width, channels) each; an epoch draws one for each image.
        validation: Of the validation images as they are.
    """

    cut: int
    views: tuple[Maps, ...]
    validation: Maps

    @property
    def count(self) -> int:
        """How many views there are."""
        return len(self.views)

    def batch(self, images: NDArray[Any], views: NDArray[Any]) -> Tensor:
        """The maps of training images, each in one of the views: float32 (n, channels, height, width)."""
        rows = [self.views[view][image] for view, image in zip(views.tolist(), images.tolist(), strict=True)]
        return _as_input(np.stack(rows))

    def layers_of(self, model: nn.Module) -> nn.Module:
        """The layers behind the cut, which share their weights with the model."""
        from convscope.backends.pytorch.fusion import FusedSequential

        assert isinstance(model, FusedSequential)
        return FusedSequential(OrderedDict(list(model.named_children())[self.cut :]), model.layers[self.cut :])

    def predict_logits(self, model: nn.Module) -> NDArray[np.float32]:
        """Logits of the validation images, float32 (n, classes); the model's mode is restored."""
        import torch

        layers, was_training = self.layers_of(model).eval(), model.training
        starts = range(0, len(self.validation), EVALUATION_BATCH)
        with torch.inference_mode():
            parts = [layers(_as_input(self.validation[i : i + EVALUATION_BATCH])).float().numpy() for i in starts]
        model.train(was_training)
        return np.concatenate(parts)


def _as_input(maps: Maps) -> Tensor:
    from convscope.backends.pytorch.models import as_batch

    return as_batch(maps.astype(np.float32))
