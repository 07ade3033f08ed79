"""How much processor time does predicting many small files take, compared with a plain loop of Pillow and onnxruntime?

    bench_predict.py [--files 10000] [--rounds 5] [--into RESULTS.md]

Both classify the same PNGs of MNIST's test digits with the same model file, each time in a new process. Also measured
with one file, which shows what starting costs. The table goes into RESULTS.md. Exit code 5: beyond the start,
`convscope predict` or `Predictor.predict` takes over 1.3 times the processor time of the loop.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from PIL import Image

from mnist import load
from peers import HERE
from speed_report import median_range, put, table, today
from speed_rows import CONVSCOPE

MAX_RATIO = 1.3
PLAIN_LOOP = """
import os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1])
files = sys.argv[2:]
for start in range(0, len(files), 64):
    batch = [numpy.asarray(Image.open(file))[..., None] for file in files[start : start + 64]]
    (found,) = session.run(["probabilities"], {"images": numpy.stack(batch)})
    for file, row in zip(files[start : start + 64], found):
        print(file, row.argmax(), row.max())
"""
PREDICTOR = """
import sys
from convscope import Predictor
for prediction in Predictor(sys.argv[1]).predict(sys.argv[2:]):
    print(prediction.image, prediction.label, prediction.probability)
"""

Times = dict[tuple[str, int], list[float]]  # processor seconds by program and number of files


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    times: Times = {}
    with tempfile.TemporaryDirectory() as folder:
        files, run = write(Path(folder), options.files), Path(folder, "run")
        train = [CONVSCOPE, "train", "mnist", "--recipe", "fast", "--epochs", "1", "--run", str(run)]
        subprocess.run(train, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        model = str(run / "model.onnx")
        programs = {
            "a plain loop": [sys.executable, "-c", PLAIN_LOOP, model],
            "`Predictor.predict`": [sys.executable, "-c", PREDICTOR, model],
            "`convscope predict`": [CONVSCOPE, "predict", model],
            "`convscope predict --json`": [CONVSCOPE, "predict", "--json", model],
        }
        for _ in range(options.rounds):
            for name, command in programs.items():
                for count in (1, options.files):
                    times.setdefault((name, count), []).append(processor_seconds([*command, *files[:count]]))
    ratios = report(options.into, times, options.files)
    return 0 if max(ratios[name] for name in list(programs)[:3]) <= MAX_RATIO else 5


def write(folder: Path, count: int) -> list[str]:
    """Write test digits as PNGs; their paths."""
    images, _ = load("t10k")
    paths = [str(folder / f"{i:05}.png") for i in range(count)]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image.reshape(28, 28)).save(path)
    return paths


def processor_seconds(command: list[str]) -> float:
    """Run a program; the seconds of all its threads, in user and system mode."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command[:4])} failed")
    return usage.ru_utime + usage.ru_stime


def report(file: Path, times: Times, count: int) -> dict[str, float]:
    """Write the table into the file and to stdout; the ratio to the loop, beyond the start, of every program."""
    names = list(dict.fromkeys(name for name, _ in times))
    beyond = {name: median(times[name, count]) - median(times[name, 1]) for name in names}
    ratios = {name: beyond[name] / beyond[names[0]] for name in names}
    whole = {name: median(times[name, count]) / median(times[names[0], count]) for name in names}
    rows = [
        (name, *(median_range(times[name, n]) for n in (1, count)), f"{whole[name]:.2f}", f"{ratios[name]:.2f}")
        for name in names
    ]
    heads = ("program", "1 file, s", f"{count:,} files, s", "ratio", "ratio of the difference")
    text = (
        f"## Predicting many small files\n\n`bench_predict.py`, {today()}, PNGs of 28x28, "
        f"{len(os.sched_getaffinity(0))} cores; processor seconds of the whole process, median (min to max) of "
        f"{len(times[names[0], 1])} runs.\n\n{table(heads, rows)}"
    )
    print(text)
    put(file, "predict", text)
    return ratios


if __name__ == "__main__":
    sys.exit(main())
