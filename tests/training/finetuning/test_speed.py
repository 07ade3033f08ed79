"""The measured time of an image's features: the median of batches, the first of which does not count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from convscope.backends.pytorch.models import build_model, get_weights
from convscope.network.build import parse_network
from convscope.training.finetuning import speed
from convscope.training.finetuning.speed import BATCH_SIZE, seconds_per_image

NETWORK = parse_network("conv 4 3, relu, globalavg", (12, 10, 3), 5)


def test_seconds_per_image_is_the_median_after_the_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, durations = [0.0], iter([100.0, 9.0, 1.0, 2.0])

    class Session:
        def run(self, _: Sequence[str], inputs: Mapping[str, NDArray[np.float32]]) -> None:
            assert [array.shape for array in inputs.values()] == [(BATCH_SIZE, 3, 12, 10)]
            clock[0] += next(durations)

    monkeypatch.setattr(speed, "open_session", lambda *_: Session())
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    assert seconds_per_image(NETWORK, get_weights(build_model(NETWORK)), 1) == 2.0 / BATCH_SIZE


def test_seconds_per_image_runs_the_layers_before_the_classifier() -> None:
    assert 0 < seconds_per_image(NETWORK, get_weights(build_model(NETWORK)), 1) < 1
