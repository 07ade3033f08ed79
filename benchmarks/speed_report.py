"""Format measurements as Markdown, and write them into their section of RESULTS.md."""

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
from speed_process import MAX_BUSY, Measurement, Row
from speed_rows import CONVSCOPE, allocators, clean, ours

Results = dict[str, list[Measurement]]
Value = Callable[[Measurement], float | None]
VERSIONS = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
PACKAGES = {"keras": ("keras", "tensorflow"), "torch": ("torch",), "sklearn": ("scikit-learn",)}


def machine(threads: int) -> str:
    """Return processor, cores, measured float32 peak and versions, as a short run of convscope records them."""
    with tempfile.TemporaryDirectory() as folder:
        row: Row = ours("", f"digits --epochs 1 --threads {threads}", Path(folder), threads)
        done = subprocess.run(row.command, check=False, env=row.variables, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit("convscope could not train on digits (see above): nothing was measured")
    info: dict[str, Any] = json.loads(done.stdout)["config"]["machine"]
    packages = [
        f"{name} {info['versions'][name]}" for name in ("convscope", "torch", "numpy") if name in info["versions"]
    ]
    preloads = ", ".join(Path(path).name for path in allocators()) or "none installed"
    return (
        f"{info['processor']}, {threads} of {info['cores']} cores, {info['peak_gflops']:.0f} GFLOP/s float32 "
        f"peak, {info['system']}, Python {info['python']}. {', '.join(packages)}; "
        f"peers: {', '.join(peer_versions())}; allocators: {preloads}"
    )


def peer_versions() -> Iterable[str]:
    """Yield name and version of every peer."""
    for peer, packages in PACKAGES.items():
        command = [str(peers.environment(peer)), "-c", VERSIONS, *packages]
        variables = clean(peers.variables(peer), 1)
        versions = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        yield from (f"{name} {number}" for name, number in zip(packages, versions, strict=True))


def median_range(values: Iterable[float | None], digits: int = 2) -> str:
    """Return "median (min to max)" of the values that are not None, or a dash."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return f"{median(known):.{digits}f} ({min(known):.{digits}f} to {max(known):.{digits}f})"


def ratios(of: list[Measurement], to: list[Measurement], value: Value) -> list[float | None]:
    """Return the ratio of `value` between two rows, round by round."""
    pairs = [(value(a), value(b)) for a, b in zip(of, to, strict=True)]
    return [a / b if a is not None and b else None for a, b in pairs]


def epoch_seconds(one: Measurement) -> float | None:
    """Return the median over all epochs except the first, or the first if it is the only one."""
    if one.error:
        return None
    return median(one.epochs) if one.epochs else one.first_epoch


def whole(one: Measurement) -> float | None:
    """Return the seconds of the whole process."""
    return None if one.error else one.seconds


def percent(fraction: float | None) -> float | None:
    """Return a fraction in percent."""
    return None if fraction is None else 100 * fraction


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *(list(map(str, row)) for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def remarks(results: Results) -> str:
    """Return a line for every failed process, and one on the load of the machine before the processes."""
    measurements = [one for many in results.values() for one in many]
    lines = [f"FAILED: {one.name}: {one.error}" for one in measurements if one.error]
    loud = [one.busy_before for one in measurements if one.busy_before > MAX_BUSY]
    lines.append(
        f"Not quiet before {len(loud)} of {len(measurements)} processes: up to {100 * max(loud):.0f} % of cores busy."
        if loud
        else f"Before each of the {len(measurements)} processes under {100 * MAX_BUSY:.0f} % of the cores were busy."
    )
    return "\n\n".join(lines)


def put(file: Path, part: str, text: str) -> None:
    """Write `text` between the markers of `part` in a Markdown file, which are added at its end if missing."""
    begin, end = f"<!-- speed: {part} -->", "<!-- end -->"
    old = file.read_text() if file.exists() else "# Results\n"
    new = f"{begin}\n{text}\n{end}"
    section = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    file.write_text(section.sub(lambda _: new, old) if section.search(old) else f"{old.rstrip()}\n\n{new}\n")


def today() -> str:
    """Return the date in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def convscope_json(*arguments: str) -> dict[str, Any]:
    """Run a command of convscope with --json, and return its answer."""
    command = [CONVSCOPE, *arguments, "--json"]
    answer: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return answer
