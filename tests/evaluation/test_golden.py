"""Golden inputs against softmax worked out by hand, and those that training stores against the trained network."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import convscope
from convscope import reference
from convscope.backends.onnx.metadata import TemperatureScaling
from convscope.evaluation.golden import golden_inputs
from convscope.images.golden import golden_files
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import read_image
from convscope.training.loop import predict_logits

PLAIN = Preprocessing.plain(np.zeros((10, 8, 8, 1), np.uint8))


def test_golden_inputs_are_the_softmax_of_logits_after_calibration() -> None:
    def logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert images.shape == (4, 8, 8, 1)
        return np.tile(np.log(np.array([4, 1], np.float32)), (4, 1))

    found = golden_inputs(golden_files(1), PLAIN, logits, calibration=TemperatureScaling(temperature=2))
    assert [one.name for one in found] == list(golden_files(1))
    assert [one.file for one in found] == list(golden_files(1).values())
    assert [one.probabilities for one in found] == [(0.66667, 0.33333)] * 4


def test_golden_inputs_logits_that_are_not_finite_give_none() -> None:
    assert golden_inputs(golden_files(1), PLAIN, lambda images: np.full((len(images), 2), np.nan)) == ()


def test_train_model_stores_golden_inputs_with_the_answers_of_the_trained_network(digits_run: convscope.Run) -> None:
    predictor = convscope.Predictor(digits_run.path)
    metadata = predictor.metadata
    assert [one.name for one in metadata.golden] == ["dark.png", "rotated.jpg", "transparent.png", "deep.png"]
    images = np.stack([metadata.preprocessing.transform(read_image(one.file))[0] for one in metadata.golden])
    logits = predict_logits(digits_run.model(), images, metadata.preprocessing)
    expected = reference.softmax(metadata.calibration.scale(logits))
    stored = [one.probabilities for one in metadata.golden]
    assert stored == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.01  # the answers differ
