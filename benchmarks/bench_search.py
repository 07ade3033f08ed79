"""Search: is what it chooses within its budget better than the defaults, and does a killed search lose a trial?

    bench_search.py NAME=DATA ... [--budget 10min] [--long] [--kills 20] [--seed 1] [--keep FOLDER] [--into FILE]

Runs `convscope search DATA --budget TIME`, and `convscope train DATA`, with --long also with that budget. The test
images, which chose nothing, compare them. Then the last data set is searched again in a tenth of the time, as often as
it takes, and these searches are killed at random moments and resumed until they are complete. FOLDER keeps everything,
and a second call goes on from there. Exit code 5: a search takes longer than its budget, its choice is below the others
by more than the interval of the difference, or a finished trial is lost or repeated.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from math import sqrt
from pathlib import Path
from typing import NamedTuple

from convscope import open_run
from convscope._statistics import NORMAL_975
from convscope._text import duration, parse_duration, percent, pluralize
from convscope.api.tuning.search import SearchSummary
from convscope.api.tuning.search_folder import CONFIG_FILE, RESULT_FILE, TRIAL_FOLDER, read_config
from convscope.runs.config import EVALUATION_FILE
from peers import HERE
from speed_report import put, table, today
from speed_rows import CONVSCOPE

SHORT = 10  # the killed search has this fraction of the budget


def main() -> int:
    """Search, compare, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="NAME=DATA")
    parser.add_argument("--budget", default="10min")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--span", type=float, default=15, help="the longest time from a start to the kill, seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    pairs = [pair.split("=", 1) for pair in options.data]
    with tempfile.TemporaryDirectory() as temporary:
        base = options.keep or Path(temporary)
        compared = [compare(name, data, base / name, options) for name, data in pairs]
        name, data = pairs[-1]
        killed: list[Killed] = []
        while sum(one.kills for one in killed) < options.kills:
            killed.append(kill(base / f"{name}-killed-{len(killed)}", data, options, len(killed)))
    heads = ("data", "search", "trials per rung", "best", "how sure, on validation images", "test accuracy", "n",
             "of a training without options", *["of one with the budget"] * options.long)  # fmt: skip
    rows = table(heads, [one.cells for one in compared])
    text = (
        f"## Search\n\n`bench_search.py`, {today()}, `--budget {options.budget}`. The defaults of a search are those "
        f"of `convscope train --budget` with the time of a trial.\n\n{rows}\n\n"
        f"On {name}, {pluralize(len(killed), 'search', 'searches')} of {duration(killed[0].budget)} had "
        f"{sum(one.kills for one in killed)} kills at random moments. Finished trials: "
        f"{sum(one.finished for one in killed)} of {sum(one.expected for one in killed)}; lost or repeated: "
        f"{sum(one.changed for one in killed)}; complete runs of the best: {sum(one.is_complete for one in killed)}."
    )
    put(options.into, "search", text)
    print(text)
    return 0 if all(one.is_good for one in compared) and all(one.is_good for one in killed) else 5


class Compared(NamedTuple):
    """A search, compared with the defaults: a row of the table, and whether the search kept what it promises."""

    cells: tuple[str, ...]
    is_good: bool


def compare(name: str, data: str, base: Path, options: argparse.Namespace) -> Compared:
    """Search one data set, and train on it with the defaults, unless an earlier call has done so."""
    found = base / "search" / RESULT_FILE
    if not found.exists():
        convscope("search", data, "--budget", options.budget, "--out", str(base / "search"))
    defaults = [accuracy(data, base / "defaults")]
    if options.long:
        defaults.append(accuracy(data, base / "long", "--budget", options.budget))
    result = SearchSummary.model_validate_json(found.read_text())
    test, n = result.test.accuracy, result.test_images
    is_no_worse = all(test >= other - half_width(test, other, n) for other in defaults)
    rungs = Counter(trial.rung for trial in result.trials)
    cells = (
        name, duration(result.seconds), ", ".join(str(rungs[rung]) for rung in sorted(rungs)),
        result.configuration.text, result.verdict, percent(test), f"{n:,}", *map(percent, defaults),
    )  # fmt: skip
    return Compared(cells, is_no_worse and result.seconds <= parse_duration(options.budget))


def accuracy(data: str, run: Path, *options: str) -> float:
    """The accuracy on test images of a training with the defaults."""
    if not (run / EVALUATION_FILE).exists():
        convscope("train", data, "--run", str(run), *options)
    evaluation = open_run(run).evaluation
    assert evaluation is not None
    return evaluation.accuracy


def half_width(one: float, other: float, n: int) -> float:
    """Of the 95 % interval of the difference of two accuracies."""
    return NORMAL_975 * sqrt((one * (1 - one) + other * (1 - other)) / n)


class Killed(NamedTuple):
    """What became of a search that was killed: numbers of kills and of trials, and its budget in seconds."""

    budget: float
    kills: int
    finished: int
    expected: int
    changed: int
    is_complete: bool

    @property
    def is_good(self) -> bool:
        """Whether every trial was kept."""
        return self.is_complete and self.finished == self.expected and not self.changed


def kill(folder: Path, data: str, options: argparse.Namespace, number: int) -> Killed:
    """Search, kill the search at random moments, and resume it each time."""
    moments, kills, changed = random.Random(options.seed + number), 0, 0
    budget = parse_duration(options.budget) / SHORT
    command = [CONVSCOPE, "search", data, "--budget", f"{budget:.0f}s", "--out", str(folder)]
    before: dict[str, bytes] = {}
    while kills < options.kills and not (folder / RESULT_FILE).exists():
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0, options.span))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
        after = {path.name: path.read_bytes() for path in (folder / TRIAL_FOLDER).glob("*.json")}
        changed += sum(after.get(name) != content for name, content in before.items())
        before = after
        if (folder / CONFIG_FILE).exists():
            command = [CONVSCOPE, "search", "--resume", str(folder)]
    if not (folder / RESULT_FILE).exists():
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    result = SearchSummary.model_validate_json((folder / RESULT_FILE).read_text())
    kept = {path.name: path.read_bytes() for path in (folder / TRIAL_FOLDER).glob("*.json")}
    changed += sum(kept.get(name) != content for name, content in before.items())
    is_complete = open_run(result.run).manifest.status == "complete"
    return Killed(budget, kills, len(result.trials), sum(read_config(folder).rungs), changed, is_complete)


def convscope(*arguments: str) -> None:
    """Run a command that must succeed; its messages are shown."""
    subprocess.run([CONVSCOPE, *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
