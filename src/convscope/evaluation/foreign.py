"""The images of a data set that a network was not trained on: preprocessed, and compared with its training images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from convscope.images.comparison import image_features
from convscope.images.preprocessing import FRAMED_NOTE, INVERTED_NOTE, Preprocessing
from convscope.images.read import DecodedImage

Images = NDArray[np.uint8]


class ForeignImages:
    """Preprocesses images of another data set chunk by chunk, and remembers what was changed and how they differ.

    Args:
        preprocessing: of the network.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._preprocessing = preprocessing
        self._count = self._framed = self._inverted = 0
        self._features: list[NDArray[np.int64]] = []

    def transform(self, chunks: Iterable[Images]) -> Iterator[Images]:
        """Chunks of the network's input, from chunks of images uint8 (n, h, w, c) of any one size."""
        for images in chunks:
            transformed = [self._preprocessing.transform(DecodedImage(image)) for image in images]
            self._count += len(images)
            self._framed += sum(any(FRAMED_NOTE in note for note in notes) for _, notes in transformed)
            self._inverted += sum(any(INVERTED_NOTE in note for note in notes) for _, notes in transformed)
            pixels = np.stack([pixels for pixels, _ in transformed])
            self._features.append(image_features(pixels))
            yield pixels

    def messages(self) -> Iterator[str]:
        """One line for each thing that the user of the result should know."""
        of_all = f"of {self._count:,} images were"
        frame, typical = self._preprocessing.frame, self._preprocessing.typical
        if self._inverted:
            yield f"{self._inverted:,} {of_all} inverted to the {self._preprocessing.polarity} background of training"
        if self._framed and frame:
            yield (
                f"{self._framed:,} {of_all} redrawn in the frame of the training images: "
                f"ink of {frame.side} pixels, centered by mass"
            )
        if self._count and typical and (difference := typical.describe_set(np.concatenate(self._features))):
            yield f"these images differ from the training images: {difference}"
