"""The base of every record that is checked once, at the border, and never changes afterwards."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen pydantic model: unknown fields, NaN and infinity raise ValidationError; `model_dump_json` writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
