"""Look at a data set before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convscope._files import write_atomically
from convscope._reporting import Reporter
from convscope.data.load import load_data
from convscope.data.statistics import image_as_text, summary
from convscope.errors import UsageError
from convscope.images.read import encode_png
from convscope.network.layers.base import shape_text
from convscope.report.figures import dataset_figure


def show_dataset(name: str, index: int, folder: Path, reporter: Reporter | None = None) -> dict[str, Any]:
    """The numbers behind a data set and one of its training images; writes first-nine.png and that image as a picture.

    Raises DataError for the data set, UsageError for an image that it does not have.
    """
    dataset = load_data(name, reporter=reporter)
    if index >= len(dataset.train):
        raise UsageError(f"--image {index}: {dataset.name} has {len(dataset.train):,} training images, counted from 0")
    image = dataset.train.image(index)
    nine, one = folder / f"{dataset.name}-first-nine.png", folder / f"{dataset.name}-image-{index}.png"
    write_atomically(nine, dataset_figure(dataset).drawing().png())
    write_atomically(one, encode_png(image))
    return {
        **summary(dataset),
        "image": {
            "index": index,
            "class": dataset.classes[dataset.train.labels[index]],
            "shape": shape_text(image.shape),
            "pixels": image.tolist(),
            "text": image_as_text(image),
        },
        "written": [str(nine), str(one)],
    }
