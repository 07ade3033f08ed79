"""Cost of an epoch of convscope by image size, number of filters and number of images."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import peers
import speed_rows
from speed_parts import Settings
from speed_process import Row
from speed_report import Results, convscope_json, epoch_seconds, median_range, remarks, table

SIZE, FILTERS, IMAGES = 28, 32, 10_000
SIZES, FILTER_NUMBERS, IMAGE_NUMBERS = (28, 56, 112), (8, 16, 32, 64, 128), (1_000, 10_000, 60_000)


@dataclass(frozen=True)
class Point:
    """A network and a data set; by default the article's network on 10,000 images."""

    size: int = SIZE
    filters: int = FILTERS
    images: int = IMAGES

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.size}x{self.size}, {self.filters} filters, {self.images:,} images"

    @property
    def architecture(self) -> str:
        """As `--model` takes it."""
        return f"conv {self.filters} 3, relu, maxpool 2, flatten, dense 100, relu"


def points() -> list[Point]:
    """Return the points: one number changes at a time, and the middle point appears once."""
    changed = [
        *(Point(size=size) for size in SIZES),
        *(Point(filters=filters) for filters in FILTER_NUMBERS),
        *(Point(images=images) for images in IMAGE_NUMBERS),
    ]
    return list(dict.fromkeys(changed))


def scaling(settings: Settings) -> tuple[Results, str]:
    """Measure seconds per epoch and per multiply-add: training counts three per forward one, validation one."""
    work, rows = {}, []
    for point in points():
        file = settings.folder / f"{point.size}-{point.images}.npz"
        if not file.exists():
            command = [sys.executable, str(peers.HERE / "speed_data.py"), str(point.size), str(point.images), str(file)]
            subprocess.run(command, check=True)
        work[point.name] = multiply_adds(point, str(file))
        rows.append(row(point, str(file), settings))
    results = settings.run(rows)
    lines = (
        (
            name,
            f"{work[name] / 1e9:.2f}",
            median_range(map(epoch_seconds, many), 3),
            median_range((per_billion(epoch_seconds(one), work[name]) for one in many), 2),
        )
        for name, many in results.items()
    )
    heads = ("", "billion multiply-adds per epoch", "s per epoch", "ms per billion multiply-adds")
    return results, f"convscope float32, recipe article.\n\n{table(heads, lines)}\n\n{remarks(results)}"


def multiply_adds(point: Point, file: str) -> int:
    """Return the multiply-adds of one epoch: training, and validation on the test images."""
    cost = convscope_json("models", point.architecture, "--data", file, "--recipe", "article")
    return int(cost["epoch"]["multiply_adds"]) + max(10, point.images // 6) * int(cost["image"]["multiply_adds"])


def row(point: Point, file: str, settings: Settings) -> Row:
    """Return the row that trains one point."""
    base = speed_rows.ours(
        point.name,
        f"{file} --recipe article --epochs {max(2, min(4, settings.epochs))} --threads {settings.threads}",
        settings.folder,
        settings.threads,
        "float32",
    )
    return Row(base.name, [*base.command, "--model", point.architecture], base.variables)


def per_billion(seconds: float | None, work: int) -> float | None:
    """Return milliseconds per 1e9 multiply-adds."""
    return None if seconds is None else 1e12 * seconds / work
