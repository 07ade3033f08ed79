"""Files of published backbones with random weights, and the features of imported ones."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope.backends.pytorch.models import as_batch, build_model, get_weights, set_weights
from convscope.network.build import parse_network
from convscope.pretrained.backbone import PretrainedBackbone
from convscope.pretrained.published import PUBLISHED, PublishedBackbone


def random_state_dict(published: PublishedBackbone, seed: int = 0) -> dict[str, Tensor]:
    """Tensors with the names and shapes of a published file; values neither vanish nor explode from layer to layer."""
    generator = torch.Generator().manual_seed(seed)
    names, state = published.names(published.name), {}
    for ours, shape in published.network.tensors.items():
        values = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            values *= (2 / values[0].numel()) ** 0.5
        elif ours.endswith(".running_var"):
            values = values.abs() + 0.5
        elif shape and ours.endswith(".weight"):
            values = 1 + 0.1 * values
        state[names[ours]] = 0.1 * values if ours.endswith("bias") else values if shape else torch.tensor(7)
    return state


def pth(state: object, legacy: bool = False) -> bytes:
    """The content of a .pth file; those of EfficientNet-Lite are in PyTorch's legacy format."""
    file = BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def with_file(name: str, content: bytes) -> PublishedBackbone:
    """The row of a published backbone, as if this were its file."""
    return dataclasses.replace(PUBLISHED[name], sha256=hashlib.sha256(content).hexdigest())


def features_of(backbone: PretrainedBackbone, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The input of the classifier for images (n, height, width, channels)."""
    model = build_model(parse_network(backbone.architecture, images.shape[1:], 2)).eval()
    set_weights(model, get_weights(model) | dict(backbone.weights))
    scale, mean = np.array(backbone.scale, np.float32), np.array(backbone.mean, np.float32)
    with torch.inference_mode():
        features: NDArray[np.float32] = model[:-1](as_batch(images.astype(np.float32) * scale - mean)).numpy()
    return features


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest distance of two vectors of features, relative to the length of the expected one."""
    return float((np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)).max())


def as_pixels(images: NDArray[np.uint8]) -> Tensor:
    """Images (n, height, width, channels) as float32 (n, channels, height, width)."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


def as_tensors(arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """Arrays as tensors."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
