"""Series of few objects, and names that count something else: which of them `find_series` reports."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convscope.data.audit.duplicates import correlation_matrix, correlations
from convscope.data.audit.series import Series, find_series
from convscope.data.formats.listing import Row, make_listing
from helpers.images import Pixels

Views = list[tuple[str, int]]  # names of objects, and how many images there are of each


def objects(views: Views, seed: int = 0) -> dict[str, Pixels]:
    """Images of the objects of one class: smooth, shifted a little from view to view, and noisy."""
    generator = np.random.default_rng(seed)
    found = {}
    for name, count in views:
        base = np.kron(generator.integers(0, 256, (6, 6, 1)), np.ones((4, 4, 1)))
        for view in range(count):
            noisy = 0.8 * np.roll(base, 2 * (view % 4), axis=1) + 40 * generator.normal(size=base.shape) + 20
            found[f"{name}_{view}.png" if view else f"{name}.png"] = np.clip(noisy, 0, 255).astype(np.uint8)
    return found


def found_in(classes: dict[str, dict[str, Pixels]]) -> Series | None:
    rows = [Row(f"{label}/{name}", label) for label, images in classes.items() for name in images]
    pixels = np.stack([pixels for images in classes.values() for pixels in images.values()])
    return find_series(make_listing(Path("set"), rows), pixels, np.arange(len(rows)))


@pytest.mark.parametrize(
    ("views", "count"),
    [
        ([(f"{i}", 4 if i < 8 else 1) for i in range(60)], 16),  # 38 % of the files
        ([(f"{i}", 3 if i < 4 else 1) for i in range(150)], 8),  # 8 %
        ([(f"film{i}", 20) for i in range(2)], 4),
        ([(f"film{i}", 20) for i in range(3)], 6),
        ([(f"film{i}", 10) for i in range(5)], 10),
        ([(f"{i}", 2) for i in range(400)], 800),
    ],
)
def test_find_series_of_few_objects_or_many_views(views: Views, count: int) -> None:
    series = found_in({"a": objects(views), "b": objects(views, 1)})
    assert series
    assert (series.count, series.files) == (count, 2 * sum(n for _, n in views if n > 1))
    assert series.within - series.between >= 0.1
    assert abs(series.between) < 0.05


def test_find_series_in_one_of_many_classes() -> None:
    classes = {f"c{k}": objects([(f"{i}", 1) for i in range(20)], k) for k in range(9)}
    series = found_in({**classes, "films": objects([(f"film{i}", 8) for i in range(5)], 99)})
    assert series
    assert (series.count, series.files) == (5, 40)


NAMES: dict[str, Callable[[random.Random, int], str]] = {
    "sequential": lambda _, i: f"{i:05d}",
    "camera": lambda _, i: f"IMG_{1000 + i}",
    "cameras": lambda r, i: f"{r.choice(('IMG_', 'DSC0', 'P10'))}{1000 + i}",
    "random number": lambda r, _: f"{r.randrange(10**6)}",
    "random digits": lambda r, _: f"{r.getrandbits(64):016x}",
    "two numbers": lambda r, i: f"{r.randrange(20)}_{i}",
    "day and time": lambda r, i: f"202103{r.randrange(1, 29):02d}_{100000 + i}",
    "words": lambda r, i: f"{r.choice(('red', 'blue', 'old', 'new'))}_{i}",
    "pairs": lambda _, i: f"{i // 2}{'b' if i % 2 else 'a'}",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("each", [12, 60])
def test_find_series_names_of_unrelated_images_are_none(name: str, each: int) -> None:
    alarms = []
    for seed in range(8):
        source = random.Random(seed)
        classes = {}
        for label in ("a", "b", "c"):
            images = objects([(str(i), 1) for i in range(each)], seed + 10 * ord(label)).values()
            classes[label] = {f"{NAMES[name](source, i)}.png": pixels for i, pixels in enumerate(images)}
        alarms.append(found_in(classes))
    assert alarms == [None] * 8


def test_correlation_matrix_equals_the_correlations_of_pairs() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 9, 7, 3), dtype=np.uint8)
    pairs = np.array([(a, b) for a in range(5) for b in range(5)])
    matrix = correlation_matrix(pixels, np.arange(5))
    np.testing.assert_allclose(matrix.reshape(-1), correlations(pixels, pairs), atol=1e-6)
