"""Are probabilities what they claim, and does a model refuse images unlike its training images?

    bench_trust.py RUN... [--set NAME=PATH ...] [--images 1000] [--into RESULTS.md]

For each finished run: the expected calibration error on its test images, and the fraction of other images that it
answers: the test images of the other named sets, noise, single colors, and its own images with shuffled pixels. Sets
of arrays are `mnist`, `fashion-mnist` and `cifar10`; `--set` adds others. The limit is that of the model file,
chosen on validation images so that 95 % of them are answered; the fraction of the test images comes first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from convscope.data.dataset import Dataset
from convscope.data.load import load_data
from convscope.data.types import Images
from convscope.deploy.predictor import Predictor
from convscope.evaluation.answers import Answers, count_answers, transform_images, unlike_images
from convscope.evaluation.calibration import measure_calibration, softmax
from convscope.runs.folder import Run, open_run
from peers import HERE
from speed_report import put, table, today

NAMED = ("mnist", "fashion-mnist", "cifar10")
Rows = list[tuple[str, ...]]


def main() -> None:
    """Measure every run, and write two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="NAME=PATH")
    parser.add_argument("--images", type=int, default=1000, help="of each other set")
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    sources = {name: name for name in NAMED} | dict(text.split("=", 1) for text in options.sets)
    foreign = {name: _sample(load_data(source), options.images) for name, source in sources.items()}
    calibration: Rows = []
    answered: Rows = []
    for path in options.runs:
        run = open_run(path)
        own = next((name for name, source in sources.items() if source == run.config.dataset.path), "")
        own = own or next(name for name, source in sources.items() if Path(source).resolve() == Path(_path(run)))
        print(path, flush=True)
        predictor = Predictor(run.model_file)
        dataset = load_data(run.config.dataset.path, run.config.dataset.load_options)
        calibration.append(_calibration(run, predictor, dataset, own))
        others = {name: transform_images(predictor.preprocessing, images) for name, images in foreign.items()}
        others |= dict(unlike_images(predictor.preprocessing, dataset.test))
        shares = [_answers(predictor, images, name) for name, images in others.items() if name != own]
        answered.append((_title(run, own), _share(_answers(predictor, _images(dataset), own)), *_cells(shares, others)))
    heads = ("trained on", "its test images", *others)
    machine = run.config.machine
    put(
        options.into,
        "trust",
        "## Probabilities, and images unlike the training images\n\n"
        f"`bench_trust.py`, {today()}; {machine.processor}, convscope {machine.versions['convscope']}, seed 0. "
        "The calibration error is the mean distance of confidence and accuracy in 15 groups of test images of equal "
        "size (fewer for small sets); `noise` is what it would be if the probabilities were exact. `article` trains on "
        "all images, so it is not calibrated.\n\n"
        f"{table(CALIBRATION_HEADS, calibration)}\n\n"
        f"Fraction of images that are answered, {options.images:,} of each other set:\n\n{table(heads, answered)}",
    )


CALIBRATION_HEADS = (
    "trained on", "n", "accuracy", "mean confidence", "temperature, exponent", "calibration error", "95 % interval",
    "noise", "uncalibrated",
)  # fmt: skip


def _path(run: Run) -> str:
    return str(run.config.dataset.path)


def _title(run: Run, own: str) -> str:
    return f"{own}, {run.config.recipe.name}"


def _sample(dataset: Dataset, images: int) -> list[Images]:
    return list(dataset.test.subsample(images).images)


def _images(dataset: Dataset) -> Images:
    return dataset.test.images


def _calibration(run: Run, predictor: Predictor, dataset: Dataset, own: str) -> tuple[str, ...]:
    logits = np.concatenate([predictor.predict_logits(images) for images in dataset.test.chunks()])
    found = measure_calibration(softmax(logits, predictor.metadata.calibration), dataset.test.labels)
    before = measure_calibration(softmax(logits), dataset.test.labels)
    accuracy = float((logits.argmax(1) == dataset.test.labels).mean())
    low, high = found.interval
    return (
        _title(run, own), f"{len(dataset.test):,}", f"{100 * accuracy:.2f} %", f"{100 * found.mean_confidence:.2f} %",
        _calibration_text(predictor), f"{100 * found.ece:.2f} %", f"{100 * low:.2f} to {100 * high:.2f}",
        f"{100 * found.noise:.2f} %", f"{100 * before.ece:.2f} %",
    )  # fmt: skip


def _calibration_text(predictor: Predictor) -> str:
    found = predictor.metadata.calibration
    return f"{found.temperature:.3f}" + (f", {found.exponent:.2f}" if found.exponent != 1 else "")


def _answers(predictor: Predictor, images: Images, name: str) -> Answers:
    return count_answers(predictor.predict_statuses(images)[1], name)


def _cells(shares: list[Answers], others: dict[str, Images]) -> list[str]:
    by_name = {one.images: _share(one) for one in shares}
    return [by_name.get(name, "-") for name in others]


def _share(answers: Answers) -> str:
    return f"{100 * answers.answered:.1f} %"


if __name__ == "__main__":
    main()
