"""The metadata of a model file, its checksum, and the names of its input and outputs."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, EncodedBytes, EncoderProtocol, Field, model_validator

from convscope._records import Record
from convscope._text import escape_controls
from convscope.images.preprocessing import Preprocessing

INPUT, FEATURES, LOGITS, PROBABILITIES, OOD_SCORE = "images", "features", "logits", "probabilities", "ood_score"
FLOAT, UINT8, INT8, INT32, INT64, FLOAT16 = 1, 2, 3, 6, 7, 10  # ONNX's numbers of types
PRODUCER, OPSET, IR_VERSION = "convscope", 20, 9  # opset 20 is the first with Gelu
BATCH_AXIS = "n"  # name of the dynamic first axis
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0
MIN_EXPONENT, MAX_EXPONENT = 0.25, 4.0
METADATA_KEY, DIGEST_KEY = "convscope", "convscope.sha256"


def _check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("two classes have the same name")
    if any(escape_controls(name) != name for name in names):
        raise ValueError("a class name contains control characters")
    return names


class _Base64(EncoderProtocol):
    """RFC 4648 on one line, which every language decodes."""

    @classmethod
    def decode(cls, data: bytes) -> bytes:
        return b64decode(data, validate=True)

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return b64encode(value)

    @classmethod
    def get_json_format(cls) -> Literal["base64"]:
        return "base64"


OodStatistics = Literal["activations", "features"]
# All different, without control characters, in the order of the outputs.
ClassNames = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_check_names)]


class TemperatureScaling(Record):
    """What happens to logits before softmax, so that probabilities are what they claim.

    Each distance d from the largest logit becomes d ** exponent / temperature. With the exponent 1 that is softmax of
    logits / temperature (Guo et al., 2017). Other exponents keep the order of the classes, too (Rahimi et al., 2020).

    Attributes:
        temperature: 1 if it was not fitted.
        exponent: Above 1, small distances count less and large ones more.

    >>> TemperatureScaling(temperature=2).scale(np.array([[1, 5, 3]]))
    array([[-2.,  0., -1.]])
    """

    temperature: float = Field(default=1.0, ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)
    exponent: float = Field(default=1.0, ge=MIN_EXPONENT, le=MAX_EXPONENT)

    def scale(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """The input of softmax, float64 (n, classes), for logits (n, classes); the largest of a row becomes 0."""
        distances = logits.max(1, keepdims=True) - logits.astype(np.float64)
        result: NDArray[np.float64] = 0.0 - distances**self.exponent / self.temperature
        return result


class Rejection(Record):
    """When a model does not answer.

    Attributes:
        min_probability: An answer of a lower probability is "unsure"; None accepts any.
        max_ood_score: An image of a larger `ood_score` (out of distribution) is "unlike the training images"; None if
            the model file has no such output.
        ood_statistics: What the `ood_score` is computed from.
    """

    min_probability: float | None = Field(default=None, ge=0, le=1)
    max_ood_score: float | None = None
    ood_statistics: OodStatistics = "activations"


class GoldenInput(Record):
    """An image that is stored in the model file together with its answer.

    Attributes:
        name: For messages, such as `dark.png`.
        file: The encoded image file; Base64 in JSON.
        probabilities: One per class, as the trained network computed them.
    """

    name: str
    file: Annotated[bytes, EncodedBytes(encoder=_Base64)]
    probabilities: tuple[Annotated[float, Field(ge=0, le=1)], ...]


class TrainingInfo(Record):
    """What a model was trained on, and how.

    Attributes:
        dataset: Name of the data set.
        fingerprint: SHA-256 of its images, labels and class names.
        images: Number of training images.
        recipe: Name of the recipe.
        seed: Of the training.
    """

    dataset: str
    fingerprint: str
    images: int
    recipe: str
    seed: int


class TestInfo(Record):
    """How good a model is on the test images of its data set.

    Attributes:
        n: Their number.
        accuracy: 0..1.
        interval: Its 95 % Wilson interval.
        calibration_error: Expected calibration error, 0..1.
        answered: Fraction of the images that the model answers.
    """

    n: int
    accuracy: float
    interval: tuple[float, float]
    calibration_error: float
    answered: float


class ModelMetadata(Record):
    """Stored as JSON in the ONNX metadata under the key `convscope`.

    Attributes:
        format: Version of the model file.
        task: What the outputs mean: one class per image.
        classes: Class names in the order of the outputs; all different, without control characters.
        preprocessing: How images are turned into the input.
        architecture: The network in the architecture language.
        precision: "int8" if convolutions and dense layers compute with 8-bit integers.
        calibration: What happens to the logits before softmax.
        rejection: When the model does not answer.
        training: What it was trained on; None if that is unknown.
        test: How good it is; None if that was not measured, as for a training that was interrupted, and for int8.
        golden: Images with their answers, by which `convscope verify` tests the file.
    """

    format: Literal[1] = 1
    task: Literal["single-label"] = "single-label"
    classes: ClassNames
    preprocessing: Preprocessing
    architecture: str
    precision: Literal["float32", "int8"] = "float32"
    calibration: TemperatureScaling = TemperatureScaling()
    rejection: Rejection = Rejection()
    training: TrainingInfo | None = None
    test: TestInfo | None = None
    golden: tuple[GoldenInput, ...] = ()

    @model_validator(mode="after")
    def _check_golden(self) -> Self:
        if any(len(one.probabilities) != len(self.classes) for one in self.golden):
            raise ValueError("expected one probability per class in golden")
        return self

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the network's input."""
        return self.preprocessing.height, self.preprocessing.width, self.preprocessing.channels


def digest_entry(content: bytes | memoryview) -> bytes:
    """The last bytes of a model file: the SHA-256 of all bytes before them, as an entry of the ONNX metadata.

    Args:
        content: The serialized model without this entry.
    """
    key, value = DIGEST_KEY.encode(), hashlib.sha256(content).hexdigest().encode()
    entry = bytes([0x0A, len(key)]) + key + bytes([0x12, len(value)]) + value  # StringStringEntryProto: key, value
    return bytes([0x72, len(entry)]) + entry  # field 14 of ModelProto: metadata_props
