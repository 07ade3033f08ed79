"""How fast does a model answer in process, compared with PyTorch eager and Keras?

    bench_latency.py [RUN] [--rounds 5] [--into RESULTS.md]

All three have the weights of RUN, a run with the recipe `article` on MNIST, which is trained if it is not named, and
start from uint8 images; with one thread, they also have only one core. One image at a time: `Predictor.predict_proba`,
the module in inference mode, and `predict_on_batch`, which is faster than `predict`. Then all 10,000 test images:
`Predictor.predict_proba`, which takes 32 images per thread at a time, a loop over batches of 256, and `predict` with
that batch size. Every measurement is a new process; the programs take turns.
Exit code 5: one image takes more than 0.15 ms with one thread, or a peer classifies more images per second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from safetensors.numpy import load_file

import peers
from convscope import open_run
from convscope._hardware import hardware_info
from speed_report import median_range, peer_versions, put, table, today
from speed_rows import CONVSCOPE

MAX_MS = 0.15
PROGRAMS = ("convscope", "torch", "keras")

Found = dict[str, float]


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--into", type=Path, default=peers.HERE / "RESULTS.md")
    options = parser.parse_args()
    found: dict[tuple[str, int], list[Found]] = {}
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or Path(folder, "run")
        if options.run is None:
            train = [CONVSCOPE, "train", "mnist", "--recipe", "article", "--epochs", "1", "--run", str(run)]
            subprocess.run(train, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        files = write_weights(run, Path(folder))
        for _ in range(options.rounds):
            for threads in (1, hardware_info(threads=1).cores):
                for name in PROGRAMS:
                    found.setdefault((name, threads), []).append(measure(name, files[name], threads))
    return report(options.into, found)


def write_weights(run: Path, folder: Path) -> dict[str, Path]:
    """The model file of a run, and its weights in the layout of each peer."""
    opened = open_run(run)
    weights = load_file(opened.weights_file)
    conv, dense, last = (weights[f"{name}.weight"] for name in ("conv1", "dense1", "classifier"))
    biases = [weights[f"{name}.bias"] for name in ("conv1", "dense1", "classifier")]
    by_channel = dense.reshape(-1, 13, 13, 32).transpose(0, 3, 1, 2).reshape(dense.shape)  # as torch flattens
    kernels = {"torch": (conv, by_channel, last), "keras": (conv.transpose(2, 3, 1, 0), dense.T, last.T)}
    for name, arrays in kernels.items():
        pairs = zip(("0", "4", "6"), arrays, biases, strict=True)  # positions in torch_article's nn.Sequential
        np.savez(
            folder / f"{name}.npz", **{k: v for i, w, b in pairs for k, v in ((f"{i}.weight", w), (f"{i}.bias", b))}
        )
    return {"convscope": opened.model_file} | {name: folder / f"{name}.npz" for name in kernels}


def measure(name: str, file: Path, threads: int) -> Found:
    """One process of a program."""
    script, arguments = f"latency_{name}.py", (str(file), str(threads))
    if name == "convscope":
        command, environment = [sys.executable, str(peers.HERE / script), *arguments], dict(os.environ)
    else:
        command, environment = peers.command(name, script, *arguments), peers.variables(name)
    cores = f"0-{threads - 1}"
    command = ["taskset", "--cpu-list", cores, *command]  # TensorFlow's input pipeline has threads of its own
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    found: Found = json.loads(text)
    print(name, threads, found, file=sys.stderr)
    return found


def report(into: Path, found: dict[tuple[str, int], list[Found]]) -> int:
    """Write the table into RESULTS.md, and return the exit code."""
    rows, kept = [], True
    for (name, threads), values in found.items():
        ours = found["convscope", threads]
        rates = [a["images_per_s"] / b["images_per_s"] for a, b in zip(ours, values, strict=True)]
        ratios = [b["p50_ms"] / a["p50_ms"] for a, b in zip(ours, values, strict=True)]
        kept &= median(rates) >= 1 and (name != "convscope" or threads > 1 or median_of(values, "p50_ms") <= MAX_MS)
        rows.append((
            name, threads, median_range((one["p50_ms"] for one in values), 3), f"{median_of(values, 'p99_ms'):.3f}",
            f"{median(ratios):.2f}", median_range((one["images_per_s"] for one in values), 0), f"{median(rates):.2f}",
            f"{100 * values[0]['accuracy']:.2f} %",
        ))  # fmt: skip
    machine = hardware_info(threads=1)
    heads = ("program", "threads", "one image: ms, p50", "ms, p99", "times convscope's", "images/s",
             "convscope / program", "accuracy")  # fmt: skip
    put(
        into,
        "latency",
        "## Latency and throughput in process\n\n"
        f"`bench_latency.py`, {today()}; {machine.processor}, {machine.cores} cores, convscope "
        f"{machine.versions['convscope']}, onnxruntime {machine.versions['onnxruntime']}; peers: "
        f"{', '.join(peer_versions())}. The article's network with the same weights, medians (smallest to largest) of "
        f"{len(ours)} processes that took turns; decoding of files apart. Ratios are medians over the rounds.\n\n"
        f"{table(heads, rows)}",
    )
    return 0 if kept else 5


def median_of(values: list[Found], name: str) -> float:
    """The median of one number over processes."""
    return median(one[name] for one in values)


if __name__ == "__main__":
    raise SystemExit(main())
