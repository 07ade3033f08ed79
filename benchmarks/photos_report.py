"""The tables and the picture of bench_photos.py."""

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
class Trained:
    """One process: which, what it reached on n pictures, and in how many seconds from its start to its end.

    The validation accuracy is that of the last epoch.
    """

    program: str
    pictures: str
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
        """A trial of a peer's options."""
        return self.options.endswith("--validate")

    @property
    def by_hand(self) -> bool:
        """convscope with an input size or a recipe that it would otherwise choose."""
        return self.program == "convscope" and "--" in self.options

    @property
    def compared(self) -> bool:
        """One of the programs as they are, on the test pictures."""
        return not self.on_validation and not self.by_hand


def interval(accuracy: float, n: int) -> str:
    """In per cent, with its 95 % interval."""
    low, high = wilson(round(accuracy * n), n)
    return f"{100 * accuracy:.1f} % ({100 * low:.1f} to {100 * high:.1f}, n = {n:,})"


def accuracy(one: Trained) -> str:
    """The same of one training."""
    return interval(one.accuracy, one.n)


def report(file: Path, everything: list[Trained]) -> None:
    """The tables and the picture, into the file and onto stdout."""
    tested = [one for one in everything if one.compared]
    places = dict.fromkeys((one.pictures, one.minutes) for one in tested)
    found = {(one.pictures, one.minutes, one.program): one for one in tested}
    rows = [
        (pictures, f"{minutes:g}", *(cell(found.get((pictures, minutes, program))) for program in PROGRAMS))
        for pictures, minutes in sorted(places)
    ]
    peers = "PyTorch, residual network", "Keras, its tutorial's network (meant for 25 epochs)"
    heads = ("pictures", "minutes", "convscope --budget", *peers)
    days = sorted({one.day for one in everything})
    text = (
        f"## Own pictures, in so many minutes\n\n`bench_photos.py`, {' and '.join(days)}; test accuracy with its 95 % "
        "interval, one training each; the whole process, decoding and results included, in seconds; how many times it "
        f"saw the training pictures.\n\n{table(heads, rows)}\n\n{tuning(everything)}{by_hand(everything)}"
        f"{sizes(file, everything)}The machine: {machine(len(os.sched_getaffinity(0)))}."
    )
    put(file, "airbench", text)
    print(text)


def cell(one: Trained | None) -> str:
    """One program's result."""
    if one is None:
        return "-"
    options = f", {one.options.replace('--', '')}" if one.options else ""
    return f"{accuracy(one)}; {one.seconds:.1f} s, {one.cores} cores, {one.epochs:.1f} epochs{options}"


def tuning(everything: list[Trained]) -> str:
    """What was tried for PyTorch's network."""
    tried = [one for one in everything if one.on_validation]
    if not tried:
        return ""
    heads = ("pictures", "minutes", "cores", "options of torch_residual.py", "validation accuracy")
    rows = [
        (one.pictures, f"{one.minutes:g}", one.cores, one.options.removesuffix(" --validate"), accuracy(one))
        for one in sorted(tried, key=lambda one: (one.pictures, one.minutes))
    ]
    return f"Its options were chosen on the validation pictures:\n\n{table(heads, rows)}\n\n"


def by_hand(everything: list[Trained]) -> str:
    """What the choices of --budget are worth."""
    some = [one for one in everything if one.by_hand and "--size" not in one.options]
    if not some:
        return ""
    places = {(one.pictures, one.minutes) for one in some}
    chosen = [one for one in everything if one.program == "convscope" and one.compared]
    rows = [
        (
            one.pictures,
            f"{one.minutes:g}",
            one.options,
            "-" if one.validation_accuracy is None else f"{100 * one.validation_accuracy:.1f} %",
            accuracy(one),
            f"{one.seconds:.1f} s, {one.cores} cores, {one.epochs:.1f} epochs",
        )
        for one in sorted(chosen + some, key=lambda one: (one.pictures, one.minutes, one.by_hand))
        if (one.pictures, one.minutes) in places
    ]
    heads = ("pictures", "minutes", "network, size, options", "validation accuracy", "test accuracy", "took")
    return f"convscope with options chosen by hand, below what `--budget` chooses:\n\n{table(heads, rows)}\n\n"


def sizes(file: Path, everything: list[Trained]) -> str:
    """Accuracy against input size, as a table and as a picture."""
    found = [one for one in everything if one.by_hand and "--size" in one.options]
    if not found:
        return ""
    draw(file.parent / "input_size.png", found)
    heads = ("pictures", *(f"{size}x{size}" for size in SIZES))
    by_place = {(one.pictures, side(one)): one for one in found}
    names = dict.fromkeys(one.pictures for one in found)
    rows = [(name, *(share(by_place.get((name, size))) for size in SIZES)) for name in names]
    return (
        "What is lost by making pictures smaller (convscope, 1 minute each, test accuracy):\n\n"
        f"{table(heads, rows)}\n\n![accuracy against input size](input_size.png)\n\n"
    )


def share(one: Trained | None) -> str:
    """The accuracy alone."""
    return "-" if one is None else f"{100 * one.accuracy:.1f} %"


def side(one: Trained) -> int:
    """The input size that was asked for."""
    return int(one.options.split("--size")[1])


def draw(file: Path, found: Iterable[Trained]) -> None:
    """Accuracy with its interval over the input's side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(one.pictures for one in found):
        some = sorted((one for one in found if one.pictures == name), key=side)
        shares = [100 * one.accuracy for one in some]
        bounds = [wilson(round(one.accuracy * one.n), one.n) for one in some]
        errors = [
            [value - 100 * low for value, (low, _) in zip(shares, bounds, strict=True)],
            [100 * high - value for value, (_, high) in zip(shares, bounds, strict=True)],
        ]
        axes.errorbar([side(one) for one in some], shares, errors, marker="o", capsize=3, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(SIZES, [str(size) for size in SIZES])
    axes.minorticks_off()
    axes.set_xlabel("side of the input, pixels")
    axes.set_ylabel("test accuracy, %")
    axes.set_title("Accuracy after one minute, by the size that pictures are reduced to", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=120)
