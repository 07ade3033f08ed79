"""The metadata of a model file, and the names of its input and outputs."""

from __future__ import annotations

from typing import Literal

from convscope._records import Record
from convscope.images.preprocessing import Preprocessing

INPUT, LOGITS, PROBABILITIES = "images", "logits", "probabilities"
METADATA_KEY = "convscope"


class ModelMetadata(Record):
    """Stored as JSON in the ONNX metadata under the key `convscope`.

    Attributes:
        format: Version of the model file.
        task: What the outputs mean: one class per image.
        classes: Class names in the order of the outputs.
        preprocessing: How images are turned into the input.
        architecture: The network in the architecture language.
    """

    format: Literal[1] = 1
    task: Literal["single-label"] = "single-label"
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    architecture: str

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Shapes for one image, by the names of the input and outputs."""
        record, outputs = self.preprocessing, [len(self.classes)]
        return {INPUT: [record.height, record.width, record.channels], LOGITS: outputs, PROBABILITIES: outputs}
