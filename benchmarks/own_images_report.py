"""The tables and the chart of bench_own_images.py."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from convscope._statistics import wilson
from speed_report import machine, put, table

PROGRAMS = ("convscope", "torch", "keras")
SIZES = (16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True)
class TrainingResult:
    """One training process: its accuracy on n images, and its seconds from start to end.

    validation_accuracy: of the last epoch.
    """

    program: str
    data: str
    minutes: float
    options: str
    accuracy: float
    n: int
    epochs: float
    seconds: float
    cores: int
    day: str
    validation_accuracy: float | None = None

    @property
    def on_validation(self) -> bool:
        """Whether it tried options of a peer, on the validation images."""
        return self.options.endswith("--validate")

    @property
    def by_hand(self) -> bool:
        """Whether convscope ran with options that it otherwise chooses itself."""
        return self.program == "convscope" and "--" in self.options

    @property
    def compared(self) -> bool:
        """Whether it belongs to the comparison of the programs on the test images."""
        return not self.on_validation and not self.by_hand


def interval(accuracy: float, n: int) -> str:
    """Return the accuracy in percent with its 95 % interval."""
    low, high = wilson(round(accuracy * n), n)
    return f"{100 * accuracy:.1f} % ({100 * low:.1f} to {100 * high:.1f}, n = {n:,})"


def accuracy(one: TrainingResult) -> str:
    """Return a training's accuracy with its interval."""
    return interval(one.accuracy, one.n)


def report(file: Path, results: list[TrainingResult]) -> None:
    """Write the tables and the chart into the file and to stdout."""
    tested = [one for one in results if one.compared]
    comparisons = dict.fromkeys((one.data, one.minutes) for one in tested)
    by_program = {(one.data, one.minutes, one.program): one for one in tested}
    rows = [
        (data, f"{minutes:g}", *(cell(by_program.get((data, minutes, program))) for program in PROGRAMS))
        for data, minutes in sorted(comparisons)
    ]
    peers = "PyTorch, residual network", "Keras, network of its tutorial (meant for 25 epochs)"
    heads = ("images", "minutes", "convscope --budget", *peers)
    days = sorted({one.day for one in results})
    text = (
        f"## Your own images, within a few minutes\n\n`bench_own_images.py`, {' and '.join(days)}. Test accuracy with "
        "its 95 % interval, one training each; seconds of the whole process, decoding and results included; passes "
        f"over the training images.\n\n{table(heads, rows)}\n\n{tuning(results)}{by_hand(results)}"
        f"{sizes(file, results)}Machine: {machine(len(os.sched_getaffinity(0)))}."
    )
    put(file, "own-images", text)
    print(text)


def cell(one: TrainingResult | None) -> str:
    """Return the cell of one training."""
    if one is None:
        return "-"
    options = f", {one.options.replace('--', '')}" if one.options else ""
    return f"{accuracy(one)}; {one.seconds:.1f} s, {one.cores} cores, {one.epochs:.1f} epochs{options}"


def tuning(results: list[TrainingResult]) -> str:
    """Return the table of the options that were tried for PyTorch's network."""
    tried = [one for one in results if one.on_validation]
    if not tried:
        return ""
    heads = ("images", "minutes", "cores", "options of torch_residual.py", "validation accuracy")
    rows = [
        (one.data, f"{one.minutes:g}", one.cores, one.options.removesuffix(" --validate"), accuracy(one))
        for one in sorted(tried, key=lambda one: (one.data, one.minutes))
    ]
    return f"PyTorch's options were chosen on the validation images:\n\n{table(heads, rows)}\n\n"


def by_hand(results: list[TrainingResult]) -> str:
    """Return the table that compares the choices of --budget with others."""
    some = [one for one in results if one.by_hand and "--image-size" not in one.options]
    if not some:
        return ""
    comparisons = {(one.data, one.minutes) for one in some}
    chosen = [one for one in results if one.program == "convscope" and one.compared]
    rows = [
        (
            one.data,
            f"{one.minutes:g}",
            one.options,
            "-" if one.validation_accuracy is None else f"{100 * one.validation_accuracy:.1f} %",
            accuracy(one),
            f"{one.seconds:.1f} s, {one.cores} cores, {one.epochs:.1f} epochs",
        )
        for one in sorted(chosen + some, key=lambda one: (one.data, one.minutes, one.by_hand))
        if (one.data, one.minutes) in comparisons
    ]
    heads = ("images", "minutes", "network, size, options", "validation accuracy", "test accuracy", "time")
    return f"convscope as `--budget` chooses, followed by options chosen by hand:\n\n{table(heads, rows)}\n\n"


def sizes(file: Path, results: list[TrainingResult]) -> str:
    """Return the table of accuracy by input size, and draw its chart."""
    some = [one for one in results if one.by_hand and "--image-size" in one.options]
    if not some:
        return ""
    draw(file.parent / "input_size.png", some)
    heads = ("images", *(f"{size}x{size}" for size in SIZES))
    by_size = {(one.data, side(one)): one for one in some}
    names = dict.fromkeys(one.data for one in some)
    rows = [(name, *(percent(by_size.get((name, size))) for size in SIZES)) for name in names]
    return (
        "Accuracy by input size (convscope, 1 minute each, test accuracy):\n\n"
        f"{table(heads, rows)}\n\n![accuracy by input size](input_size.png)\n\n"
    )


def percent(one: TrainingResult | None) -> str:
    """Return the accuracy without its interval."""
    return "-" if one is None else f"{100 * one.accuracy:.1f} %"


def side(one: TrainingResult) -> int:
    """Return the input size that was asked for, in pixels."""
    return int(one.options.split("--image-size")[1])


def draw(file: Path, results: Iterable[TrainingResult]) -> None:
    """Draw accuracy with its interval over the side of the input."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(one.data for one in results):
        some = sorted((one for one in results if one.data == name), key=side)
        accuracies = [100 * one.accuracy for one in some]
        bounds = [wilson(round(one.accuracy * one.n), one.n) for one in some]
        errors = [
            [value - 100 * low for value, (low, _) in zip(accuracies, bounds, strict=True)],
            [100 * high - value for value, (_, high) in zip(accuracies, bounds, strict=True)],
        ]
        axes.errorbar([side(one) for one in some], accuracies, errors, marker="o", capsize=3, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(SIZES, [str(size) for size in SIZES])
    axes.minorticks_off()
    axes.set_xlabel("side of the input, pixels")
    axes.set_ylabel("test accuracy, %")
    axes.set_title("Accuracy after one minute, by input size", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=120)
