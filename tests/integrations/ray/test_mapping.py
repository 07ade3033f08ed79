"""Folds and trials on a Ray cluster give the numbers of one process, and each is done once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from posixpath import join

import pytest

from convscope import cross_validate
from convscope._reporting import SilentReporter
from convscope.api.tuning.trial import Mapper
from convscope.errors import ConvscopeError, DataError
from convscope.integrations.ray import cluster as cluster_module
from convscope.integrations.ray import mapping
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


def test_ray_mapper_raises_the_error_of_a_call_in_one_line(mapper: RayMapper) -> None:
    def fail(_: object, __: object) -> None:
        raise DataError("no images")

    with pytest.raises(DataError, match=r"^no images$"):
        list(mapper.map(fail, None, [0]))


def test_ray_mapper_raises_if_a_worker_ends_too_often(mapper: RayMapper, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(_: object, __: object) -> None:
        os._exit(1)

    for module in (mapping, cluster_module):
        monkeypatch.setattr(module, "MAX_RETRIES", 1)
    text = r"^a worker ended 2 times while it trained; is its memory enough\? \(WorkerCrashedError\)$"
    with pytest.raises(ConvscopeError, match=text):
        list(mapper.map(end, None, [0]))


def test_ray_mapper_without_cluster_raises() -> None:
    ray.shutdown()
    with pytest.raises(ConvscopeError, match=r"^--ray 127\.0\.0\.1:1: no cluster: "):
        RayMapper("127.0.0.1:1")
