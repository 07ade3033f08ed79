"""Folds on a Ray cluster of this machine give the numbers of one process."""

from __future__ import annotations

from collections.abc import Iterator
from posixpath import join

import pytest

from convscope import cross_validate
from convscope._reporting import SilentReporter
from convscope.api.tuning.trial import Mapper
from convscope.errors import ConvscopeError
from convscope.integrations.ray.mapping import RayMapper

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mapper() -> Iterator[RayMapper]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield RayMapper("local", threads=1)
    ray.shutdown()


def test_ray_mapper_calls_every_item_once(mapper: RayMapper) -> None:
    assert mapper.workers == 2
    words = ["a", "b", "c"]
    assert dict(mapper.map(join, "x", words)) == dict(Mapper().map(join, "x", words)) == {i: f"x/{i}" for i in words}


def test_crossval_on_ray_gives_the_probabilities_of_one_process(mapper: RayMapper) -> None:
    options = {"model": "flatten", "epochs": 1, "threads": 1, "folds": 3, "reporter": SilentReporter()}
    here, there = (cross_validate("digits", **options, mapper=one) for one in (Mapper(), mapper))  # type: ignore[arg-type]
    assert (here.probabilities == there.probabilities).all()
    assert here.summary.accuracy == there.summary.accuracy


def test_ray_mapper_without_cluster_raises() -> None:
    ray.shutdown()
    with pytest.raises(ConvscopeError, match=r"^--ray 127\.0\.0\.1:1: no cluster: "):
        RayMapper("127.0.0.1:1")
