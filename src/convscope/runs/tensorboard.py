"""The history of a run as TensorBoard events."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tensorboardX import SummaryWriter

from convscope.training.state import Epoch

CURVES = {
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "learning_rate": "learning_rate",
    "images_per_second": "images_per_second",
}


def event_file(history: Sequence[Epoch], start: float) -> bytes:
    """A TensorBoard event file with one scalar per curve and epoch; `start` is the time in seconds since 1970."""
    with tempfile.TemporaryDirectory() as folder:
        writer = SummaryWriter(folder)
        clock = start
        for epoch in history:
            clock += epoch.seconds
            for curve, attribute in CURVES.items():
                writer.add_scalar(curve, getattr(epoch, attribute), epoch.epoch, walltime=clock)
        writer.close()
        return next(Path(folder).iterdir()).read_bytes()
