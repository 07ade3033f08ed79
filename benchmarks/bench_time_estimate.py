"""How accurate is the training time that `convscope models` estimates?

    bench_time_estimate.py [--data mnist] [--threads N]

For every preset it takes the estimate, then trains with the recipe `default`. Prints a Markdown table. Exit code 5: an
estimate is more than 25 % off.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from convscope.api.models import model_cost
from convscope.api.train import train_model
from convscope.network.presets import PRESETS

MAX_ERROR = 0.25


def main() -> int:
    """Measure every preset, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    rows, worst, machine = [], 0.0, ""
    for name in PRESETS:
        cost = model_cost(name, options.data, threads=options.threads).training
        assert cost is not None
        with tempfile.TemporaryDirectory() as folder:
            run = train_model(options.data, name, threads=options.threads, run=Path(folder, name))
        estimate, measured = cost.time.training_seconds, run.manifest.train_seconds
        error = estimate / measured - 1
        worst, machine = max(worst, abs(error)), run.config.machine.summary
        rows.append(f"| {name} | {estimate:.1f} | {measured:.1f} | {100 * error:+.0f} % |")
        print(rows[-1], file=sys.stderr)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {options.data}, recipe default, {machine}\n")
    print("| network | estimate, s | training, s | error |", "|---|---|---|---|", *rows, sep="\n")
    return 0 if worst <= MAX_ERROR else 5


if __name__ == "__main__":
    sys.exit(main())
