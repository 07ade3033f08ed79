"""From measured processes to Markdown, and into a marked place of RESULTS.md."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import peers
from speed_process import QUIET, Measured, Row
from speed_rows import CONVSCOPE, allocators, clean, ours

Results = dict[str, list[Measured]]
Value = Callable[[Measured], float | None]
VERSIONS = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
PACKAGES = {"keras": ("keras", "tensorflow"), "torch": ("torch",), "sklearn": ("scikit-learn",)}


def machine(threads: int) -> str:
    """HardwareInfo, cores, measured float32 peak and versions, as a small run of convscope records them."""
    with tempfile.TemporaryDirectory() as folder:
        row: Row = ours("", f"digits --epochs 1 --threads {threads}", Path(folder), threads)
        done = subprocess.run(row.command, check=False, env=row.variables, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit("convscope cannot even train on digits, as it says above: nothing is measured")
    facts: dict[str, Any] = json.loads(done.stdout)["config"]["machine"]
    own = [f"{name} {facts['versions'][name]}" for name in ("convscope", "torch", "numpy") if name in facts["versions"]]
    preloads = ", ".join(Path(path).name for path in allocators()) or "none installed"
    return (
        f"{facts['processor']}, {threads} of {facts['cores']} cores, {facts['peak_gflops']:.0f} GFLOP/s float32 peak, "
        f"{facts['system']}, Python {facts['python']}. {', '.join(own)}; peers: {', '.join(peer_versions())}; "
        f"allocators: {preloads}"
    )


def peer_versions() -> Iterable[str]:
    """Name and version of every peer."""
    for peer, packages in PACKAGES.items():
        command = [str(peers.environment(peer)), "-c", VERSIONS, *packages]
        variables = clean(peers.variables(peer), 1)
        versions = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        yield from (f"{name} {number}" for name, number in zip(packages, versions, strict=True))


def spread(values: Iterable[float | None], digits: int = 2) -> str:
    """median (min to max) of the values that there are, or a dash."""
    there = [value for value in values if value is not None]
    if not there:
        return "-"
    return f"{median(there):.{digits}f} ({min(there):.{digits}f} to {max(there):.{digits}f})"


def ratios(of: list[Measured], to: list[Measured], value: Value) -> list[float | None]:
    """Round by round, how many times more `of` takes than `to`."""
    pairs = [(value(a), value(b)) for a, b in zip(of, to, strict=True)]
    return [a / b if a is not None and b else None for a, b in pairs]


def epoch_seconds(one: Measured) -> float | None:
    """Median over the epochs but the first; the first itself where there is no other."""
    if one.error:
        return None
    return median(one.epochs) if one.epochs else one.first_epoch


def whole(one: Measured) -> float | None:
    """Seconds of the whole process."""
    return None if one.error else one.seconds


def per_cent(share: float | None) -> float | None:
    """A share of 1 in per cent."""
    return None if share is None else 100 * share


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *(list(map(str, row)) for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def remarks(results: Results) -> str:
    """What has to be said: processes that failed, and processes that were not alone; empty where there is nothing."""
    everything = [one for many in results.values() for one in many]
    said = [f"FAILED: {one.name}: {one.error}" for one in everything if one.error]
    loud = [one.busy_before for one in everything if one.busy_before > QUIET]
    said.append(
        f"Not quiet before {len(loud)} of {len(everything)} processes: up to {100 * max(loud):.0f} % of the cores busy."
        if loud
        else f"Before each of the {len(everything)} processes under {100 * QUIET:.0f} % of the cores were busy."
    )
    return "\n\n".join(said)


def put(file: Path, part: str, text: str) -> None:
    """Write `text` between the markers of `part` in a Markdown file; they are added at its end where there are none."""
    begin, end = f"<!-- speed: {part} -->", "<!-- end -->"
    old = file.read_text() if file.exists() else "# Results\n"
    new = f"{begin}\n{text}\n{end}"
    place = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    file.write_text(place.sub(lambda _: new, old) if place.search(old) else f"{old.rstrip()}\n\n{new}\n")


def today() -> str:
    """The date in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def convscope_json(*words: str) -> dict[str, Any]:
    """The answer of one command of convscope."""
    command = [CONVSCOPE, *words, "--json"]
    answer: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return answer
