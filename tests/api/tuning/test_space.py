"""What a search tries."""

from __future__ import annotations

import pytest

from convscope import Dataset
from convscope.api.training.options import TrainOptions
from convscope.api.tuning.space import Configuration, draw_configurations
from convscope.data.load import load_data


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data("digits")


def test_draw_configurations_begins_with_the_defaults_and_has_no_twice(data: Dataset) -> None:
    found = draw_configurations(data, TrainOptions(), 9)
    assert found[0] == Configuration()
    assert len(found) == 9
    assert len({one.model_dump_json() for one in found}) == 9


def test_draw_configurations_depends_on_the_seed_alone(data: Dataset) -> None:
    first, again, other = (draw_configurations(data, TrainOptions(seed=seed), 9) for seed in (1, 1, 2))
    assert first == again != other


def test_draw_configurations_keeps_what_was_given(data: Dataset) -> None:
    options = TrainOptions(recipe="fast", model="small", learning_rate=0.1)
    assert draw_configurations(data, options, 9) == [Configuration()]
    varied = draw_configurations(data, TrainOptions(model="small"), 9)
    assert {one.model for one in varied} == {None}
    assert len({one.recipe for one in varied}) > 2


def test_draw_configurations_networks_suit_the_images(data: Dataset) -> None:
    """`article` and others do not fit 8x8 images."""
    found = draw_configurations(data, TrainOptions(), 40)
    assert {one.model for one in found} >= {"small", "residual"}
    assert "large" not in {one.model for one in found}


def test_configuration_apply_changes_only_what_it_names() -> None:
    options = Configuration(recipe="best").apply(TrainOptions(epochs=3, seed=5), 20.0)
    assert options == TrainOptions(epochs=3, seed=5, recipe="best", budget=20.0)
