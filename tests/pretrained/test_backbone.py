"""The file of a backbone: what was written is read, and damaged or foreign files are refused in one line."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from convscope.errors import DataError
from convscope.network.folding import feature_tensors
from convscope.pretrained.backbone import (
    BackboneInfo,
    PretrainedBackbone,
    Provenance,
    is_backbone,
    read_backbone,
    with_weights,
)

Weights = dict[str, NDArray[Any]]
LINE = "conv 4 3, relu6, residual(conv 4 1, maxpool 2 stride 1 pad same, batchnorm), globalavg"
INFO = BackboneInfo(
    name="tiny",
    architecture=LINE,
    image_size=9,
    channels=3,
    scale=(0.1, 0.2, 0.3),
    mean=(1.0, 2.0, 3.0),
    provenance=Provenance(license="MIT", source="a test", sha256="ab" * 32, training_data="noise", top1=0.5),
)


def random_weights() -> Weights:
    random = np.random.default_rng(0)
    shapes = feature_tensors(LINE, INFO.input_shape)
    return {name: random.normal(size=s).astype(np.float32) if s else np.array(3) for name, s in shapes.items()}


def tiny() -> PretrainedBackbone:
    return with_weights(INFO, random_weights())


def written(weights: Weights | None = None, **changes: Any) -> bytes:
    """A file with other weights, or with other values in its description."""
    weights, info = weights or random_weights(), json.dumps(INFO.model_dump(mode="json") | changes)
    content = save(weights)
    digest = hashlib.sha256(info.encode() + content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
    return save(weights, {"convscope.backbone": info, "convscope.sha256": digest})


GOOD = tiny().to_bytes()


def flipped(content: bytes, position: int) -> bytes:
    """The content with one bit flipped."""
    changed = bytearray(content)
    changed[position] ^= 1
    return bytes(changed)


def test_backbone_written_and_read_is_the_same() -> None:
    found = read_backbone(tiny().to_bytes())
    assert found.model_dump() == INFO.model_dump()
    assert list(found.weights) == list(feature_tensors(LINE, INFO.input_shape))
    for name, array in tiny().weights.items():
        np.testing.assert_array_equal(found.weights[name], array)
    assert read_backbone(written()).model_dump() == INFO.model_dump()


def test_backbone_is_always_written_to_the_same_bytes() -> None:
    assert {tiny().to_bytes() for _ in range(50)} == {GOOD}  # safetensors itself writes metadata in a random order


def test_is_backbone_tells_it_from_other_safetensors_files() -> None:
    assert [is_backbone(content) for content in (tiny().to_bytes(), save(random_weights()), b"", b"PK")] == [
        True, False, False, False,
    ]  # fmt: skip


SHORT = random_weights()
SHORT.pop("conv1.bias")
DAMAGED = {
    "empty": (b"", "expected a .safetensors file that convscope wrote: convscope backbones add takes other formats"),
    "zip": (b"PK\x03\x04" + bytes(99), "expected a .safetensors file that convscope wrote: .* takes other formats"),
    "truncated": (GOOD[:-1], "the safetensors file is truncated or damaged: get it again"),
    "half": (GOOD[:100], "the safetensors file is truncated or damaged: get it again"),
    "weights": (flipped(GOOD, -1), "its content does not match its checksum: the file is damaged, get it again"),
    "description": (GOOD.replace(b"noise", b"noisy"), "its content does not match its checksum: .*, get it again"),
    "foreign": (save(random_weights()), "expected weights with their architecture, .*: convscope backbones add FILE"),
    "later": (written(format=2), r"this version of convscope cannot read it \(format: input should be 1\)"),
    "scale": (written(scale=[0.1]), r".*\(expected 3 values in scale and mean, one per channel\)"),
    "line": (written(architecture="cnov 3"), "its architecture cannot be used: unknown layer 'cnov': did you mean"),
    "missing": (written(SHORT), "its weights are not those of its architecture: 'conv1.bias' is missing or left over"),
    "left over": (
        written(random_weights() | {"conv9.bias": np.ones(3, np.float32)}),
        "its weights are not those of its architecture: 'conv9.bias' is missing or left over",
    ),
    "shape": (
        written(random_weights() | {"conv1.bias": np.ones(5, np.float32)}),
        "its weights 'conv1.bias' are float32 5, expected float32 4",
    ),
    "dtype": (
        written(random_weights() | {"conv1.bias": np.ones(4)}),
        "its weights 'conv1.bias' are float64 4, expected float32 4",
    ),
    "finite": (
        written(random_weights() | {"conv1.bias": np.full(4, np.inf, np.float32)}),
        "its weights 'conv1.bias' are not all finite numbers",
    ),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_file_is_refused_in_one_line(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}") as caught:
        read_backbone(content)
    assert "\n" not in str(caught.value)
