"""Which images a model answers: those like its training images, and others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from convscope._records import Record
from convscope.data.dataset import Split
from convscope.data.named import images_at_hand
from convscope.data.registry import SETS
from convscope.evaluation.proportion import Proportion, proportion
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage

Images = NDArray[np.uint8]

UNLIKE_IMAGES = 100  # of each kind


class Answers(Record):
    """What a model answers on `n` images.

    Attributes:
        images: What they show.
        n: Their number.
        answered: Fraction of the images with an answer.
        interval: Its 95 % Wilson interval.
        unsure: Fraction whose probability is too low.
        unlike: Fraction that is too unlike the training images.
        accuracy: Accuracy of the answers, if the classes are known and there are answers.
    """

    images: str
    n: int
    answered: float
    interval: tuple[float, float]
    unsure: float
    unlike: float
    accuracy: Proportion | None = None


def count_answers(statuses: Sequence[str], images: str, correct: NDArray[np.bool_] | None = None) -> Answers:
    """Count the answers.

    Args:
        statuses: Of each image, see `deploy.predictor.Prediction`; at least one.
        images: What they show.
        correct: (n,), whether the predicted class is the true one, if the network knows the classes.
    """
    found = np.array(statuses)
    answered = found == "answered"
    share = proportion(answered)
    return Answers(
        images=images,
        n=len(found),
        answered=share.accuracy,
        interval=share.interval,
        unsure=float((found == "unsure").mean()),
        unlike=float((found == "unlike").mean()),
        accuracy=None if correct is None or not answered.any() else proportion(correct[answered]),
    )


def unlike_images(preprocessing: Preprocessing, own: Split) -> Iterator[tuple[str, Images]]:
    """Images that no classifier should answer: what they show, and the network's input, uint8 (n, h, w, c).

    Args:
        preprocessing: Of the network.
        own: Images like those of training; their pixels are shuffled.
    """
    random = np.random.default_rng(0)
    shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
    colors = random.integers(0, 256, (UNLIKE_IMAGES, 1, 1, shape[2]), np.uint8)
    pixels = own.subsample(UNLIKE_IMAGES).images.reshape(-1, shape[0] * shape[1], shape[2])
    shuffled = np.stack([image[random.permutation(len(image))] for image in pixels])
    kinds = {
        "noise": random.integers(0, 256, (UNLIKE_IMAGES, *shape), np.uint8),
        "one color": np.broadcast_to(colors, (UNLIKE_IMAGES, *shape)),
        "own images, pixels shuffled": shuffled.reshape(-1, *shape),
    }
    for what, images in kinds.items():
        yield what, transform_images(preprocessing, images)


def other_images(preprocessing: Preprocessing, classes: Sequence[str]) -> Iterator[tuple[str, Images]]:
    """Test images of the named data sets on this machine: the name, and the network's input, uint8 (n, h, w, c).

    Args:
        preprocessing: Of the network.
        classes: Its classes. A data set that has one of them is left out.
    """
    for name, other in SETS.items():
        if not {one.casefold() for one in classes} & {one.casefold() for one in other.classes}:
            images = images_at_hand(name, UNLIKE_IMAGES)
            if images is not None:
                yield name, transform_images(preprocessing, images)


def transform_images(preprocessing: Preprocessing, images: Sequence[Images] | Images) -> Images:
    """The network's input, uint8 (n, h, w, c), of images uint8 (h, w, c) of any size, as `predict` transforms them."""
    return np.stack([pixels for pixels, _ in preprocessing.transform_each(map(DecodedImage, images))])
