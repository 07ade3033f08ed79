"""The table of bench_pretrained.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from convscope._hardware import hardware_info
from own_images_report import interval
from speed_report import median_range, put, table

KERAS = (
    "Keras is left out: its weights for ImageNet come only by download from a server, and no package of PyPI holds "
    "those of an EfficientNet or MobileNet, as far as we found."
)


@dataclass(frozen=True)
class RawResult:
    """One measured process.

    Attributes:
        row: name of its row.
        round: from 0; its seed, too.
        limit: seconds that it was given; None if it had no limit.
        seconds: from start to end.
        cpu_seconds: processor time, child processes included.
        cores: that it could use.
        day: of the measurement.
        accuracy: on the test images, 0..1.
        n: number of test images.
        epochs: of training.
        chosen: what the program decided, in words.
        validation_accuracy: 0..1, if the program reports it.
        error: empty on success.
    """

    row: str
    round: int
    limit: int | None
    seconds: float
    cpu_seconds: float
    cores: int
    day: str
    accuracy: float = 0.0
    n: int = 0
    epochs: float = 0.0
    chosen: str = ""
    validation_accuracy: float | None = None
    error: str = ""

    @property
    def summary(self) -> str:
        """Accuracy and time."""
        return f"{interval(self.accuracy, self.n)}, {self.seconds:.1f} s, {self.cpu_seconds:.0f} s CPU, {self.chosen}"


def report(file: Path, names: list[str], results: list[RawResult]) -> None:
    """Write the table into the file and to stdout.

    Args:
        file: RESULTS.md.
        names: of the rows, in order.
        results: of all rounds.
    """
    if not results:
        raise SystemExit("nothing was measured")
    by_row = {name: [one for one in results if one.row == name] for name in names}
    days, machine = sorted({one.day for one in results}), hardware_info(threads=1)
    heads = ("images, program, limit", "runs", "seconds", "processor seconds", "test accuracy", "of all runs", "chosen")
    text = (
        "## A pretrained network on few photos\n\n"
        f"`bench_pretrained.py`, {' and '.join(days)}; {machine.processor}, {results[0].cores} cores, convscope "
        f"{machine.versions['convscope']}, torch {machine.versions['torch']}. From prompt to exit, cold cache, medians "
        "(smallest to largest) of runs that took turns, each with another seed; test accuracy of the median run with "
        "the 95 % interval of its n images. convscope leaves out photos that have two labels.\n\n"
        f"{table(heads, [cells(name, some) for name, some in by_row.items() if some])}\n\n{KERAS}"
    )  # fmt: skip
    put(file, "pretrained", text)
    print(text)


def cells(name: str, some: list[RawResult]) -> tuple[object, ...]:
    """Return the cells of a row."""
    middle = sorted(some, key=lambda one: one.accuracy)[(len(some) - 1) // 2]
    spread = median_range((100 * one.accuracy for one in some), 1)
    return (
        name,
        len(some),
        median_range((one.seconds for one in some), 1),
        f"{median(one.cpu_seconds for one in some):.0f}",
        interval(middle.accuracy, middle.n),
        spread,
        middle.chosen,
    )
