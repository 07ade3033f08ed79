"""The metadata of a model file, its checksum, and the names of its input and outputs."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from convscope._records import Record
from convscope._text import escape_controls
from convscope.images.preprocessing import Preprocessing

INPUT, LOGITS, PROBABILITIES = "images", "logits", "probabilities"
PRODUCER, OPSET, IR_VERSION = "convscope", 20, 9  # opset 20 is the first with Gelu
BATCH_AXIS = "n"  # name of the dynamic first axis
METADATA_KEY, DIGEST_KEY = "convscope", "convscope.sha256"


def _check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("two classes have the same name")
    if any(escape_controls(name) != name for name in names):
        raise ValueError("a class name contains control characters")
    return names


# All different, without control characters, in the order of the outputs.
ClassNames = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_check_names)]


class ModelMetadata(Record):
    """Stored as JSON in the ONNX metadata under the key `convscope`.

    Attributes:
        format: Version of the model file.
        task: What the outputs mean: one class per image.
        classes: Class names in the order of the outputs; all different, without control characters.
        preprocessing: How images are turned into the input.
        architecture: The network in the architecture language.
    """

    format: Literal[1] = 1
    task: Literal["single-label"] = "single-label"
    classes: ClassNames
    preprocessing: Preprocessing
    architecture: str

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
