"""What an epoch of convscope costs against image size, number of filters and number of images."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import peers
import speed_rows
from speed_parts import Settings
from speed_process import Row
from speed_report import Results, convscope_json, epoch_seconds, remarks, spread, table

SIZE, FILTERS, IMAGES = 28, 32, 10_000
SIZES, FILTER_NUMBERS, IMAGE_NUMBERS = (28, 56, 112), (8, 16, 32, 64, 128), (1_000, 10_000, 60_000)


@dataclass(frozen=True)
class Point:
    """One network on one data set, both the article's but for one number."""

    size: int = SIZE
    filters: int = FILTERS
    images: int = IMAGES

    @property
    def name(self) -> str:
        return f"{self.size}x{self.size}, {self.filters} filters, {self.images:,} images"

    @property
    def line(self) -> str:
        return f"conv {self.filters} 3, relu, maxpool 2, flatten, dense 100, relu"


def points() -> list[Point]:
    """One number changed at a time; the middle point stands once."""
    changed = [
        *(Point(size=size) for size in SIZES),
        *(Point(filters=filters) for filters in FILTER_NUMBERS),
        *(Point(images=images) for images in IMAGE_NUMBERS),
    ]
    return list(dict.fromkeys(changed))


def scaling(settings: Settings) -> tuple[Results, str]:
    """Seconds per epoch, and per multiply-add: three for each forward one in training, one in validation."""
    work, rows = {}, []
    for point in points():
        file = settings.folder / f"{point.size}-{point.images}.npz"
        if not file.exists():
            words = [sys.executable, str(peers.HERE / "speed_data.py"), str(point.size), str(point.images), str(file)]
            subprocess.run(words, check=True)
        work[point.name] = multiply_adds(point, str(file))
        rows.append(row(point, str(file), settings))
    results = settings.run(rows)
    lines = (
        (
            name,
            f"{work[name] / 1e9:.2f}",
            spread(map(epoch_seconds, many), 3),
            spread((per_billion(epoch_seconds(one), work[name]) for one in many), 2),
        )
        for name, many in results.items()
    )
    heads = ("", "billion multiply-adds per epoch", "s per epoch", "ms per billion multiply-adds")
    return results, f"convscope float32, recipe article.\n\n{table(heads, lines)}\n\n{remarks(results)}"


def multiply_adds(point: Point, file: str) -> int:
    """Work of one epoch: training, and validation on the test images."""
    cost = convscope_json("models", point.line, "--data", file, "--recipe", "article")
    return int(cost["epoch"]["multiply_adds"]) + max(10, point.images // 6) * int(cost["image"]["multiply_adds"])


def row(point: Point, file: str, settings: Settings) -> Row:
    """The training of one point."""
    made = speed_rows.ours(
        point.name,
        f"{file} --recipe article --epochs {max(2, min(4, settings.epochs))} --threads {settings.threads}",
        settings.folder,
        settings.threads,
        "float32",
    )
    return Row(made.name, [*made.command, "--model", point.line], made.variables)


def per_billion(seconds: float | None, work: int) -> float | None:
    """Milliseconds for 1e9 multiply-adds."""
    return None if seconds is None else 1e12 * seconds / work
