"""Images that a model should not answer, and what it answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convscope.data.load import load_data
from convscope.data.registry import SETS
from convscope.evaluation.answers import UNLIKE_IMAGES, count_answers, other_images, unlike_images
from convscope.images.preprocessing import Preprocessing

GRAY = Preprocessing.plain(np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), np.uint8))


def test_count_answers_counts_each_status() -> None:
    correct = np.array([True, False, True, True])
    found = count_answers(["answered", "answered", "unsure", "unlike"], "test images", correct)
    assert (found.n, found.answered, found.unsure, found.unlike) == (4, 0.5, 0.25, 0.25)
    assert found.accuracy is not None
    assert found.accuracy.accuracy == 0.5
    assert count_answers(["unlike"], "noise", np.array([True])).accuracy is None


def test_unlike_images_have_the_size_of_the_network_and_the_pixels_of_its_images() -> None:
    own = load_data("digits").test
    found = dict(unlike_images(GRAY, own))
    assert {what: images.shape for what, images in found.items()} == dict.fromkeys(found, (100, 8, 8, 1))
    assert np.ptp(found["one color"], axis=(1, 2, 3)).max() == 0
    shuffled = np.sort(found["own images, pixels shuffled"].reshape(100, -1))
    assert np.array_equal(shuffled, np.sort(own.subsample(100).images.reshape(100, -1)))


def test_other_images_are_those_of_data_sets_with_other_classes(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVSCOPE_DATA", str(data_folder))
    found = dict(other_images(GRAY, ("cat", "1")))  # MNIST has a class 1
    assert {what: images.shape for what, images in found.items()} == {"fashion-mnist": (UNLIKE_IMAGES, 8, 8, 1)}
    assert {what for what, _ in other_images(GRAY, ("ankle BOOT",))} == {"mnist"}


def test_other_images_without_data_sets_on_this_machine_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONVSCOPE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert len(SETS) == 3
    assert not list(other_images(GRAY, ("a", "b")))
