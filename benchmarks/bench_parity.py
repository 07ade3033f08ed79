"""Do all runtimes give the same answers to the same image files?

    bench_parity.py [--digits 10000] [--photos 861] [--epochs 2] [--into RESULTS.md]

Trains on MNIST (recipe article) and on the photos of flowers128, writes or unpacks image files, and compares the
trained network in PyTorch with the model file in ONNX Runtime and OpenVINO, its int8 version, and `convscope serve`.
The photos are 1 of 5 of the files, whatever split they are in: parity does not depend on it. The table goes into
RESULTS.md. Exit code 5: float32 differs by more than 1e-4 or a label, or int8 changes over 0.5 % of the digits' answers
or over 0.1 points of their accuracy.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino
from PIL import Image

from convscope import Predictor, load_data, open_run
from convscope.api.verify import image_files, served_runtime, trainer_runtime, verify_runtimes
from convscope.backends.onnx.read import read_model_file
from convscope.deploy.int8 import to_int8
from convscope.deploy.quantization import Quantization, compare_quantized
from convscope.deploy.verify import Comparison, Probabilities, Runtime, predictor_runtime
from convscope.images.read import read_image
from mnist import load
from peers import HERE
from speed_report import put, table, today
from speed_rows import CONVSCOPE

CALIBRATION_IMAGES = 512
MAX_POINTS = 0.001  # of accuracy, that int8 may change


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=int, default=10_000)
    parser.add_argument("--photos", type=int, default=861)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    archive = str(Path(os.environ["CONVSCOPE_DATA"], "flowers128", "flowers.tar.gz"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        digits = write_digits(folder / "digits", options.digits)
        photos = unpack(archive, folder / "all", options.photos)
        found = {
            "MNIST test images, PNG": measure(folder / "a", "mnist", ["--recipe", "article"], digits, options.epochs),
            "photos, JPEG": measure(folder / "b", archive, ["--image-size", "64"], photos, options.epochs),
        }
    passed = report(options.into, found)
    return 0 if passed else 5


def write_digits(folder: Path, count: int) -> list[Path]:
    """Write MNIST's test images as PNGs; their paths."""
    folder.mkdir()
    paths = [folder / f"{i:05}.png" for i in range(count)]
    for path, image in zip(paths, load("t10k")[0], strict=False):
        Image.fromarray(image.reshape(28, 28)).save(path)
    return paths


def unpack(archive: str, folder: Path, count: int) -> list[Path]:
    """Every fifth image file of an archive, unpacked."""
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return image_files(folder)[::5][:count]


def measure(
    folder: Path, data: str, options: list[str], images: Sequence[Path], epochs: int
) -> tuple[list[Comparison], Quantization]:
    """Train, and compare all runtimes on the images, and int8 with float32 on the test split."""
    folder.mkdir()
    command = [CONVSCOPE, "train", data, *options, "--epochs", str(epochs), "--run", str(folder / "run")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    run, int8 = open_run(folder / "run"), folder / "int8.onnx"
    dataset = load_data(data, run.config.dataset.load_options)
    int8.write_bytes(to_int8(read_model_file(run.model_file), dataset.train.subsample(CALIBRATION_IMAGES).images))
    predictor = Predictor(run.model_file)
    with served_runtime(run.model_file) as http:
        runtimes = [
            trainer_runtime(run, predictor.metadata.calibration),
            predictor_runtime(predictor, "ONNX Runtime"),
            openvino_runtime(run.model_file, predictor),
            http,
            predictor_runtime(Predictor(int8), "ONNX Runtime int8"),
        ]
        comparisons = verify_runtimes(run.model_file, runtimes, images).comparisons
    return [one for one in comparisons if one.inputs == "images"], compare_quantized(run.model_file, int8, dataset.test)


def openvino_runtime(path: Path, predictor: Predictor) -> Runtime:
    """The model file in OpenVINO, in float32."""
    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def classify(files: Sequence[bytes]) -> Probabilities:
        pixels = np.stack([predictor.preprocessing.transform(read_image(file))[0] for file in files])
        return np.asarray(model(pixels)["probabilities"], np.float64)

    return Runtime("OpenVINO", classify)


def report(file: Path, found: dict[str, tuple[list[Comparison], Quantization]]) -> bool:
    """Write the tables into the file and to stdout; whether everything is within its bounds."""
    rows = [
        (kind, f"{one.first} / {one.second}", f"{one.images:,}", f"{one.max_difference:.1e}", one.label_flips)
        for kind, (comparisons, _) in found.items()
        for one in comparisons
    ]
    sizes = [
        (kind, f"{one.images:,}", f"{one.float32.bytes:,} / {one.int8.bytes:,}",
         f"{100 * one.float32.accuracy:.2f} / {100 * one.int8.accuracy:.2f} %",
         f"{100 * one.accuracy_change:+.2f} ({100 * one.interval[0]:+.2f} to {100 * one.interval[1]:+.2f})",
         one.changed_answers, f"{one.float32.latency_ms:.3f} / {one.int8.latency_ms:.3f}",
         f"{one.float32.images_per_second:,.0f} / {one.int8.images_per_second:,.0f}")
        for kind, (_, one) in found.items()
    ]  # fmt: skip
    text = (
        f"## The same answers everywhere\n\n`bench_parity.py`, {today()}, {len(os.sched_getaffinity(0))} cores. All "
        "runtimes classify the same files; the difference is the largest one of a probability.\n\n"
        f"{table(('files', 'runtimes', 'images', 'difference', 'label flips'), rows)}\n\n"
        "float32 / int8 on the test split of the same data:\n\n"
        + table(
            ("data", "images", "bytes", "accuracy", "points", "answers changed", "ms, one image", "images/s"), sizes
        )
    )
    print(text)
    put(file, "parity", text)
    digits = next(iter(found.values()))[1]
    holds = all(one.passed for comparisons, _ in found.values() for one in comparisons)
    return holds and digits.passed and abs(digits.accuracy_change) <= MAX_POINTS


if __name__ == "__main__":
    sys.exit(main())
