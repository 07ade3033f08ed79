"""What a run records about a backbone, for texts that show it."""

from __future__ import annotations

from typing import Any

from convscope.pretrained.backbone import BackboneInfo, Provenance
from convscope.runs.config import InitInfo, ValidationScore


def init_info(cut: int | None = None, **values: Any) -> InitInfo:
    """A backbone with a classifier that recognizes 87.5 % of the validation images."""
    provenance = {"license": "MIT", "source": "a friend", "sha256": "ab" * 32, "training_data": "photos", **values}
    backbone = BackboneInfo(
        name="tiny-net", architecture="globalavg", image_size=8, channels=1, scale=(1,), mean=(0,),
        provenance=Provenance.model_validate(provenance),
    )  # fmt: skip
    score = ValidationScore(accuracy=0.875, cross_entropy=0.5)
    return InitInfo(backbone=backbone, cut=cut, views=3, strength=0.03, score=score)
