"""How fast is convscope, beside Keras 3 + TensorFlow and PyTorch, on the article's network?

    bench_speed.py [epoch] [prompt] [startup] [busy] [waiting] [cores] [scaling] [--rounds 5]

Without names, all parts. Each part writes its raw numbers to speed/PART.json and its table into RESULTS.md, so that it
can be measured again alone. Exit code 5: a process failed, which the table says too.
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
    "startup": ("Speed: starting up", speed_parts.startup),
    "busy": ("Speed: on a busy machine", speed_parts.busy),
    "waiting": ("Speed: how threads wait", speed_parts.waiting),
    "cores": ("Speed: on 1, 2 and 4 cores", speed_parts.cores),
    "scaling": ("Speed: cost against image size, filters and images", scaling),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10, choices=range(1, 11), metavar="1..10")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="by default all cores")
    parser.add_argument("--wait", type=float, default=60, help="seconds to wait for a quiet machine, per process")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which a process is stopped")
    parser.add_argument("--recipe", default="fast", help="convscope's in the part 'prompt'")
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    parser.add_argument("--raw", type=Path, default=HERE / "speed", help="folder for the raw numbers")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    if "CONVSCOPE_DATA" not in os.environ:
        parser.error("set CONVSCOPE_DATA to the folder that holds mnist/ and its four IDX files")
    return options


def main() -> int:
    """Measure the parts asked for; the exit code."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that nothing is left running
    options.raw.mkdir(parents=True, exist_ok=True)
    about, failed = machine(options.threads), False
    for name in options.parts or PARTS:
        title, part = PARTS[name]
        print(title, file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            given = (getattr(options, key) for key in ("rounds", "epochs", "threads", "wait", "limit", "recipe"))
            results, text = part(Settings(*given, Path(folder)))
        head = f"## {title}\n\n`bench_speed.py {name}`, {today()}, {about}. Rounds: {options.rounds}, rows in turn; "
        text = f"{head}\nmedian (min to max) over the rounds.\n\n{text}"
        raw = {key: [one.to_dict() for one in many] for key, many in results.items()}
        facts = {"date": today(), "machine": about, "rounds": options.rounds, "rows": raw}
        (options.raw / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")
        put(options.into, name, text)
        print(text, flush=True)
        failed |= any(one.error for many in results.values() for one in many)
    return 5 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
