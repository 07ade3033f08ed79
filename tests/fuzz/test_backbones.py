"""Damaged files of backbones are rejected in one line, or hold finite weights that fit their network."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from convscope.network.folding import feature_tensors
from convscope.pretrained.backbone import BackboneInfo, Provenance, read_backbone, with_weights
from fuzz.inputs import inputs
from fuzz.mutations import damaged, damaged_json
from fuzz.outcome import refused_or_accepted

pytestmark = pytest.mark.slow

INFO = BackboneInfo(
    name="tiny",
    architecture="conv 4 3, relu6, residual(conv 4 1, relu), globalavg",
    image_size=9,
    channels=1,
    scale=(0.1,),
    mean=(0.5,),
    provenance=Provenance(license="MIT", source="a test", sha256="ab" * 32, training_data="noise", top1=0.5),
)
WEIGHTS = {
    name: np.ones(shape, np.float32) for name, shape in feature_tensors(INFO.architecture, INFO.input_shape).items()
}
CONTENT = with_weights(INFO, WEIGHTS).to_bytes()


def read(content: bytes) -> None:
    """Read; what is accepted has to fit."""
    with refused_or_accepted():
        found = read_backbone(content)
        shapes = {name: array.shape for name, array in found.weights.items()}
        assert shapes == feature_tensors(found.architecture, found.input_shape)
        assert all(np.isfinite(array).all() for array in found.weights.values())


@inputs(100)
@given(damaged([CONTENT]))
def test_damaged_backbone_is_rejected_or_fits(content: bytes) -> None:
    read(content)


@inputs(100)
@given(damaged_json(INFO.model_dump_json()), st.sampled_from([None, *WEIGHTS]), st.sampled_from([np.nan, 1e38, 7]))
def test_backbone_with_another_description_and_the_right_checksum_is_rejected_or_fits(
    info: str, name: str | None, value: float
) -> None:
    weights = {key: np.full_like(array, value) if key == name else array for key, array in WEIGHTS.items()}
    content = save(weights)
    data = content[8 + int.from_bytes(content[:8], "little") :]
    digest = hashlib.sha256(info.encode("utf-8", "replace") + data).hexdigest()
    read(save(weights, {"convscope.backbone": info, "convscope.sha256": digest}))


def test_these_files_are_accepted_without_damage() -> None:
    assert json.loads(read_backbone(CONTENT).model_dump_json()) == json.loads(INFO.model_dump_json())
