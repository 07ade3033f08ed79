"""Is the lab's page fast, and how much memory does it take? In headless Chromium, without a graphics processor.

    bench_lab_speed.py [--article RUN] [--tiny RUN] [--strokes 200] [--openings 5] [--into RESULTS.md]

Time does not depend on the weights: without the two runs, it trains `article` and `tiny` on MNIST for one epoch.
A stroke is a line on the drawing board; its time ends when the answer and all maps of all layers are drawn, also those
off the screen. CPU is what the renderer process uses, all threads together, per stroke. Opening is from the start of
the navigation to the file on disk to the first frame after the answer. Memory is the proportional set size (PSS) of all
renderer processes of the browser after the strokes: with one page open, that is the page and its worker, without the
browser's own processes. Exit code 5: a limit is exceeded.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from playwright.sync_api import Page, sync_playwright

from convscope.backends.pytorch.models import get_weights
from convscope.lab.server import serve_page
from peers import HERE
from speed_report import put, table, today
from speed_rows import CONVSCOPE

sys.path.insert(0, str(HERE.parent / "tests"))

from helpers.model_files import export
from helpers.networks import NetworkCase, random_preprocessing, trained_model

COLOR = NetworkCase(
    "conv 32 3 pad same, batchnorm, relu, maxpool 2, conv 64 3 pad same, batchnorm, relu, maxpool 2, conv 128 3 pad "
    "same, batchnorm, relu, maxpool 2, conv 170 3 pad same, batchnorm, relu, globalavg", (64, 64, 3), 10
)  # fmt: skip
MAX_STROKE_MS, MAX_COLOR_MS, MAX_OPENING_MS, MAX_MEMORY_MB = 16, 100, 1000, 300
STROKES = """async (strokes) => {
  const board = document.querySelector("lab-board"), view = document.querySelector("lab-layers"), times = [];
  const answered = view.answered.bind(view);
  let done;
  view.answered = (answer) => {
    answered(answer);
    for (const layer of view.layers) if (layer.isStale) layer.draw();
    done(answer.milliseconds);
  };
  board.clear();
  for (let i = 0; i < strokes; i++) {
    const answer = new Promise((resolve) => (done = resolve));
    const at = (t) => 56 + 40 * Math.sin(t);
    const { context } = board;
    Object.assign(context, { lineWidth: 8.5, lineCap: "round", strokeStyle: "#fff" });
    context.beginPath();
    context.moveTo(at(i / 9), at(i / 7 + 1));
    context.lineTo(at((i + 1) / 9), at((i + 1) / 7 + 1));
    const start = performance.now();
    context.stroke();
    board.dispatchEvent(new Event("drawn"));
    const network = await answer;
    times.push([performance.now() - start, network]);
    if (i % 40 === 39) board.clear();
    await new Promise(requestAnimationFrame);
  }
  return times;
}"""
FIRST_ANSWER = """new MutationObserver((_, observer) => {
  if (!document.querySelector(".verdict")) return;
  observer.disconnect();
  requestAnimationFrame(() => setTimeout(() => (globalThis.firstAnswer = performance.now())));
}).observe(document, { childList: true, subtree: true });"""


class Row(NamedTuple):
    """A number with its limit."""

    what: str
    value: float
    spread: str
    unit: str
    limit: float


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--article", type=Path)
    parser.add_argument("--tiny", type=Path)
    parser.add_argument("--strokes", type=int, default=200)
    parser.add_argument("--openings", type=int, default=5)
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        article = options.article or train(folder, "article")
        tiny = options.tiny or train(folder, "tiny")
        color = export(COLOR.network, get_weights(trained_model(COLOR)), random_preprocessing(COLOR), "0123456789")
        pages = {
            "`tiny`": one_file(tiny, folder / "tiny.html"),
            "`article`, int8": one_file(article, folder / "article.html", "--int8"),
        }
        rows = [*strokes("`article`", (article / "model.onnx").read_bytes(), MAX_STROKE_MS, options.strokes)]
        rows += strokes(f"64x64 RGB, {COLOR.network.parameters:,} parameters", color, MAX_COLOR_MS, options.strokes)
        rows += [opening(name, page, options.openings) for name, page in pages.items()]
    return 0 if report(options.into, rows, options.strokes, options.openings) else 5


def train(folder: Path, model: str) -> Path:
    """A run."""
    run = folder / model
    command = [CONVSCOPE, "train", "mnist", "--model", model, "--epochs", "1", "--run", str(run)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return run


def one_file(run: Path, file: Path, *options: str) -> Path:
    """The page as one HTML file."""
    command = [CONVSCOPE, "export", str(run), "--to", "web", "--out", str(file), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return file


@contextmanager
def chromium() -> Iterator[Page]:
    """An empty page in a browser of its own."""
    with sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        yield browser.new_page(viewport={"width": 1600, "height": 1000})
        browser.close()


def strokes(name: str, model: bytes, limit: float, count: int) -> list[Row]:
    """Time of a stroke, and memory after them."""
    with chromium() as page:
        page.goto(serve(model))
        page.wait_for_selector(".verdict")
        page.evaluate(STROKES, 20)  # compiles
        page.reload()
        page.wait_for_selector(".verdict")
        before = sum(map(cpu_seconds, renderers()))
        times = page.evaluate(STROKES, count)
        cpu = (sum(map(cpu_seconds, renderers())) - before) / count * 1000
        memory = sum(map(pss, renderers())) / 1000
    whole, network = ([pair[i] for pair in times] for i in range(2))
    return [
        Row(f"{name}: stroke to all maps drawn", median(whole), spread(whole), "ms", limit),
        Row(f"{name}: of that, the network", median(network), spread(network), "ms", limit),
        Row(f"{name}: CPU per stroke", cpu, "", "ms", math.inf),
        Row(f"{name}: memory", memory, "", "MB", MAX_MEMORY_MB),
    ]


def serve(model: bytes) -> str:
    """The address of the page."""
    started: list[str] = []
    ready = threading.Event()

    def show(url: str) -> None:
        started.append(url)
        ready.set()

    threading.Thread(target=serve_page, args=(0, Path("run/model.onnx"), model, show), daemon=True).start()
    ready.wait(30)
    return started[0]


def opening(name: str, file: Path, count: int) -> Row:
    """Time from opening the file to the first answer, each in a new browser."""
    times = []
    for _ in range(count):
        with chromium() as page:
            page.add_init_script(FIRST_ANSWER)
            page.goto(file.as_uri())
            times.append(page.wait_for_function("globalThis.firstAnswer").json_value())
    size = file.stat().st_size / 1000
    return Row(
        f"{name}, one HTML file of {size:.0f} kB: open to first answer",
        median(times),
        spread(times),
        "ms",
        MAX_OPENING_MS,
    )


def spread(values: list[float]) -> str:
    """The 5 % and 95 % quantiles, or the extremes of few values."""
    if len(values) < 20:
        return f"{min(values):.1f} to {max(values):.1f}"
    cuts = quantiles(values, n=20)
    return f"{cuts[0]:.1f} to {cuts[-1]:.1f}"


def renderers() -> list[int]:
    """The renderer processes that descend from this one."""
    parents, found = {}, []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if b"--type=renderer" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended

    def is_ours(process: int) -> bool:
        while process and process != os.getpid():
            process = parents.get(process, 0)
        return process == os.getpid()

    return [process for process in found if is_ours(process)]


def cpu_seconds(process: int) -> float:
    """In user and kernel mode."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pss(process: int) -> int:
    """In kB."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def report(file: Path, rows: list[Row], strokes_count: int, openings: int) -> bool:
    """Write the table into the file and to stdout; whether all is within its limits."""
    cells = [
        (row.what, f"{row.value:.1f}", row.spread, row.unit, "" if math.isinf(row.limit) else f"{row.limit:.0f}")
        for row in rows
    ]
    heads: tuple[Any, ...] = ("what", "median", "spread", "unit", "limit")
    text = (
        f"## Speed of the lab's page\n\n`bench_lab_speed.py`, {today()}, {len(os.sched_getaffinity(0))} cores, "
        f"headless Chromium without a graphics processor, 1600x1000. {strokes_count} strokes, "
        f"from the 5 % to the 95 % quantile; "
        f"{openings} openings, each in a new browser, from the least to the most. Memory: proportional set "
        f"size of the renderer process, with page and worker.\n\n{table(heads, cells)}"
    )
    print(text)
    put(file, "lab-speed", text)
    return all(row.value < row.limit for row in rows)


if __name__ == "__main__":
    sys.exit(main())
