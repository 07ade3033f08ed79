"""How fast is convscope compared with Keras 3 + TensorFlow and PyTorch, on the article's network?

    bench_speed.py [epoch] [prompt] [startup] [busy] [waiting] [cores] [scaling] [--rounds 5]

Without names it measures all parts. Each part writes its raw numbers to speed/PART.json and its table into RESULTS.md,
so it can be repeated on its own. Exit code 5: a process failed, which the table shows too.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import speed_parts
from peers import HERE
from speed_parts import Settings
from speed_report import machine, put, today
from speed_scaling import scaling

PARTS = {
    "epoch": ("Speed: one epoch of the article's network", speed_parts.epoch),
    "prompt": ("Speed: from the prompt to a model", speed_parts.prompt),
    "startup": ("Speed: start-up", speed_parts.startup),
    "busy": ("Speed: on a busy machine", speed_parts.busy),
    "waiting": ("Speed: how threads wait", speed_parts.waiting),
    "cores": ("Speed: on 1, 2 and 4 cores", speed_parts.cores),
    "scaling": ("Speed: cost against image size, filters and images", scaling),
}


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10, choices=range(1, 11), metavar="1..10")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="by default all cores")
    parser.add_argument("--wait", type=float, default=60, help="seconds to wait for a quiet machine, per process")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which a process is killed")
    parser.add_argument("--recipe", default="fast", help="convscope's recipe in part 'prompt'")
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    parser.add_argument("--raw", type=Path, default=HERE / "speed", help="folder for the raw numbers")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}: expected {', '.join(PARTS)}")
    if "CONVSCOPE_DATA" not in os.environ:
        parser.error("set CONVSCOPE_DATA to a folder that contains mnist/ with its four IDX files")
    return options


def main() -> int:
    """Measure the given parts, and return the exit code."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # leaves no process running
    options.raw.mkdir(parents=True, exist_ok=True)
    hardware, failed = machine(options.threads), False
    for name in options.parts or PARTS:
        title, part = PARTS[name]
        print(title, file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            settings = (getattr(options, key) for key in ("rounds", "epochs", "threads", "wait", "limit", "recipe"))
            results, text = part(Settings(*settings, Path(folder)))
        head = f"## {title}\n\n`bench_speed.py {name}`, {today()}, {hardware}. {options.rounds} rounds, rows in turn; "
        text = f"{head}\nmedian (min to max) over the rounds.\n\n{text}"
        rows = {key: [one.to_dict() for one in many] for key, many in results.items()}
        raw_results = {"date": today(), "machine": hardware, "rounds": options.rounds, "rows": rows}
        (options.raw / f"{name}.json").write_text(json.dumps(raw_results, indent=1) + "\n")
        put(options.into, name, text)
        print(text, flush=True)
        failed |= any(one.error for many in results.values() for one in many)
    return 5 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
