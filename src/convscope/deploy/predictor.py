"""Predict with a model file: onnxruntime, NumPy and Pillow, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import ValidationError

from convscope.backends.onnx.metadata import INPUT, LOGITS, METADATA_KEY, PROBABILITIES, Metadata
from convscope.errors import DataError, ModelFileError
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage, read_image

SCORING_BATCH = 1000


@dataclass(frozen=True)
class Prediction:
    """The classes of one picture with their probabilities (which sum to 1), most likely first.

    `notes` says what was done to the picture before the network saw it.
    """

    name: str
    probabilities: dict[str, float]
    notes: tuple[str, ...]

    @property
    def label(self) -> str:
        """The most likely class."""
        return next(iter(self.probabilities))

    @property
    def probability(self) -> float:
        """The probability of the most likely class."""
        return self.probabilities[self.label]


class Predictor:
    """A model file, ready to answer.

    `source` is a `model.onnx` or a run folder that holds one. Raises ModelFileError when it is not a model file that
    convscope wrote.
    """

    def __init__(self, source: str | Path) -> None:
        path = Path(source)
        path = path / "model.onnx" if path.is_dir() else path
        if not path.is_file():
            raise ModelFileError(f"expected a run folder or a model.onnx, but {path} is not there: train one first")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # its complaints come as exceptions too, and one message is enough
        try:
            self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes share no public base
            raise ModelFileError(
                f"{path} is not a readable ONNX file: put it back from a copy, or train again"
            ) from error
        self.path, self.metadata = path, _metadata(self._session, path)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return self.metadata.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to pixels before the network sees them."""
        return self.metadata.preprocessing

    def scores(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits and probabilities, each float32 (n, classes), of uint8 images (n, h, w, c) of the network's size."""
        expected = (self.preprocessing.height, self.preprocessing.width, self.preprocessing.channels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected or len(images) == 0:
            wanted = f"uint8 images (n, {', '.join(map(str, expected))})"
            raise DataError(f"expected {wanted}, got {images.dtype} {images.shape}: use predict() for other pictures")
        parts = [
            self._session.run([LOGITS, PROBABILITIES], {INPUT: images[first : first + SCORING_BATCH]})
            for first in range(0, len(images), SCORING_BATCH)
        ]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def predict(self, pictures: Sequence[Any] | Any, *, max_megapixels: float = 25.0) -> list[Prediction]:
        """Classify pictures of any size and form: paths, PIL images or uint8 arrays (h, w) or (h, w, c).

        Raises DataError, naming the picture, for one that cannot be read.
        """
        many: Sequence[Any] = pictures if isinstance(pictures, list | tuple) else [pictures]
        if len(many) == 0:
            raise DataError("expected at least one picture to classify, got none")
        read = [read_image(picture, max_megapixels=max_megapixels) for picture in many]
        return self.predict_read(read)

    def predict_read(self, pictures: Sequence[DecodedImage]) -> list[Prediction]:
        """Classify pictures that `read_image` has read."""
        arranged = [self.preprocessing.transform(picture) for picture in pictures]
        _, probabilities = self.scores(np.stack([pixels for pixels, _ in arranged]))
        return [
            Prediction(picture.name, self._ranked(row), notes)
            for picture, (_, notes), row in zip(pictures, arranged, probabilities, strict=True)
        ]

    def _ranked(self, probabilities: NDArray[np.float32]) -> dict[str, float]:
        order = np.argsort(-probabilities, kind="stable")
        return {self.classes[i]: float(probabilities[i]) for i in order}


def _metadata(session: onnxruntime.InferenceSession, path: Path) -> Metadata:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelFileError(f"{path} was not written by convscope: its metadata has no {METADATA_KEY!r} entry")
    try:
        metadata = Metadata.model_validate_json(text)
    except ValidationError as error:
        raise ModelFileError(
            f"{path} carries metadata that this version cannot read: train again, or update"
        ) from error
    found = {value.name: value.shape[1:] for value in (*session.get_inputs(), *session.get_outputs())}
    if found != metadata.shapes:
        raise ModelFileError(
            f"{path} was altered: its graph has {found}, but its metadata says {metadata.shapes}: "
            "put it back from a copy, or train again"
        )
    return metadata
