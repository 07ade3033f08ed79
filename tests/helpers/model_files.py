"""Model files that somebody has changed and signed again: what is left to find is the change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx

from convscope.backends.onnx.metadata import DIGEST_KEY, digest_entry

Edit = Callable[[onnx.ModelProto], Any]


def edited(content: bytes, edit: Edit) -> bytes:
    """The file after a change to its protobuf message, with the checksum of the changed one."""
    model = onnx.load_from_string(content)
    (digest,) = (entry for entry in model.metadata_props if entry.key == DIGEST_KEY)
    model.metadata_props.remove(digest)
    edit(model)
    changed: bytes = model.SerializeToString()
    return changed + digest_entry(changed)


def with_metadata(content: bytes, text: str) -> bytes:
    """The file with other metadata."""

    def edit(model: onnx.ModelProto) -> None:
        model.metadata_props[0].value = text

    return edited(content, edit)
