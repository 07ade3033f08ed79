"""Test accuracy of the article's network and training over several seeds, from convscope's command line.

    bench_article_seeds.py [--seeds 10] [--keras] > article_seeds.md

Prints a Markdown table: mean, standard deviation, minimum, n and Student's t 95 % interval of the mean. `--keras` adds
the same number of seeds of Keras. Exit code 5: a seed of convscope is not above 98 %.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import mean, stdev

import torch
from scipy.stats import t

import peers
from convscope._hardware import hardware_info

MIN_ACCURACY = 0.98
Run = dict[str, float]


def convscope_run(folder: Path, seed: int) -> Run:
    """Train with preset and recipe `article`, and return `accuracy`, `loss` and `seconds`."""
    arguments = f"train mnist --model article --recipe article --seed {seed} --json --run".split()
    command = [Path(sys.executable).with_name("convscope"), *arguments, folder / f"seed-{seed}"]
    answer = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return {
        "accuracy": answer["evaluation"]["accuracy"],
        "loss": answer["evaluation"]["loss"],
        "seconds": answer["train_seconds"],
    }


def keras_run(seed: int) -> Run:
    """Train in Keras, and return the same; `seconds` are those of all epochs, validation included."""
    answer = json.loads(peers.run("keras", "keras_article.py", "--seed", str(seed)))
    return {"accuracy": answer["accuracy"], "loss": answer["loss"], "seconds": sum(answer["seconds_per_epoch"])}


def all_seeds(name: str, run: Callable[[int], Run], seeds: int) -> list[Run]:
    """Run one seed after the other; a line on stderr reports each."""
    runs = []
    for seed in range(seeds):
        runs.append(run(seed))
        print(f"{name}, seed {seed}: {runs[-1]}", file=sys.stderr)
    return runs


def interval(values: list[float]) -> tuple[float, float]:
    """Return Student's t 95 % interval of the mean of two or more values."""
    half_width = t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return mean(values) - half_width, mean(values) + half_width


def row(name: str, runs: list[Run]) -> str:
    """Return one row of the table, accuracies in percent."""
    accuracies = [100 * run["accuracy"] for run in runs]
    low, high = interval(accuracies)
    loss, seconds = (mean(run[key] for run in runs) for key in ("loss", "seconds"))
    return (
        f"| {name} | {mean(accuracies):.3f} | {stdev(accuracies):.3f} | {low:.3f} to {high:.3f} | "
        f"{min(accuracies):.2f} | {len(runs)} | {loss:.4f} | {seconds:.1f} |"
    )


def report(results: dict[str, list[Run]]) -> str:
    """Return the Markdown table, followed by the accuracy of every seed."""
    lines = [
        "| | test accuracy, mean % | sd | 95 % interval of the mean | lowest | n seeds | test loss | seconds per run |",
        "|---|---|---|---|---|---|---|---|",
        *(row(name, runs) for name, runs in results.items()),
        "",
    ]
    for name, runs in results.items():
        accuracies = ", ".join(f"{100 * run['accuracy']:.2f}" for run in runs)
        lines.append(f"{name}, seeds 0 to {len(runs) - 1}: {accuracies}")
    return "\n".join(lines)


def main() -> int:
    """Measure, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="2 or more")
    parser.add_argument("--keras", action="store_true", help="measure Keras too")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds must be 2 or more: one run has no standard deviation")
    machine = hardware_info(torch.get_num_threads())
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine.summary}, {machine.system}, Python {machine.python}, ", end="")
    print(f"convscope {machine.versions['convscope']}, torch {machine.versions['torch']}\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        runs = all_seeds("convscope", partial(convscope_run, Path(folder)), options.seeds)
    results = {"convscope": runs}
    if options.keras:
        results["Keras"] = all_seeds("Keras", keras_run, options.seeds)
    print(report(results))
    return 0 if all(run["accuracy"] > MIN_ACCURACY for run in runs) else 5


if __name__ == "__main__":
    sys.exit(main())
