"""What a user writes down about a classifier that convscope did not train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from convscope._files import kind_of, open_regular
from convscope._records import Record, validation_reason
from convscope.backends.onnx.metadata import ClassNames, ModelMetadata
from convscope.errors import DataError, ModelFileError
from convscope.images.fit import Fit
from convscope.images.preprocessing import Preprocessing, Side

DOCUMENTATION = "docs/foreign-models.md"
MAX_REASONS = 20  # more than there are fields
MAX_RECORD_BYTES, MAX_MODEL_BYTES = 10**7, 2**31 - 1
Positive = Annotated[float, Field(gt=0)]


def _require_list(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list with one number per channel")
    return value


ONE_PER_CHANNEL = BeforeValidator(_require_list)


class ForeignModel(Record):
    """A JSON file next to an ONNX file: how images become its input, and what its output means.

    Network input = (pixel / `divide_by` - `mean`) / `std`, per channel.

    Attributes:
        model: The ONNX file, relative to this one.
        classes: Class names in the order of the output.
        height: Of the input, in pixels.
        width: Of the input, in pixels.
        channels: 1 gray, 3 color.
        fit: How an image of another aspect ratio is fitted in; see `Preprocessing`.
        divide_by: What pixels, 0..255, are divided by first.
        mean: One per channel, in the order in which the network gets the channels.
        std: One per channel.
        color_order: In which order the network gets the channels.
        layout: The order of the input's axes: n images, c channels, h rows, w columns.
        input: The name of the input; not needed if there is only one.
        output: The name of the output (n, classes); not needed if there is only one.
        output_kind: Whether the output still needs softmax.
        max_memory_gb: Address space of the process that runs the model.
        timeout: Seconds after which loading the model, or classifying a batch, is given up.
    """

    model: Path
    classes: ClassNames
    height: Side
    width: Side
    channels: Literal[1, 3]
    fit: Fit = "crop"
    divide_by: Positive = 255.0
    mean: Annotated[tuple[float, ...], ONE_PER_CHANNEL]
    std: Annotated[tuple[Positive, ...], ONE_PER_CHANNEL]
    color_order: Literal["RGB", "BGR"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    input: str | None = None
    output: str | None = None
    output_kind: Literal["logits", "probabilities"]
    max_memory_gb: float = Field(default=4.0, ge=1, le=1024)
    timeout: float = Field(default=60.0, ge=0.1, le=3600)

    @model_validator(mode="after")
    def _check_one_value_per_channel(self) -> Self:
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.channels:
                raise ValueError(f"expected {self.channels} values in {name}, one per channel")
        return self

    @property
    def metadata(self) -> ModelMetadata:
        """The record in the form of a model file's metadata."""
        preprocessing = Preprocessing(
            height=self.height,
            width=self.width,
            channels=self.channels,
            fit=self.fit,
            fill=(0,) * self.channels,
            polarity="mixed",
            scale=tuple(1 / (self.divide_by * std) for std in self.std),
            mean=tuple(mean / std for mean, std in zip(self.mean, self.std, strict=True)),
        )
        return ModelMetadata(classes=self.classes, preprocessing=preprocessing, architecture="")


def read_foreign(path: Path) -> tuple[ForeignModel, bytes]:
    """The record in a JSON file, and the content of the ONNX file that it names.

    Raises:
        ModelFileError: One of them is missing, cannot be read, or is not what it should be.
    """
    try:
        record = ForeignModel.model_validate_json(_read(path, MAX_RECORD_BYTES))
    except ValidationError as error:
        raise ModelFileError(
            f"{path} does not describe a classifier ({validation_reason(error, MAX_REASONS)}): see {DOCUMENTATION}"
        ) from error
    return record, _read(path.parent / record.model, MAX_MODEL_BYTES)


def _read(path: Path, max_bytes: int) -> bytes:
    if kind_of(path, ModelFileError) == "missing":
        raise ModelFileError(f"{path} does not exist: name the JSON file that describes a model, next to the model")
    try:
        with open_regular(path) as file:
            content = file.read(max_bytes + 1)
    except (DataError, OSError) as error:
        raise ModelFileError(f"{path} cannot be read ({getattr(error, 'strerror', error)})") from error
    if len(content) > max_bytes:
        raise ModelFileError(f"{path} is larger than {max_bytes:,} bytes")
    return content
