"""Images of a run's data set for the page: some test images, and training images with their features.

Nothing is decoded, unpacked or downloaded for it: a data set that is not at hand gives a note.
"""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convscope._reporting import Reporter
from convscope.data.dataset import Dataset, Split
from convscope.data.load import load_data
from convscope.data.types import Labels
from convscope.deploy.predictor import Predictor
from convscope.errors import ConvscopeError, DataError
from convscope.images.read import encode_png
from convscope.lab.server import Served

if TYPE_CHECKING:
    from convscope.runs.folder import Run

MAX_SAMPLES = 100
MAX_TRAINING_IMAGES = 10_000
SEED = 0


class RunImages:
    """Answers of the lab's server about the data set of a run, computed when they are asked for.

    Args:
        run: An open run.
        max_samples: Of the test images.
    """

    def __init__(self, run: Run, max_samples: int = MAX_SAMPLES) -> None:
        self._run, self._max_samples = run, max_samples
        self._lock = threading.Lock()  # each is computed once

    def answer(self, path: str) -> Served | None:
        """What the server answers to `/samples.json`, `/training.json`, `/training.f16` and `/training/INDEX.png`."""
        with self._lock:
            if path == "/samples.json":
                return Served("application/json", json.dumps(self.samples).encode(), {})
            if self.samples["note"]:
                return None
            if path == "/training.json":
                about = {"labels": self._training.labels.tolist(), "features": self._features.shape[1]}
                return Served("application/json", json.dumps(about).encode(), {})
            if path == "/training.f16":
                return Served("application/octet-stream", self._features.astype("<f2").tobytes(), {})
            return self._image(path)

    @cached_property
    def samples(self) -> dict[str, Any]:
        """Test images as `{"samples": [{"name", "label", "file"}], "note"}`; the note says why there are none."""
        try:
            dataset = self._dataset
        except ConvscopeError as error:
            return {"samples": [], "note": f"no images of the data set: {error}"}
        chosen = stratified(dataset.test.labels, self._max_samples)
        return {"samples": list(_encode(dataset, dataset.test, chosen)), "note": ""}

    @cached_property
    def _dataset(self) -> Dataset:
        """The run's data set. Raises DataError if it is not at hand as it was."""
        trained = self._run.config.dataset
        if not trained.path:
            raise DataError("the network was trained on data in memory")
        dataset = load_data(trained.path, trained.load_options, _AtHand())
        if dataset.fingerprint != trained.fingerprint:
            raise DataError(f"{trained.path} has changed since the training")
        return dataset

    @cached_property
    def _training(self) -> Split:
        train = self._dataset.train
        return train.take(stratified(train.labels, MAX_TRAINING_IMAGES))

    @cached_property
    def _features(self) -> NDArray[np.float32]:
        predictor = Predictor(self._run.model_file)
        return np.concatenate([predictor.features(images) for images in self._training.chunks()])

    def _image(self, path: str) -> Served | None:
        index = path.removeprefix("/training/").removesuffix(".png")
        if path != f"/training/{index}.png" or not index.isdecimal() or int(index) >= len(self._training):
            return None
        return Served("image/png", encode_png(self._training.image(int(index))), {})


class _AtHand(Reporter):
    """Ends a loading that would take long."""

    def message(self, text: str) -> None:
        """Say nothing."""

    def progress(self, *_: object) -> None:
        """Raise ConvscopeError: images would be decoded, files unpacked or downloaded."""
        raise ConvscopeError("they are no longer in the cache; convscope evaluate puts them there")


def stratified(labels: Labels, count: int) -> Labels:
    """The indices of up to `count` images, as many of each class as there are, in the order of the classes.

    Args:
        labels: (n,), the class of each image.
        count: Of all classes together.
    """
    shuffled = np.random.default_rng(SEED).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    classes, first = np.unique(labels[order], return_index=True)
    rank = np.arange(len(order)) - first[np.searchsorted(classes, labels[order])]
    chosen: Labels = order[np.sort(np.argsort(rank, kind="stable")[:count])]
    return chosen


def _encode(dataset: Dataset, split: Split, chosen: Labels) -> Iterable[dict[str, Any]]:
    for index in chosen.tolist():
        row = int(split.indices(np.array([index]))[0])
        name = dataset.files[row] if dataset.files else f"test image {index}"
        file = b64encode(encode_png(split.image(index))).decode()
        yield {"name": name, "label": int(split.labels[index]), "file": file}
