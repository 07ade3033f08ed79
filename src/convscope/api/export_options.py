"""What `convscope export` is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from convscope._records import Record


class ExportOptions(Record):
    """What to export.

    Attributes:
        out: The model file, or the folder for a hub; by default `model.onnx`, `hub` or `lab.html`.
        int8: Quantize to 8 bits; an error if answers change.
        best: The faster of the float32 and the int8 file, if int8 changes no answers.
        golden: A folder of images that replace the synthetic ones in the file.
        samples: How many test images the lab's page offers, if it is written; the file then holds them.
        to: A model file, a folder as `huggingface_hub` uploads it, or the lab's page with the model inside.
        force: Overwrite files that exist and have another content.
    """

    out: Path | None = Field(
        default=None, description="What to write; by default model.onnx, the folder hub, or lab.html."
    )
    int8: bool = Field(default=False, description="Quantize to 8 bits; exit code 5 if answers change.")
    best: bool = Field(default=False, description="int8 if it is faster and changes no answers, else float32.")
    golden: Path | None = Field(
        default=None, description="Store the images of this folder for 'verify', not synthetic ones."
    )
    to: Literal["file", "hub-folder", "web"] = Field(
        default="file",
        description="A model file; a folder to upload to a hub; or the lab as one HTML file, with the model inside.",
    )
    samples: int = Field(
        default=0, ge=0, le=1000, description="With --to web: put this many of the run's test images into the page."
    )
    force: bool = Field(default=False, description="Overwrite files that exist and have another content.")

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.int8 and self.best:
            raise ValueError("--int8 and --best exclude each other: --best decides by measurement")
        if self.samples and self.to != "web":
            raise ValueError("--samples needs --to web: a model file holds no images of the data set")
        return self
