"""What does predicting need: megabytes of packages, and processor time for one image?

    bench_install.py [--rounds 15] [--into RESULTS.md]

convscope's core (built from this checkout), and Pillow with onnxruntime alone, are installed into new environments;
PyTorch and Keras are in those of peers.py, and get an array, not an image file. Each program loads the network of
`convscope train mnist --recipe article`, classifies one image and ends. Packages are counted without pip and
setuptools. Exit code 5: convscope takes 250 MB or 0.5 s of processor time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

import peers
from bench_latency import write_weights
from convscope._hardware import hardware_info
from mnist import load
from speed_report import median_range, peer_versions, put, table, today
from speed_rows import CONVSCOPE

MAX_MB, MAX_SECONDS = 250, 0.5
NOT_COUNTED = ("pip", "setuptools", "_distutils_hack", "pkg_resources", "wheel")
PLAIN = """
import sys
import numpy, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1])
(found,) = session.run(["probabilities"], {"images": numpy.asarray(Image.open(sys.argv[2]))[None, ..., None]})
print(found.argmax(), found.max())
"""
TORCH = """
import sys
import numpy, torch
from torch_article import network
model, weights = network().eval(), numpy.load(sys.argv[1])
model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
with torch.inference_mode():
    found = model(torch.from_numpy(numpy.load(sys.argv[2])).float()[None, None] / 255).softmax(1)
print(int(found.argmax()), float(found.max()))
"""
KERAS = """
import sys
import numpy
from keras_article import network
model, weights = network(), numpy.load(sys.argv[1])
model.set_weights([weights[name] for name in weights.files])
found = model(numpy.load(sys.argv[2]).astype(numpy.float32)[None, ..., None] / 255, training=False).numpy()
print(found.argmax(), found.max())
"""


def main() -> int:
    """Install, measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--into", type=Path, default=peers.HERE / "RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run, png, array = folder / "run", folder / "digit.png", folder / "digit.npy"
        train = [CONVSCOPE, "train", "mnist", "--recipe", "article", "--epochs", "1", "--run", str(run)]
        subprocess.run(train, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        digit = load("t10k")[0][0, ..., 0]
        Image.fromarray(digit).save(png)
        np.save(array, digit)
        files = write_weights(run, folder)
        core, plain = (
            install(folder / "core", str(peers.HERE.parent)),
            install(folder / "plain", "pillow", "onnxruntime"),
        )
        programs = {
            "`convscope predict`": [core, "-m", "convscope", "predict", files["convscope"], png],
            "onnxruntime and Pillow": [plain, "-c", PLAIN, files["convscope"], png],
            "PyTorch": [peers.environment("torch"), "-c", TORCH, files["torch"], array],
            "Keras": [peers.environment("keras"), "-c", KERAS, files["keras"], array],
        }
        seconds: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(options.rounds):
            for name, command in programs.items():
                seconds[name].append(processor_seconds(list(map(str, command))))
        sizes = {name: megabytes(Path(command[0])) for name, command in programs.items()}
    report(options.into, sizes, seconds)
    ours = next(iter(programs))
    return 0 if sizes[ours] < MAX_MB and median(seconds[ours]) < MAX_SECONDS else 5


def install(folder: Path, *packages: str) -> Path:
    """The Python of a new environment with these packages, at the versions of constraints.txt."""
    venv.create(folder, with_pip=True)
    python = folder / peers.PYTHON
    pins = peers.HERE.parent / "constraints.txt"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", pins, *packages], check=True)
    return python


def megabytes(python: Path) -> float:
    """The size of the packages of an environment, in MB (10^6 bytes)."""
    (folder,) = (python.parent.parent / "lib").glob("python*/site-packages")
    counted = (one for one in folder.iterdir() if one.name.split("-")[0].removesuffix(".pth") not in NOT_COUNTED)
    files = (file for one in counted for file in ([one] if one.is_file() else one.rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink()) / 1e6


def processor_seconds(command: list[str]) -> float:
    """User and system time of a process, which has to succeed."""
    before = os.times()
    variables = peers.variables("keras") | {"PYTHONPATH": str(peers.HERE)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=variables)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def report(into: Path, sizes: dict[str, float], seconds: dict[str, list[float]]) -> None:
    """Write the table into RESULTS.md."""
    machine = hardware_info(threads=1)
    rows = [(name, f"{sizes[name]:,.0f}", median_range(seconds[name])) for name in sizes]
    put(
        into,
        "install",
        "## What predicting needs\n\n"
        f"`bench_install.py`, {today()}; {machine.processor}, {machine.cores} cores, Python {sys.version.split()[0]}, "
        f"convscope {machine.versions['convscope']}; peers: {', '.join(peer_versions())}. One digit with the article's "
        f"network, medians (smallest to largest) of {len(next(iter(seconds.values())))} processes that took turns; "
        "packages without pip and setuptools, with compiled modules (.pyc).\n\n"
        f"{table(('program', 'packages in MB', 'seconds of processor time, one image'), rows)}",
    )


if __name__ == "__main__":
    raise SystemExit(main())
