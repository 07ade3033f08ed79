"""The model file that the page opens."""

from __future__ import annotations

from pathlib import Path

from convscope.backends.onnx.protobuf import write_field
from convscope.deploy.foreign.record import read_foreign

RECORD_KEY = "convscope.record"
METADATA_FIELD, KEY_FIELD, VALUE_FIELD = 14, 1, 2  # of an ONNX ModelProto, and of an entry of its metadata_props


def read_page_model(path: Path) -> bytes:
    """A model file; or that of another program with the JSON file that describes it as an entry of its metadata.

    Args:
        path: The model file, or the JSON file; see `ForeignModel`.

    Raises:
        ModelFileError: The JSON file is wrong, or its model is missing.
    """
    if path.suffix.lower() != ".json":
        return path.read_bytes()
    record, content = read_foreign(path)
    entry = write_field(KEY_FIELD, RECORD_KEY.encode()) + write_field(VALUE_FIELD, record.model_dump_json().encode())
    return content + write_field(METADATA_FIELD, entry)
