"""The options of cross-validation and search: those of a training, but for what concerns its run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from convscope.api.training.options import CHECKPOINT_INTERVAL_S, TrainOptions
from convscope.errors import UsageError

PARQUET = ".parquet"


class TuningOptions(TrainOptions):
    """How to train several times; none of these trainings has a run folder."""

    run: None = Field(default=None, json_schema_extra={"option": False})
    max_error: None = Field(default=None, json_schema_extra={"option": False})
    checkpoint_interval: float = Field(default=CHECKPOINT_INTERVAL_S, json_schema_extra={"option": False})


class CrossvalOptions(TuningOptions):
    """How to cross-validate."""

    folds: int = Field(default=5, ge=2, description="Number of parts; each is held out once.")
    out: Path | None = Field(
        default=None,
        description="Write the probabilities of every training image, from the training that left it out, to this "
        ".parquet.",
        json_schema_extra={"metavar": "FILE"},
    )

    @model_validator(mode="after")
    def _out_is_parquet(self) -> Self:
        if self.out is not None and self.out.suffix.lower() != PARQUET:
            raise UsageError(f"--out {self.out}: expected a name that ends in {PARQUET}")
        return self


class SearchOptions(TuningOptions):
    """How to search; options of a training that are given are kept, the others are searched."""

    trials: int | None = Field(
        default=None,
        ge=2,
        description="Configurations to try, the defaults among them; by default 9, or fewer in a short --budget.",
    )
    out: Path | None = Field(
        default=None,
        description="Folder to write; by default the next free one in searches/.",
        json_schema_extra={"metavar": "FOLDER"},
    )
