"""Predict with a model file: onnxruntime, NumPy and Pillow, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import computed_field

from convscope._files import kind_of
from convscope._records import Record
from convscope.backends.onnx.metadata import FEATURES, LOGITS, OOD_SCORE, PROBABILITIES
from convscope.backends.onnx.read import read_model_file
from convscope.deploy.prepare import ImageSource, PreparedImage, prepare_images
from convscope.deploy.session import open_session, run_session
from convscope.errors import DataError, ModelFileError
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage

Status = Literal["answered", "unsure", "unlike"]
BATCH_SIZE = 1000  # images per call of onnxruntime, which bounds the memory for feature maps


class Prediction(Record):
    """The classification of one image.

    Attributes:
        image: Path of the image, or "image" if it was given as an array.
        status: "answered"; "unsure" if the probability of the most likely class is too low to answer; or "unlike" if
            the image is unlike the training images. The model file holds the limits.
        probabilities: Probability of each class, most likely first; they sum to 1.
        notes: What preprocessing did to the image, such as "resized 60x80 -> 28x28".
    """

    image: str
    status: Status = "answered"
    probabilities: dict[str, float]
    notes: tuple[str, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        """The most likely class; of equally likely classes the first."""
        return next(iter(self.probabilities))

    @property
    def probability(self) -> float:
        """The probability of the most likely class."""
        return self.probabilities[self.label]


class PredictionList(Record):
    """The classifications of several images, as `convscope predict --json` prints them."""

    predictions: tuple[Prediction, ...]


class Predictor:
    """Classifies images with a trained model file.

    Args:
        source: A `model.onnx`, or a run folder, which is verified as a whole.

    Attributes:
        path: The model file.
        metadata: Classes, preprocessing and architecture, which the model file stores along with the network.

    Raises:
        ModelFileError: The file or folder does not exist, is damaged, was altered, or was not written by convscope.
    """

    def __init__(self, source: str | Path) -> None:
        path = Path(source)
        if kind_of(path, ModelFileError) == "folder":
            from convscope.runs.folder import open_run  # here, because a model file does not need it

            path = open_run(path).model_file
        self.path = path
        file = read_model_file(self.path)
        self.metadata = file.metadata
        self._session = open_session(file.content, self.path)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        return self.metadata.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input."""
        return self.metadata.preprocessing

    def predict(self, images: ImageSource | Sequence[ImageSource], *, max_megapixels: float = 25.0) -> list[Prediction]:
        """Classify images of any size.

        Args:
            images: One image or a list of them: paths ("-" is standard input), bytes of files, PIL images, or uint8
                arrays (height, width) or (height, width, channels).
            max_megapixels: Reject larger images.

        Returns:
            One prediction per image, in order.

        Raises:
            DataError: An image cannot be read (the message names it), or there is none.
        """
        sources = images if isinstance(images, list | tuple) else [cast("ImageSource", images)]
        if not sources:
            raise DataError("expected at least one image to classify, got none")
        found = []
        for outcome in self.predict_each(sources, max_megapixels=max_megapixels):
            if isinstance(outcome, DataError):
                raise outcome
            found.append(outcome)
        return found

    def predict_each(
        self, images: Iterable[ImageSource], *, max_megapixels: float = 25.0
    ) -> Iterator[Prediction | DataError]:
        """Classify any number of images; only a few are in memory at a time.

        Args:
            images: As in `predict`, also a generator.
            max_megapixels: Reject larger images.

        Yields:
            For each image in order, its prediction, or the error if it cannot be read.
        """
        for batch in prepare_images(images, self.preprocessing, max_megapixels):
            found = iter(self.classify([one for one in batch if not isinstance(one, DataError)]))
            yield from (one if isinstance(one, DataError) else next(found) for one in batch)

    def predict_images(self, images: Sequence[DecodedImage]) -> list[Prediction]:
        """Classify images that `read_image` has decoded; see `predict`."""
        if len(images) == 0:
            raise DataError("expected at least one image to classify, got none")
        return self.classify([PreparedImage(image.name, *self.preprocessing.transform(image)) for image in images])

    def classify(self, images: Sequence[PreparedImage]) -> list[Prediction]:
        """Classify images that `prepare_images` has prepared, in one batch; none give no predictions."""
        if not images:
            return []
        pixels = np.stack([image.pixels for image in images])
        typical = self.preprocessing.typical
        warnings = typical.warn_each(pixels) if typical else [()] * len(images)
        probabilities, *scores = self._run(pixels, PROBABILITIES, *([OOD_SCORE] if self.has_ood_score else []))
        statuses = self.statuses(probabilities, scores[0][:, 0] if scores else None)
        return [
            Prediction(image=image.name, status=status, probabilities=self._ranked(row), notes=(*image.notes, *warning))
            for image, row, status, warning in zip(images, probabilities, statuses, warnings, strict=True)
        ]

    @property
    def has_ood_score(self) -> bool:
        """Whether the model file tells how unlike the training images an image is."""
        return self.metadata.rejection.max_ood_score is not None

    def statuses(self, probabilities: NDArray[np.float32], ood_scores: NDArray[np.float32] | None) -> list[Status]:
        """Whether the model answers, for n images.

        Args:
            probabilities: (n, classes), see `predict_proba`.
            ood_scores: (n,), see the method of this name; None if the model file has none.
        """
        limits = self.metadata.rejection
        unsure = probabilities.max(1) < (limits.min_probability or 0)
        if ood_scores is None or limits.max_ood_score is None:
            unlike = np.zeros(len(probabilities), bool)
        else:
            unlike = ood_scores > limits.max_ood_score
        return ["unlike" if u else "unsure" if s else "answered" for u, s in zip(unlike, unsure, strict=True)]

    def predict_logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The network's outputs before softmax.

        Args:
            images: uint8 (n, height, width, channels) of the network's input size, n at least 1.

        Returns:
            float32 (n, classes).

        Raises:
            DataError: The array has another dtype or shape.
        """
        return self._run(images, LOGITS)[0]

    def predict_proba(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities, float32 (n, classes), of images as in `predict_logits`."""
        return self._run(images, PROBABILITIES)[0]

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The input of the classifier, float32 (n, features), of images as in `predict_logits`."""
        return self._run(images, FEATURES)[0]

    def ood_scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """How unlike the training images are, float32 (n,), for images as in `predict_logits`; larger is less alike.

        Raises:
            ModelFileError: The model file has no such output.
        """
        if not self.has_ood_score:
            raise ModelFileError(f"{self.path} does not tell how unlike its training images an image is: train again")
        return self._run(images, OOD_SCORE)[0][:, 0]

    def _run(self, images: NDArray[np.uint8], *outputs: str) -> list[NDArray[np.float32]]:
        expected = (self.preprocessing.height, self.preprocessing.width, self.preprocessing.channels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected or len(images) == 0:
            wanted = f"uint8 images (n, {', '.join(map(str, expected))})"
            raise DataError(f"expected {wanted}, got {images.dtype} {images.shape}: use predict() for other images")
        batches = (images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE))
        parts = [run_session(self._session, self.path, outputs, batch) for batch in batches]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def _ranked(self, probabilities: NDArray[np.float32]) -> dict[str, float]:
        """Probabilities (classes,) by class name, largest first."""
        order = np.argsort(-probabilities, kind="stable").tolist()
        classes, values = self.classes, probabilities.tolist()
        return {classes[i]: values[i] for i in order}
