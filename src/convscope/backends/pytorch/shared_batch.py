"""Batch normalization and dropout of a batch whose images are shared out among processes.

They give the values and gradients that one process would compute from the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convscope.backends.native.shared_norm import SharedBatch, normalize_ref


class BatchNorm1d(nn.BatchNorm1d):
    """nn.BatchNorm1d; in training mode, its statistics are those of the whole batch if the batch is shared."""

    shared: SharedBatch | None = None

    def forward(self, x: Tensor) -> Tensor:
        return normalize_ref(x, self, self.shared) if self.shared and self.training else super().forward(x)


class BatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d; in training mode, its statistics are those of the whole batch if the batch is shared."""

    shared: SharedBatch | None = None

    def forward(self, x: Tensor) -> Tensor:
        return normalize_ref(x, self, self.shared) if self.shared and self.training else super().forward(x)


class Dropout(nn.Dropout):
    """nn.Dropout; in training mode, it draws the mask of the whole batch if the batch is shared."""

    shared: SharedBatch | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.shared is None or not self.training:
            return super().forward(x)
        keep = 1 - self.p
        order = torch.channels_last if x.dim() == 4 and not x.is_contiguous() else torch.contiguous_format
        whole = (self.shared.images, *x.shape[1:])
        mask = torch.empty(whole, dtype=x.dtype, device="cpu", memory_format=order).bernoulli_(keep)
        return x * mask[self.shared.first : self.shared.last].div_(keep)
