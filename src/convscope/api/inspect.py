"""A data set before training: its statistics, and one of its images as numbers."""

from __future__ import annotations

from pathlib import Path

from convscope._extras import require_package
from convscope._files import write_results
from convscope._records import Record
from convscope._reporting import Reporter
from convscope.data.dataset import Dataset
from convscope.data.load import load_data
from convscope.data.statistics import DatasetStatistics, dataset_statistics, image_as_text
from convscope.errors import MissingExtraError, UsageError
from convscope.images.read import encode_png


class ImageView(Record):
    """One training image as numbers.

    Attributes:
        index: its index in the training split.
        label: the name of its class.
        shape: (height, width, channels).
        pixels: rows of pixels of channels, 0..255.
        text: the same as text, one block per channel.
    """

    index: int
    label: str
    shape: tuple[int, int, int]
    pixels: tuple[tuple[tuple[int, ...], ...], ...]
    text: str


class DatasetView(DatasetStatistics):
    """Statistics of a data set, one of its training images, and the image files that were written."""

    image: ImageView
    written: tuple[Path, ...]


def show_dataset(
    name: str, index: int, folder: Path, reporter: Reporter | None = None, *, force: bool = False
) -> DatasetView:
    """Describe a data set and one of its training images, and write images of it.

    Args:
        name: a name or a path, see `load_data`.
        index: which training image.
        folder: receives NAME-image-INDEX.png and, if matplotlib is installed, NAME-first-nine.png.
        reporter: receives messages and progress.
        force: overwrite other files of these names.

    Raises:
        DataError: the data set cannot be loaded.
        UsageError: there is no training image of this index, or an image would overwrite another file.
    """
    reporter = reporter or Reporter()
    dataset = load_data(name, reporter=reporter)
    if index >= len(dataset.train):
        raise UsageError(f"--image {index}: expected 0..{len(dataset.train) - 1}, an index of a training image")
    image = dataset.train.image(index)
    files = {folder / f"{dataset.name}-image-{index}.png": encode_png(image)}
    try:
        files |= _draw_first_nine(dataset, folder)
    except MissingExtraError as error:
        reporter.message(str(error))
    write_results(files, force)
    return DatasetView(
        **dict(dataset_statistics(dataset)),
        image=ImageView(
            index=index,
            label=dataset.classes[dataset.train.labels[index]],
            shape=dataset.shape,
            pixels=image.tolist(),
            text=image_as_text(image),
        ),
        written=tuple(files),
    )


def _draw_first_nine(dataset: Dataset, folder: Path) -> dict[Path, bytes]:
    """A figure of nine training images, by its path. Raises MissingExtraError without matplotlib."""
    path = folder / f"{dataset.name}-first-nine.png"
    require_package("matplotlib", path.name)
    from convscope.report.figures import dataset_figure  # imports matplotlib

    return {path: dataset_figure(dataset).plot().png()}
