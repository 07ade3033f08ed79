"""The published JSON Schemas: up to date, and valid for the files of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator, ValidationError

from convscope import Run

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "schemas"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((FOLDER / f"{name}.json").read_text("utf-8")))


@pytest.mark.slow
def test_schemas_are_up_to_date() -> None:
    """If not: make schemas."""
    command = [sys.executable, str(ROOT / "dev" / "write_schemas.py"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_schema_is_valid_and_forbids_unknown_keys(name: str) -> None:
    schema = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema["title"]
    for part in (schema, *schema.get("$defs", {}).values()):
        if part.get("type") == "object" and "validation_accuracy" not in part["properties"]:
            assert part["additionalProperties"] is False, part["title"]
            assert set(part["required"]) == set(part["properties"]), part["title"]


def test_files_of_a_run_are_valid_by_their_schemas(digits_run: Run) -> None:
    for name, schema in (("config", "config"), ("manifest", "manifest"), ("evaluation", "evaluate")):
        validator(schema).validate(json.loads((digits_run.path / f"{name}.json").read_text()))
    rows = [json.loads(line) for line in (digits_run.path / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    for row in rows:
        validator("metrics-row").validate(row)
        validator("metrics-row").validate(row | {"validation_f1": 0.5})
    metadata = {entry.key: entry.value for entry in onnx.load(digits_run.model_file).metadata_props}
    validator("model-metadata").validate(json.loads(metadata["convscope"]))


def wrong_values(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The values with one key missing, and with an unknown one."""
    for key in values:
        yield {name: value for name, value in values.items() if name != key}
    yield {**values, "unknown": 1}


def test_schema_rejects_missing_and_unknown_keys(digits_run: Run) -> None:
    values = json.loads((digits_run.path / "evaluation.json").read_text())
    for wrong in wrong_values(values):
        with pytest.raises(ValidationError):
            validator("evaluate").validate(wrong)
    with pytest.raises(ValidationError):
        validator("metrics-row").validate({"epoch": "one"})
    assert np.isfinite(values["loss"])
