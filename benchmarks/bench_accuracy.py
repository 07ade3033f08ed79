"""Time to accuracy: what `convscope train` reaches over several seeds, and after how many seconds of training.

    bench_accuracy.py [--rows mnist-fast ...] [--seeds 5] [--keep FOLDER] [--into RESULTS.md]

Accuracy is that of the last epoch's weights with one forward pass per image; nothing is selected on the test set. A
column of its own shows test-time augmentation. The table goes into RESULTS.md. Runs are written to FOLDER/ROW-SEED, and
runs that exist already are not trained again. Exit code 5: a mean misses its target, or a training its time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from convscope import Run, open_run
from peers import HERE
from speed_report import median_range, put, table
from speed_rows import CONVSCOPE


@dataclass(frozen=True)
class Row:
    """A command, and its targets: mean accuracy (0: none) and seconds of training (0: no limit)."""

    arguments: str
    accuracy: float
    seconds: float = 0
    tta: bool = False  # whether the target is for test-time augmentation


ROWS = {
    "mnist-fast": Row("mnist --recipe fast", 0.99, 5),
    "mnist-best-3": Row("mnist --recipe best --epochs 3", 0.995, 60),
    "mnist-best": Row("mnist --recipe best", 0.997, 600),
    "mnist-tiny": Row("mnist --recipe fast --model tiny --epochs 16", 0.994),
    "fashion-best": Row("fashion-mnist --recipe best", 0.94, 900),
    "cifar10-fast": Row("cifar10 --recipe fast", 0.0),
    "cifar10-best": Row("cifar10 --recipe best", 0.94, 360, tta=True),
}


def main() -> int:
    """Train the missing runs, report all, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="folder for the runs; by default a temporary one")
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        runs = {name: train_seeds(name, options.keep or Path(temporary), options.seeds) for name in options.rows}
        report(options.into, runs)
        return 0 if all(is_reached(ROWS[name], many) for name, many in runs.items()) else 5


def train_seeds(name: str, folder: Path, seeds: int) -> list[Run]:
    """Return the runs of seeds 1, 2, ...; a line on stderr reports each."""
    runs = []
    for seed in range(1, seeds + 1):
        path = folder / f"{name}-{seed}"
        if not (path / "evaluation.json").exists():
            subprocess.run(
                [CONVSCOPE, "train", *ROWS[name].arguments.split(), "--seed", str(seed), "--run", path], check=True
            )
        runs.append(open_run(path))
        print(f"{path.name}: {accuracy_of(runs[-1]):.4f}, {runs[-1].manifest.train_seconds:.1f} s", file=sys.stderr)
    return runs


def accuracy_of(run: Run) -> float:
    """Return the accuracy with one forward pass per image."""
    assert run.evaluation is not None
    return run.evaluation.accuracy


def tta_accuracy(run: Run) -> float | None:
    """Return the accuracy with test-time augmentation, if it was measured."""
    assert run.evaluation is not None
    return run.evaluation.tta and run.evaluation.tta.accuracy


def is_reached(row: Row, runs: list[Run]) -> bool:
    """Return whether the mean reaches its target, and every training its time."""
    accuracies = [tta_accuracy(run) if row.tta else accuracy_of(run) for run in runs]
    in_time = not row.seconds or all(run.manifest.train_seconds <= row.seconds for run in runs)
    return in_time and mean(accuracy or 0.0 for accuracy in accuracies) >= row.accuracy


def report(file: Path, runs: dict[str, list[Run]]) -> None:
    """Write the table to stdout and into RESULTS.md."""
    heads = (
        "convscope train ...",
        "target",
        "mean",
        "by seed",
        "with test-time augmentation",
        "training, s",
        "reached",
    )
    rows = [
        (
            f"`{ROWS[name].arguments}`",
            target_text(ROWS[name]),
            mean_text([accuracy_of(run) for run in many]),
            " ".join(f"{100 * accuracy_of(run):.2f}" for run in many),
            mean_text([accuracy for run in many if (accuracy := tta_accuracy(run)) is not None]),
            median_range((run.manifest.train_seconds for run in many), 1),
            "-" if not ROWS[name].accuracy else "yes" if is_reached(ROWS[name], many) else "NO",
        )
        for name, many in runs.items()
    ]
    configs = [run.config for many in runs.values() for run in many]
    machines = {(c.machine.processor, c.machine.threads, c.machine.cores, c.machine.versions["torch"]) for c in configs}
    hardware = "; ".join(
        f"{name}, {used} of {cores} cores, torch {torch}" for name, used, cores, torch in sorted(machines)
    )
    days = sorted({f"{config.created:%Y-%m-%d}" for config in configs})
    text = (
        f"## Time to accuracy\n\n`bench_accuracy.py`, {' and '.join(days)}; 10,000 test images; seeds 1, 2, ...; one "
        "forward pass per image except in the column for test-time augmentation; training: median (min to max).\n\n"
        f"{table(heads, rows)}\n\nMeasured on {hardware}, in {' or '.join(sorted({c.precision for c in configs}))}."
    )
    put(file, "accuracy", text)
    print(text)


def target_text(row: Row) -> str:
    """Return the row's target, for example "99.0 % in 5 s"."""
    if not row.accuracy:
        return "-"
    how = " with augmentation" if row.tta else ""
    return f"{100 * row.accuracy:.1f} %{how}" + (f" in {row.seconds:.0f} s" if row.seconds else "")


def mean_text(accuracies: list[float]) -> str:
    """Return mean in percent and n, or a dash."""
    return f"{100 * mean(accuracies):.2f} % (n = {len(accuracies)})" if accuracies else "-"


if __name__ == "__main__":
    sys.exit(main())
