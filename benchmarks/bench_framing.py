"""How accurate is a model of MNIST on digits of another size, margin, paper and lighting?

    bench_framing.py [--digits 10000] [--into RESULTS.md]

Trains `convscope train mnist --recipe fast`, cuts MNIST's test digits to their ink, and redraws them off center, as
images of 16x16, 40x60 and 300x200 pixels, dark on light and light on dark, at 60 to 90 % of the largest size that fits.
They are classified with and without the frame. Further rows: photographs with texture, shadow, a
dark border and JPEG compression; small digits; digits that touch the border; scikit-learn's digits. Exit code 5: an
accuracy on redrawn digits is more than 2 points below that on the originals, or an original is changed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from convscope.deploy.predictor import Predictor
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage
from mnist import load
from peers import HERE
from redrawn_digits import Drawing, redraw
from speed_report import put, table, today

SIZES = ((16, 16), (40, 60), (300, 200))
PAPERS = ((60, 0), (90, 20), (126, 0), (130, 40), (180, 30), (250, 0), (0, 255), (60, 160))  # paper and ink
LIMIT = 2  # points below the accuracy on the originals
FILL = (0.6, 0.9)
PHOTOGRAPHS = {
    "photograph: texture, shadow, JPEG": Drawing(300, 200, 220, 60, FILL, noise=6, shadow=0.6, jpeg=75),
    "photograph: strong texture": Drawing(300, 200, 200, 60, FILL, noise=15),
    "photograph: dark border": Drawing(300, 200, 230, 40, FILL, frame=0.1, noise=3),
    "small in the image": Drawing(300, 200, 250, 30, (0.2, 0.4)),
    "touching the border, 16x16": Drawing(16, 16, 0, 255, (1, 1)),
    "touching the border, 40x60": Drawing(40, 60, 250, 0, (1, 1)),
}
Row = tuple[str, float, float, int]  # images, accuracy with and without the frame, number


class Model:
    """A trained model, with the frame of its training images and without."""

    def __init__(self, run: Path) -> None:
        self._predictor = Predictor(run)
        self._framed = self._predictor.preprocessing
        self._plain = self._framed.model_copy(update={"frame": None})

    def row(self, name: str, images: Iterable[NDArray[np.uint8]], labels: NDArray[np.uint8]) -> Row:
        """The accuracies on images."""
        images = list(images)
        return name, *(self._accuracy(images, labels, one) for one in (self._framed, self._plain)), len(images)

    def unchanged(self, images: NDArray[np.uint8]) -> bool:
        """Whether preprocessing leaves images as they are."""
        return all(np.array_equal(self._framed.transform(DecodedImage(image))[0], image) for image in images)

    def _accuracy(
        self, images: list[NDArray[np.uint8]], labels: NDArray[np.uint8], preprocessing: Preprocessing
    ) -> float:
        pixels = np.stack([preprocessing.transform(DecodedImage(image))[0] for image in images])
        return 100 * float((self._predictor.predict_logits(pixels).argmax(axis=1) == labels).mean())


def main() -> int:
    """Measure, report, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=int, default=10_000)
    parser.add_argument("--into", type=Path, default=HERE / "RESULTS.md")
    options = parser.parse_args()
    images, labels = load("t10k")
    images, labels = images[: options.digits], labels[: options.digits]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command = [sys.executable, "-m", "convscope", "train", "mnist", "--recipe", "fast", "--run", str(run)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        model = Model(run)
        machine = json.loads(Path(run, "config.json").read_text())["machine"]
    original = model.row("MNIST's test images", images, labels)
    redrawn = [
        model.row(
            f"{w}x{h}, ink {ink} on paper {paper}", redraw(images[..., 0], Drawing(w, h, paper, ink, FILL)), labels
        )
        for w, h in SIZES
        for paper, ink in PAPERS
    ]
    others = [model.row(name, redraw(images[..., 0], drawing), labels) for name, drawing in PHOTOGRAPHS.items()] + [
        _foreign(model)
    ]
    unchanged = model.unchanged(images)
    where = f"{machine['processor']}, {machine['cores']} cores, convscope {machine['versions']['convscope']}"
    _report([original, *redrawn, *others], where, unchanged, options.into)
    return 0 if unchanged and min(accuracy for _, accuracy, *_ in redrawn) >= original[1] - LIMIT else 5


def _foreign(model: Model) -> Row:
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return model.row("scikit-learn's digits, 8x8", pixels, digits.target)


def _report(rows: list[Row], machine: str, unchanged: bool, into: Path) -> None:
    cells = [(name, f"{framed:.2f} %", f"{plain:.2f} %", f"{count:,}") for name, framed, plain, count in rows]
    text = table(("images", "accuracy", "without the frame", "n"), cells)
    kept = "all unchanged" if unchanged else "NOT all unchanged"
    put(
        into,
        "framing",
        "## Images of another size, margin, paper and lighting\n\n"
        f"`bench_framing.py`, {today()}. MNIST, recipe `fast`, seed 0; {machine}. MNIST's own test images are {kept} "
        f"by preprocessing.\n\n{text}",
    )


if __name__ == "__main__":
    sys.exit(main())
