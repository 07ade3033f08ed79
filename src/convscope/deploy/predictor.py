"""Predict with a model file: onnxruntime, NumPy and Pillow, no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from convscope._files import kind_of
from convscope._hardware import max_threads
from convscope._reporting import Reporter
from convscope._text import list_some
from convscope.backends.onnx.metadata import FEATURES, LOGITS, OOD_SCORE, PROBABILITIES
from convscope.backends.onnx.prune import without_ood_score
from convscope.backends.onnx.read import read_model_file
from convscope.backends.onnx.session import Session, open_session, run_session
from convscope.deploy.prediction import Prediction, Predictions, Status
from convscope.deploy.prepare import BATCH_SIZE, BatchOptions, PreparedImage, prepare_images
from convscope.deploy.sources.find import find_images
from convscope.deploy.sources.items import EncodedImage, ImageSource, PassedOver
from convscope.deploy.sources.read import read_archives
from convscope.errors import DataError, ImageError, ModelFileError, UsageError
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage

NO_IMAGES = "expected at least one image to classify, got none"
MAX_MEGAPIXELS = 25.0
IMAGES_PER_THREAD = 32  # of an array, per call of onnxruntime; the feature maps of more leave the processor's cache
BATCH_AXES = 4  # of an array that holds several images
SINGLE_SOURCES = (str, Path, bytes, np.ndarray, EncodedImage)
Images: TypeAlias = "ImageSource | Iterable[ImageSource]"


class Predictor:
    """Classifies images with a trained model file.

    Args:
        source: A `model.onnx`; a run folder, which is verified as a whole; or a JSON file that describes a model that
            convscope did not train, see `deploy.foreign.record.ForeignModel`.
        threads: How many threads decode and compute; by default one per core.

    Attributes:
        path: The model file.
        metadata: Classes, preprocessing and architecture, which the model file stores along with the network.
        sha256: Of the model file; of a foreign model, of its record and its file together.

    Raises:
        ModelFileError: The file or folder does not exist, is damaged, was altered, or was not written by convscope.
        UsageError: `threads` is below 1.

    A predictor can be copied and pickled, for example for another process: the copy opens the file again.

    >>> from convscope import train_model
    >>> run = train_model("digits", epochs=1, run="my-digits")
    >>> predictor = Predictor(run.model_file)
    >>> image = np.zeros((30, 20), np.uint8)  # or a path, a folder, an archive, ...
    >>> [prediction.label in predictor.classes for prediction in predictor.predict([image, image])]
    [True, True]
    >>> predictor.predict_proba(image).shape, predictor.features(image).dtype
    ((1, 10), dtype('float32'))
    """

    def __init__(self, source: str | Path, *, threads: int | None = None) -> None:
        path = Path(source)
        if kind_of(path, ModelFileError) == "folder":
            from convscope.runs.folder import open_run  # here, because a model file does not need it

            path = open_run(path).model_file
        if threads is not None and threads < 1:
            raise UsageError(f"threads: expected at least 1, got {threads}")
        self.path = path
        self.threads = threads or max_threads()
        self._session: Session
        self._content = b""
        if path.suffix.lower() == ".json":
            from convscope.deploy.foreign.session import ForeignSession  # here, because other models do not need it

            self._session = ForeignSession(path, threads)
            self.metadata, self.sha256 = self._session.metadata, self._session.sha256
        else:
            file = read_model_file(path)
            self.metadata, self.sha256 = file.metadata, hashlib.sha256(file.content).hexdigest()
            self._session = open_session(file.content, path, threads)
            self._content = file.content if self.has_ood_score else b""

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), threads=self.threads), (self.path,)

    def __repr__(self) -> str:
        return f"Predictor({str(self.path)!r}): {len(self.classes)} classes, {list_some(self.classes)}"

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        return self.metadata.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the network's input."""
        return self.metadata.preprocessing

    def predict(
        self, images: Images, *, max_megapixels: float = MAX_MEGAPIXELS, batch_size: int = BATCH_SIZE
    ) -> Predictions:
        """Classify images of any size.

        Args:
            images: One or more of these: the path of an image, a folder of images, a .zip or a .tar; a pattern such as
                "photos/**/*.jpg"; "-", an image on standard input; an open image file or its bytes; a PIL image; a
                uint8 array (height, width) or (height, width, channels). Or a uint8 array (n, height, width, channels).
            max_megapixels: Reject larger images.
            batch_size: How many images the network gets at once.

        Returns:
            A list with one prediction per image, in order.

        Raises:
            DataError: An image cannot be read (the message names it), or there is none. `predict_each` goes on instead.
        """
        found = Predictions()
        for outcome in self.predict_each(images, max_megapixels=max_megapixels, batch_size=batch_size):
            if isinstance(outcome, DataError):
                raise outcome
            found.append(outcome)
        if not found:
            raise DataError(NO_IMAGES)
        return found

    def predict_each(
        self, images: Images, *, max_megapixels: float = MAX_MEGAPIXELS, batch_size: int = BATCH_SIZE
    ) -> Iterator[Prediction | ImageError]:
        """Classify any number of images; only a few are in memory at a time.

        What a folder or archive contains apart from images is reported by a warning.

        Args:
            images: As in `predict`, also a generator.
            max_megapixels: Reject larger images.
            batch_size: How many images the network gets at once.

        Yields:
            For each image in order, its prediction, or the error if it cannot be read; its `image` is the name.
        """
        options = BatchOptions(max_megapixels, batch_size, self.threads)
        yield from self.predict_found(_expand(images), options)

    def predict_found(
        self, images: Iterable[ImageSource | ImageError], options: BatchOptions
    ) -> Iterator[Prediction | ImageError]:
        """Classify single images; see `predict_each`, which also accepts folders."""
        for batch in prepare_images(images, self.preprocessing, options):
            found = iter(self.classify([one for one in batch if not isinstance(one, ImageError)]))
            yield from (one if isinstance(one, ImageError) else next(found) for one in batch)

    def predict_images(self, images: Sequence[DecodedImage]) -> list[Prediction]:
        """Classify images that `read_image` has decoded; see `predict`."""
        if len(images) == 0:
            raise DataError(NO_IMAGES)
        return self.classify([PreparedImage(image.name, *self.preprocessing.transform(image)) for image in images])

    def classify(self, images: Sequence[PreparedImage]) -> list[Prediction]:
        """Classify images that `prepare_images` has prepared, in one batch; none give no predictions."""
        if not images:
            return []
        pixels = np.stack([image.pixels for image in images])
        typical = self.preprocessing.typical
        warnings = typical.warn_each(pixels) if typical else [()] * len(images)
        probabilities, statuses = self.predict_statuses(pixels)
        return [
            Prediction(image=image.name, status=status, probabilities=self._ranked(row), notes=(*image.notes, *warning))
            for image, row, status, warning in zip(images, probabilities, statuses, warnings, strict=True)
        ]

    @property
    def has_ood_score(self) -> bool:
        """Whether the model file tells how unlike the training images an image is."""
        return self.metadata.rejection.max_ood_score is not None

    def predict_statuses(self, images: Images) -> tuple[NDArray[np.float32], list[Status]]:
        """Class probabilities, float32 (n, classes), and whether the model answers; see `predict_logits`."""
        (probabilities,), statuses = self._run_with_statuses(images)
        return probabilities, statuses

    def predict_logits_and_statuses(self, images: Images) -> tuple[NDArray[np.float32], list[Status]]:
        """The network's outputs, float32 (n, classes), and whether the model answers; see `predict_logits`."""
        (_, logits), statuses = self._run_with_statuses(images, LOGITS)
        return logits, statuses

    def _run_with_statuses(self, images: Images, *outputs: str) -> tuple[list[NDArray[np.float32]], list[Status]]:
        """Probabilities and other outputs, and whether the model answers."""
        scored = [OOD_SCORE] if self.has_ood_score else []
        probabilities, *found = self._run(images, PROBABILITIES, *outputs, *scored)
        limits = self.metadata.rejection
        unsure = probabilities.max(1) < (limits.min_probability or 0)
        unlike = np.zeros(len(probabilities), bool)
        if limits.max_ood_score is not None:
            unlike = found.pop()[:, 0] > limits.max_ood_score
        statuses: list[Status] = [
            "unlike" if u else "unsure" if s else "answered" for u, s in zip(unlike, unsure, strict=True)
        ]
        return [probabilities, *found], statuses

    def predict_logits(self, images: Images) -> NDArray[np.float32]:
        """The network's outputs before softmax.

        Args:
            images: As in `predict`; or what preprocessing has made of n images, uint8 (n, height, width, channels)
                of the network's input size, which is used as it is.

        Returns:
            float32 (n, classes).

        Raises:
            DataError: An image cannot be read, the array has another dtype or shape, or there is no image.
        """
        return self._run(images, LOGITS)[0]

    def predict_proba(self, images: Images) -> NDArray[np.float32]:
        """Class probabilities, float32 (n, classes), columns in the order of `classes`; see `predict_logits`."""
        return self._run(images, PROBABILITIES)[0]

    def features(self, images: Images) -> NDArray[np.float32]:
        """The input of the classifier, float32 (n, features), for "have I seen this?"; see `predict_logits`."""
        return self._run(images, FEATURES)[0]

    def ood_scores(self, images: Images) -> NDArray[np.float32]:
        """How unlike the training images are, float32 (n,); larger means more unlike; see `predict_logits`.

        Raises:
            ModelFileError: The model file has no such output.
        """
        if not self.has_ood_score:
            raise ModelFileError(f"{self.path} does not tell how unlike its training images an image is: train again")
        return self._run(images, OOD_SCORE)[0][:, 0]

    @cached_property
    def _session_without_ood(self) -> Session:
        """For other outputs: computing the score takes a third of the time of a small network."""
        session = self._session
        if self._content:
            session = open_session(without_ood_score(self._content), self.path, self.threads)
            self._content = b""
        return session

    def _run(self, images: Images, *outputs: str) -> list[NDArray[np.float32]]:
        """Some outputs for images as in `predict_logits`."""
        session = self._session if OOD_SCORE in outputs else self._session_without_ood
        parts = [run_session(session, self.path, outputs, batch) for batch in self._batches(images)]
        if not parts:
            raise DataError(NO_IMAGES)
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def _batches(self, images: Images) -> Iterator[NDArray[np.uint8]]:
        """The network's inputs, (n, height, width, channels)."""
        if isinstance(images, np.ndarray) and images.ndim > 3:
            self._check_shape(images)
            size = IMAGES_PER_THREAD * self.threads
            yield from (images[at : at + size] for at in range(0, len(images), size))
            return
        options = BatchOptions(MAX_MEGAPIXELS, BATCH_SIZE, self.threads)
        for batch in prepare_images(_expand(images), self.preprocessing, options):
            for outcome in batch:
                if isinstance(outcome, ImageError):
                    raise outcome
            yield np.stack([image.pixels for image in batch if isinstance(image, PreparedImage)])

    def _check_shape(self, images: NDArray[np.uint8]) -> None:
        expected = (self.preprocessing.height, self.preprocessing.width, self.preprocessing.channels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected or len(images) == 0:
            wanted = f"uint8 images (n, {', '.join(map(str, expected))})"
            raise DataError(f"expected {wanted}, got {images.dtype} {images.shape}: pass a list for images of any size")

    def _ranked(self, probabilities: NDArray[np.float32]) -> dict[str, float]:
        """Probabilities (classes,) by class name, largest first."""
        order = np.argsort(-probabilities, kind="stable").tolist()
        classes, values = self.classes, probabilities.tolist()
        return {classes[i]: values[i] for i in order}


def _expand(images: Images) -> Iterator[ImageSource | ImageError]:
    """Single images, and errors of what cannot be read; a message at the end counts what was passed over."""
    is_one = isinstance(images, SINGLE_SOURCES) or hasattr(images, "read") or not isinstance(images, Iterable)
    is_batch = isinstance(images, np.ndarray) and images.ndim == BATCH_AXES
    sources = cast("Iterable[ImageSource]", [images] if is_one and not is_batch else images)
    passed_over = PassedOver()
    yield from read_archives(find_images(sources, passed_over), passed_over)
    for text in passed_over.messages:
        Reporter().message(text)
