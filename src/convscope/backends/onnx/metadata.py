"""What a model file says about itself, and how its inputs and outputs are called."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from convscope.images.preprocessing import Preprocessing

INPUT, LOGITS, PROBABILITIES = "images", "logits", "probabilities"
METADATA_KEY = "convscope"


class Metadata(BaseModel):
    """Stored as JSON under the ONNX metadata key `convscope`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    architecture: str

    @property
    def shapes(self) -> dict[str, list[int]]:
        """The shape of one image and of one answer, by the name of the graph's input and outputs."""
        record, scores = self.preprocessing, [len(self.classes)]
        return {INPUT: [record.height, record.width, record.channels], LOGITS: scores, PROBABILITIES: scores}
