"""The test that int8 has to pass, on answers counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convscope.backends.onnx.read import read_model_file
from convscope.backends.pytorch.models import get_weights
from convscope.data.dataset import Split
from convscope.deploy.int8 import to_int8
from convscope.deploy.predictor import Predictor
from convscope.deploy.quantization import Quantization, Side, compare_quantized
from helpers.model_files import export
from helpers.networks import NetworkCase, random_images, random_preprocessing, trained_model

SIDE = Side(bytes=1, accuracy=0.9, latency_ms=1.0, images_per_second=1.0)


def result(images: int, changed: int, high: float = 0.01) -> Quantization:
    return Quantization(
        images=images, float32=SIDE, int8=SIDE, changed_answers=changed, changed_statuses=0,
        accuracy_change=0.0, interval=(-0.01, high),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("images", "changed", "passed"), [(1000, 5, True), (1000, 6, False), (30, 1, True), (30, 2, False)]
)
def test_quantization_half_a_percent_of_changed_answers_or_one_image_passes(
    images: int, changed: int, passed: bool
) -> None:
    assert result(images, changed).passed is passed


def test_quantization_accuracy_lower_beyond_chance_fails() -> None:
    assert not result(100_000, 400, high=-0.0001).passed


def test_compare_quantized_counts_what_changes(tmp_path: Path) -> None:
    case = NetworkCase("conv 4 3, relu, conv 6 3, relu, flatten", (8, 8, 1), 3)
    paths = tmp_path / "a.onnx", tmp_path / "b.onnx"
    weights = get_weights(trained_model(case))
    paths[0].write_bytes(export(case.network, weights, random_preprocessing(case), "abc"))
    paths[1].write_bytes(to_int8(read_model_file(paths[0]), random_images(case, 50)))
    images = random_images(case, 400, seed=3)
    before, after = (Predictor(path).predict_proba(images).argmax(1) for path in paths)
    assert 0 < (before != after).sum() < 40  # so that there is something to count
    found = compare_quantized(*paths, Split(images, before))
    assert (found.images, found.changed_answers) == (400, (before != after).sum())
    assert (found.float32.accuracy, found.int8.accuracy) == (1.0, (before == after).mean())
    assert found.accuracy_change == pytest.approx(-(before != after).mean())
    assert found.interval[0] < found.accuracy_change < found.interval[1]
    assert found.float32.bytes == paths[0].stat().st_size
    assert min(found.int8.latency_ms, found.int8.images_per_second) > 0
    assert np.isfinite(found.interval).all()
