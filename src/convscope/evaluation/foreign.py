"""The images of a data set that a network was not trained on: preprocessed, and compared with its training images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from convscope.data.labeled import Changes
from convscope.images.comparison import image_features
from convscope.images.preprocessing import Preprocessing, was_framed, was_inverted
from convscope.images.read import DecodedImage

Images = NDArray[np.uint8]


class ForeignImages:
    """Preprocesses images of another data set chunk by chunk, and remembers what was changed and how they differ.

    Args:
        preprocessing: of the network.
        changes: how it changed the images before; None if it was not applied yet.
    """

    def __init__(self, preprocessing: Preprocessing, changes: Changes | None = None) -> None:
        self._preprocessing = preprocessing
        self._preprocessed = changes is not None
        self._inverted, self._framed = changes or Changes()
        self._count = 0
        self._features: list[NDArray[np.int64]] = []

    def transform(self, chunks: Iterable[Images]) -> Iterator[Images]:
        """Chunks of the network's input, from chunks of images uint8 (n, h, w, c) of any one size."""
        for images in chunks:
            pixels = images if self._preprocessed else self._transform(images)
            self._count += len(images)
            self._features.append(image_features(pixels))
            yield pixels

    def _transform(self, images: Images) -> Images:
        transformed = [self._preprocessing.transform(DecodedImage(image)) for image in images]
        self._inverted += sum(was_inverted(notes) for _, notes in transformed)
        self._framed += sum(was_framed(notes) for _, notes in transformed)
        return np.stack([pixels for pixels, _ in transformed])

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
