"""The comparisons: each part measures its processes and returns them with their tables."""

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
from speed_process import Measured, Row, interleave
from speed_report import Results, epoch_seconds, per_cent, ratios, remarks, spread, table, whole
from speed_rows import OURS, OURS_AUTO

SPINNERS = 2
CHOSEN = "spin for 20,000 rounds, the choice"


@dataclass(frozen=True)
class Settings:
    """What was asked for on the command line, and a temporary folder for runs and data."""

    rounds: int
    epochs: int
    threads: int
    wait: float
    limit: float
    recipe: str
    folder: Path

    def run(self, rows: list[Row]) -> Results:
        """All rows, interleaved."""
        return interleave(rows, self.rounds, self.wait, self.limit)


def epoch(settings: Settings) -> tuple[Results, str]:
    """Seconds per epoch of the article's network."""
    given = settings.folder, settings.epochs, settings.threads
    results = settings.run([*speed_rows.article(*given), *speed_rows.tuned(*given[1:])])
    rows = (
        (
            name,
            spread(map(epoch_seconds, many)),
            spread(one.first_epoch for one in many),
            spread(ratios(many, results[OURS], epoch_seconds)),
            spread(ratios(many, results[OURS_AUTO], epoch_seconds)) if OURS_AUTO in results else "-",
            spread(map(whole, many), 1),
            spread((one.peak_mib for one in many if not one.error), 0),
            spread(per_cent(one.accuracy) for one in many),
        )
        for name, many in results.items()
    )
    heads = (
        "",
        "s per epoch",
        "first epoch, s",
        "times convscope float32's",
        "times convscope auto's",
        "whole process, s",
        "peak MiB",
        "accuracy, %",
    )
    return (
        results,
        f"{settings.epochs} epochs, all on the same number of threads.\n\n{table(heads, rows)}\n\n" + remarks(results),
    )


def prompt(settings: Settings) -> tuple[Results, str]:
    """From the prompt to a model above 98 %."""
    name, words = f"convscope train mnist --recipe {settings.recipe}", "--epochs 10 --until 0.98"
    peer = f"{words} --threads {settings.threads}"
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
            spread(map(to_model, many), 1),
            spread(ratios(many, results[name], to_model)),
            spread(map(whole, many), 1),
            spread((one.peak_mib for one in many if not one.error), 0),
            spread(per_cent(one.accuracy) for one in many),
        )
        for name_, many in results.items()
    )
    heads = ("", "to the model, s", "times convscope's", "whole process, s", "peak MiB", "accuracy, %")
    said = (
        "From the start of the process: convscope and scikit-learn to its end (convscope's has the saved model, "
        "evaluation and report), Keras and PyTorch to the end of their first epoch above 98 %, nothing saved."
    )
    return results, f"{said}\n\n{table(heads, rows)}\n\n{remarks(results)}"


def to_model(one: Measured) -> float | None:
    """Seconds to the first epoch above 98 % where the program tells its validation accuracy, else to its end."""
    if one.error:
        return None
    return one.above if "seconds_per_epoch" in one.answer else one.seconds


def startup(settings: Settings) -> tuple[Results, str]:
    """Seconds until a program or an import is there. The first start of each only fills the disk's cache."""
    own, bare = speed_rows.clean(dict(os.environ), settings.threads), [sys.executable, "-c"]
    peer = {
        name: Row(
            f"import {name}",
            [str(peers.environment(name)), "-c", f"import {name}"],
            speed_rows.clean(peers.variables(name), settings.threads),
        )
        for name in ("torch", "keras")
    }
    rows = [
        Row("convscope --help", [speed_rows.CONVSCOPE, "--help"], own),
        Row("import convscope", [*bare, "import convscope"], own),
        *peer.values(),
        Row("python -c pass", [*bare, "pass"], own),
    ]
    interleave(rows, 1, 0, settings.limit)
    results = settings.run(rows)
    lines = ((name, spread(map(whole, many), 3)) for name, many in results.items())
    return results, f"{table(('', 'seconds'), lines)}\n\n{remarks(results)}"


def busy(settings: Settings) -> tuple[Results, str]:
    """The same with two other processes that never sleep; beside the equal threads, convscope as one types it."""
    epochs = min(3, settings.epochs)
    words = f"mnist --model article --recipe article --epochs {epochs}"
    typed = speed_rows.ours(
        "convscope float32, its own choice of threads", words, settings.folder, settings.threads, "float32"
    )
    rows = [*speed_rows.article(settings.folder, epochs, settings.threads), typed]
    results: Results = {}
    for _ in range(settings.rounds):  # quiet and busy take turns too
        once = replace(settings, rounds=1)
        for name, many in once.run(rows).items():
            results.setdefault(name, []).extend(many)
        with spinning(SPINNERS):
            for name, many in replace(once, wait=0).run(rows).items():
                results.setdefault(busy_name(name), []).extend(many)
    lines = (
        (
            row.name,
            spread(map(epoch_seconds, results[row.name])),
            spread(map(epoch_seconds, results[busy_name(row.name)])),
            spread(ratios(results[busy_name(row.name)], results[row.name], epoch_seconds)),
        )
        for row in rows
    )
    heads = ("", "quiet, s per epoch", f"beside {SPINNERS} busy processes", "times slower")
    quiet_only = {row.name: results[row.name] for row in rows}
    loud = [
        f"FAILED: {one.name}, busy: {one.error}" for row in rows for one in results[busy_name(row.name)] if one.error
    ]
    return results, "\n\n".join([table(heads, lines), *loud, remarks(quiet_only)])


def waiting(settings: Settings) -> tuple[Results, str]:
    """A quiet machine, and a network whose convolutions OpenMP's threads share: how long may these spin?"""
    epochs = min(5, settings.epochs)
    words = f"mnist --model small --epochs {epochs}"
    row = speed_rows.ours(CHOSEN, words, settings.folder, settings.threads)
    other = {"sleep at once": "0", "spin 10 times as long": "200000", "spin for ever": "infinite"}
    rows = [row] + [
        replace(row, name=name, variables=row.variables | {"GOMP_SPINCOUNT": count}) for name, count in other.items()
    ]
    results = settings.run(rows)
    lines = (
        (name, spread(map(epoch_seconds, many)), spread(ratios(many, results[CHOSEN], epoch_seconds)))
        for name, many in results.items()
    )
    said = f"`convscope train {words}`; GOMP_SPINCOUNT as the command sets it, and otherwise."
    return results, f"{said}\n\n{table(('', 's per epoch', 'times the chosen'), lines)}\n\n{remarks(results)}"


def busy_name(name: str) -> str:
    """Under which the numbers beside busy processes are kept."""
    return f"{name}, beside {SPINNERS} busy processes"


@contextmanager
def spinning(number: int) -> Iterator[None]:
    """So many processes that each keep one core busy."""
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def cores(settings: Settings) -> tuple[Results, str]:
    """The same on the first 1, 2 and 4 cores."""
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
        (name, *(spread(map(epoch_seconds, results[f"{name}, {number} cores"])) for number in numbers))
        for name in names
    )
    heads = ("s per epoch on", *(f"{number} core{'s' * (number > 1)}" for number in numbers))
    return results, f"{table(heads, lines)}\n\n{remarks(results)}"
