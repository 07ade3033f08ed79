"""A pretrained backbone: one architecture line, its weights, and the images that it expects. Also its file format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, SkipValidation, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load, save

from convscope._records import Record, validation_reason
from convscope._text import MAX_QUOTED, reason_of
from convscope.errors import ArchitectureError, DataError
from convscope.images.preprocessing import Side
from convscope.network.folding import feature_tensors
from convscope.network.layers.base import shape_text

IMAGENET = "ImageNet-1k"
METADATA_KEY, DIGEST_KEY = "convscope.backbone", "convscope.sha256"
HEADER_BYTES = 8  # the length of a safetensors file's header, uint64


class Provenance(Record):
    """Where weights come from.

    Attributes:
        license: SPDX identifier; None if unknown.
        source: Who published them, and where.
        sha256: Of the original file.
        training_data: What they were trained on.
        top1: Accuracy on the validation images of ImageNet-1k as published, 0..1; None if unknown.
    """

    license: str | None
    source: str
    sha256: str
    training_data: str
    top1: float | None = Field(default=None, ge=0, le=1)


class BackboneInfo(Record):
    """A backbone without its weights, as stored in the metadata of its file.

    Attributes:
        format: Version of the file.
        name: What it is called in `--init`.
        architecture: The network without the classifier, batch normalization folded into the convolutions.
        image_size: Side, in pixels, of the square images that it was published for.
        channels: 1 gray, 3 RGB, 4 RGBA.
        scale: One factor per channel, see `mean`.
        mean: One number per channel: network input = float32(pixel) * scale - mean.
        provenance: Where the weights come from.
    """

    format: Literal[1] = 1
    name: str
    architecture: str
    image_size: Side
    channels: Literal[1, 3, 4]
    scale: tuple[float, ...]
    mean: tuple[float, ...]
    provenance: Provenance

    @model_validator(mode="after")
    def _check_one_value_per_channel(self) -> Self:
        if {len(self.scale), len(self.mean)} != {self.channels}:
            raise ValueError(f"expected {self.channels} values in scale and mean, one per channel")
        return self

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images that it was published for."""
        return self.image_size, self.image_size, self.channels


class PretrainedBackbone(BackboneInfo):
    """A backbone with its weights.

    Attributes:
        weights: Float32 arrays with the names and shapes that `get_weights` gives for the architecture, without the
            classifier's; counts of batches are int64.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    weights: SkipValidation[Mapping[str, NDArray[Any]]] = Field(repr=False, exclude=True)

    def to_bytes(self) -> bytes:
        """The content of a safetensors file that describes itself; the same backbone always gives the same bytes."""
        weights = {name: np.array(array, order="C") for name, array in self.weights.items()}
        info = BackboneInfo.model_validate(self.model_dump()).model_dump_json()
        content = save(weights)
        return _with_metadata(content, {METADATA_KEY: info, DIGEST_KEY: _digest(info, content)})


def is_safetensors(content: bytes) -> bool:
    """Whether a file starts as safetensors files do: with the length of its header, and a header in JSON."""
    return content[HEADER_BYTES : HEADER_BYTES + 1] == b"{"


def is_backbone(content: bytes) -> bool:
    """Whether a file starts as those of `PretrainedBackbone.to_bytes` do."""
    return is_safetensors(content) and METADATA_KEY.encode() in _header_text(content)


def read_backbone(content: bytes) -> PretrainedBackbone:
    """The backbone in the content of a file that `PretrainedBackbone.to_bytes` wrote.

    Raises:
        DataError: The content is damaged, was written by another program, or its weights do not fit the architecture;
            the message does not name the file.
    """
    if not is_safetensors(content):
        raise DataError(
            "expected a .safetensors file that convscope wrote: convscope backbones add takes other formats"
        )
    try:
        weights = load(content)
        metadata = json.loads(_header_text(content)).get("__metadata__", {})
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataError("the safetensors file is truncated or damaged: get it again") from error
    if METADATA_KEY not in metadata:
        raise DataError(
            "expected weights with their architecture, but these are weights alone: "
            "convscope backbones add FILE --as NAME adds them"
        )
    if metadata.get(DIGEST_KEY) != _digest(metadata[METADATA_KEY], content):
        raise DataError("its content does not match its checksum: the file is damaged, get it again")
    try:
        info = BackboneInfo.model_validate_json(metadata[METADATA_KEY])
    except ValidationError as error:
        raise DataError(f"this version of convscope cannot read it ({validation_reason(error)})") from error
    return with_weights(info, weights)


def with_weights(info: BackboneInfo, weights: Mapping[str, NDArray[Any]]) -> PretrainedBackbone:
    """A backbone with its weights, in the order of its layers.

    Raises:
        DataError: The weights are not finite or do not fit the architecture; the message does not name a file.
    """
    try:
        expected = feature_tensors(info.architecture, info.input_shape)
    except ArchitectureError as error:
        raise DataError(f"its architecture cannot be used: {reason_of(error)}") from error
    if odd := [*(expected.keys() - weights.keys()), *(weights.keys() - expected.keys())]:
        raise DataError(
            f"its weights are not those of its architecture: {min(odd)[:MAX_QUOTED]!r} is missing or left over"
        )
    for name, shape in expected.items():
        array, kind = weights[name], np.float32 if shape else np.int64
        if array.shape != shape or array.dtype != kind:
            found = f"{array.dtype} {shape_text(array.shape)}"
            raise DataError(f"its weights {name!r} are {found}, expected {np.dtype(kind)} {shape_text(shape)}")
        if not np.isfinite(array).all():
            raise DataError(f"its weights {name!r} are not all finite numbers")
    return PretrainedBackbone(**info.model_dump(), weights={name: weights[name] for name in expected})


def _with_metadata(content: bytes, metadata: dict[str, str]) -> bytes:
    """A safetensors file with metadata, which `save` would write in a random order."""
    entries, size = json.dumps({"__metadata__": metadata}), HEADER_BYTES + _header_size(content)
    header = entries[:-1].encode() + b"," + content[HEADER_BYTES + 1 : size].rstrip()
    header += b" " * (-len(header) % 8)  # weights are aligned to 8 bytes
    return len(header).to_bytes(HEADER_BYTES, "little") + header + content[size:]


def _header_text(content: bytes) -> bytes:
    return content[HEADER_BYTES : HEADER_BYTES + _header_size(content)]


def _header_size(content: bytes) -> int:
    return int.from_bytes(content[:HEADER_BYTES], "little")


def _digest(info: str, content: bytes) -> str:
    """SHA-256 of the description and of all weights of a safetensors file."""
    weights = memoryview(content)[HEADER_BYTES + _header_size(content) :]
    return hashlib.sha256(info.encode() + weights).hexdigest()
