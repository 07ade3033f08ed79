"""The parts of bench_speed.py: each measures its processes, and returns the measurements and their table."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import peers
import speed_rows
from speed_process import Measurement, Row, interleave
from speed_report import Results, epoch_seconds, median_range, percent, ratios, remarks, table, whole
from speed_rows import OURS, OURS_AUTO

BUSY_PROCESSES = 2
DEFAULT_SPIN = "spin for 20,000 rounds (convscope's setting)"


@dataclass(frozen=True)
class Settings:
    """The options of the command line, and a temporary folder for runs and data."""

    rounds: int
    epochs: int
    threads: int
    wait: float
    limit: float
    recipe: str
    folder: Path

    def run(self, rows: list[Row]) -> Results:
        """Measure all rows, interleaved."""
        return interleave(rows, self.rounds, self.wait, self.limit)


def epoch(settings: Settings) -> tuple[Results, str]:
    """Measure seconds per epoch of the article's network."""
    arguments = settings.folder, settings.epochs, settings.threads
    results = settings.run([*speed_rows.article(*arguments), *speed_rows.tuned(*arguments[1:])])
    rows = (
        (
            name,
            median_range(map(epoch_seconds, many)),
            median_range(one.first_epoch for one in many),
            median_range(ratios(many, results[OURS], epoch_seconds)),
            median_range(ratios(many, results[OURS_AUTO], epoch_seconds)) if OURS_AUTO in results else "-",
            median_range(map(whole, many), 1),
            median_range((one.peak_mib for one in many if not one.error), 0),
            median_range(percent(one.accuracy) for one in many),
        )
        for name, many in results.items()
    )
    heads = (
        "",
        "s per epoch",
        "first epoch, s",
        "times convscope float32",
        "times convscope auto",
        "whole process, s",
        "peak MiB",
        "accuracy, %",
    )
    return (
        results,
        f"{settings.epochs} epochs, all on the same number of threads.\n\n{table(heads, rows)}\n\n" + remarks(results),
    )


def prompt(settings: Settings) -> tuple[Results, str]:
    """Measure seconds from the prompt to a model above 98 %."""
    name = f"convscope train mnist --recipe {settings.recipe}"
    peer = f"--epochs 10 --until 0.98 --threads {settings.threads}"
    allocator = next(iter(speed_rows.allocators()), "")
    sklearn = peers.command("sklearn", "sklearn_article.py")
    results = settings.run(
        [
            speed_rows.ours(name, f"mnist --recipe {settings.recipe}", settings.folder, settings.threads),
            speed_rows.keras("Keras + TensorFlow, to above 98 %", peer, settings.threads),
            speed_rows.torch("PyTorch eager, to above 98 %", peer, settings.threads),
            speed_rows.torch(
                "PyTorch tuned, to above 98 %", f"{peer} --channels-last --fused", settings.threads, allocator
            ),
            Row("scikit-learn MLP, 10 epochs", sklearn, speed_rows.clean(peers.variables("sklearn"), settings.threads)),
        ]
    )
    rows = (
        (
            name_,
            median_range(map(to_model, many), 1),
            median_range(ratios(many, results[name], to_model)),
            median_range(map(whole, many), 1),
            median_range((one.peak_mib for one in many if not one.error), 0),
            median_range(percent(one.accuracy) for one in many),
        )
        for name_, many in results.items()
    )
    heads = ("", "to the model, s", "times convscope", "whole process, s", "peak MiB", "accuracy, %")
    note = (
        "Seconds from the start of the process: for convscope and scikit-learn to its end (convscope has then saved "
        "model, evaluation and report), for Keras and PyTorch to the end of the first epoch above 98 %, nothing saved."
    )
    return results, f"{note}\n\n{table(heads, rows)}\n\n{remarks(results)}"


def to_model(one: Measurement) -> float | None:
    """Return seconds to the first epoch above 98 % if the program prints validation accuracies, else to its end."""
    if one.error:
        return None
    return one.above if "seconds_per_epoch" in one.answer else one.seconds


def startup(settings: Settings) -> tuple[Results, str]:
    """Measure the start of a program or an import; an extra first start of each fills the disk cache."""
    variables, python = speed_rows.clean(dict(os.environ), settings.threads), [sys.executable, "-c"]
    peer = {
        name: Row(
            f"import {name}",
            [str(peers.environment(name)), "-c", f"import {name}"],
            speed_rows.clean(peers.variables(name), settings.threads),
        )
        for name in ("torch", "keras")
    }
    rows = [
        Row("convscope --help", [speed_rows.CONVSCOPE, "--help"], variables),
        Row("import convscope", [*python, "import convscope"], variables),
        *peer.values(),
        Row("python -c pass", [*python, "pass"], variables),
    ]
    interleave(rows, 1, 0, settings.limit)
    results = settings.run(rows)
    lines = ((name, median_range(map(whole, many), 3)) for name, many in results.items())
    return results, f"{table(('', 'seconds'), lines)}\n\n{remarks(results)}"


def busy(settings: Settings) -> tuple[Results, str]:
    """Measure epochs next to busy processes; one row runs convscope without --threads."""
    epochs = min(3, settings.epochs)
    arguments = f"mnist --model article --recipe article --epochs {epochs}"
    default = speed_rows.ours(
        "convscope float32, default threads", arguments, settings.folder, settings.threads, "float32"
    )
    rows = [*speed_rows.article(settings.folder, epochs, settings.threads), default]
    results: Results = {}
    for _ in range(settings.rounds):  # quiet and busy alternate too
        once = replace(settings, rounds=1)
        for name, many in once.run(rows).items():
            results.setdefault(name, []).extend(many)
        with busy_processes(BUSY_PROCESSES):
            for name, many in replace(once, wait=0).run(rows).items():
                results.setdefault(busy_name(name), []).extend(many)
    lines = (
        (
            row.name,
            median_range(map(epoch_seconds, results[row.name])),
            median_range(map(epoch_seconds, results[busy_name(row.name)])),
            median_range(ratios(results[busy_name(row.name)], results[row.name], epoch_seconds)),
        )
        for row in rows
    )
    heads = ("", "quiet, s per epoch", f"next to {BUSY_PROCESSES} busy processes", "times slower")
    quiet_only = {row.name: results[row.name] for row in rows}
    loud = [
        f"FAILED: {one.name}, busy: {one.error}" for row in rows for one in results[busy_name(row.name)] if one.error
    ]
    return results, "\n\n".join([table(heads, lines), *loud, remarks(quiet_only)])


def waiting(settings: Settings) -> tuple[Results, str]:
    """Measure how long OpenMP's threads should spin, on a network whose convolutions run in torch."""
    epochs = min(5, settings.epochs)
    arguments = f"mnist --model small --epochs {epochs}"
    row = speed_rows.ours(DEFAULT_SPIN, arguments, settings.folder, settings.threads)
    other = {"sleep at once": "0", "spin 10 times as long": "200000", "spin forever": "infinite"}
    rows = [row] + [
        replace(row, name=name, variables=row.variables | {"GOMP_SPINCOUNT": count}) for name, count in other.items()
    ]
    results = settings.run(rows)
    lines = (
        (name, median_range(map(epoch_seconds, many)), median_range(ratios(many, results[DEFAULT_SPIN], epoch_seconds)))
        for name, many in results.items()
    )
    note = f"`convscope train {arguments}` with several values of GOMP_SPINCOUNT."
    return results, f"{note}\n\n{table(('', 's per epoch', 'times the default'), lines)}\n\n{remarks(results)}"


def busy_name(name: str) -> str:
    """Return the name under which the measurements next to busy processes are kept."""
    return f"{name}, next to {BUSY_PROCESSES} busy processes"


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Run that number of processes, each of which keeps one core busy."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def cores(settings: Settings) -> tuple[Results, str]:
    """Measure seconds per epoch on the first 1, 2 and 4 cores."""
    numbers = [number for number in (1, 2, 4) if number <= settings.threads]
    epochs = min(3, settings.epochs)
    rows = [
        replace(row, name=f"{row.name}, {number} cores", cores=number)
        for number in numbers
        for row in speed_rows.article(settings.folder, epochs, number)
    ]
    results = settings.run(rows)
    names = [row.name for row in speed_rows.article(settings.folder, epochs, 1)]
    lines = (
        (name, *(median_range(map(epoch_seconds, results[f"{name}, {number} cores"])) for number in numbers))
        for name in names
    )
    heads = ("s per epoch on", *(f"{number} core{'s' * (number > 1)}" for number in numbers))
    return results, f"{table(heads, lines)}\n\n{remarks(results)}"
