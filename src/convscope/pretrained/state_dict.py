"""State dicts that others published: read without unpickling in this process, and given the names of our layers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from convscope._extras import require_package
from convscope._text import MAX_QUOTED
from convscope._workers import Worker
from convscope.errors import DataError
from convscope.network.build import parse_network
from convscope.network.folding import fold_features
from convscope.network.layers.base import Shape, shape_text
from convscope.network.network import Network
from convscope.pretrained.backbone import BackboneInfo, PretrainedBackbone, Provenance, is_safetensors, with_weights
from convscope.pretrained.names import timm_names
from convscope.pretrained.published import PublishedBackbone

WORKER, FAILED = "convscope.pretrained.pth_worker", 1  # first byte of an answer
TIMEOUT_S = 120.0
BATCH_COUNT = ".num_batches_tracked"  # which older files lack, and nothing needs

Tensors = Mapping[str, NDArray[Any]]


def import_published(published: PublishedBackbone, content: bytes) -> PretrainedBackbone:
    """The backbone in the file that its authors published.

    Args:
        published: Its row of the table.
        content: The file.

    Raises:
        DataError: It is another file, by its SHA-256, or see `import_state_dict`.
        MissingExtraError: See `import_state_dict`.
    """
    digest = hashlib.sha256(content).hexdigest()
    if not digest.startswith(published.sha256):
        raise DataError(
            f"expected {published.file} with the SHA-256 {published.sha256}, got {digest}: get the original file"
        )
    return import_state_dict(published, content, published.provenance(digest))


def import_state_dict(published: PublishedBackbone, content: bytes, provenance: Provenance) -> PretrainedBackbone:
    """The backbone in a state dict of a published network, batch normalization folded.

    Args:
        published: The network, and the images that it expects.
        content: A .pth or safetensors file, with the names of the tensors in the published file or in timm.
        provenance: Where it comes from.

    Raises:
        DataError: It is damaged, holds anything but tensors, or those of another network; the message does not name it.
        MissingExtraError: It is a .pth file, and torch is not installed.
    """
    tensors = read_state_dict(content)
    network, names = _layout(published, tensors)
    architecture, weights = fold_features(network, rename_tensors(tensors, names, network.tensors))
    info = BackboneInfo(
        name=published.name,
        architecture=architecture,
        image_size=published.backbone.image_size,
        channels=3,
        scale=published.scale,
        mean=published.mean,
        provenance=provenance,
    )
    return with_weights(info, weights)


def read_state_dict(content: bytes) -> dict[str, NDArray[Any]]:
    """The tensors in a safetensors or .pth file; floats are float32.

    Raises:
        DataError: The file is damaged, or holds anything but tensors; the message does not name it.
        MissingExtraError: It is a .pth file, and torch is not installed.
    """
    if not content:
        raise DataError("it is empty: get the original file")
    if is_safetensors(content):
        return _load(content)
    require_package("torch", "reading a .pth file")
    worker = Worker(WORKER)
    try:
        answer = worker.request_within(content, TIMEOUT_S)
    except OSError as error:
        raise DataError(f"the process that was to read it {error}: get the original file") from error
    finally:
        worker.kill()
    if answer[0] == FAILED:
        raise DataError(f"{answer[1:].decode(errors='replace')}: get the original file")
    return _load(answer[1:])


def rename_tensors(
    tensors: Tensors, names: Mapping[str, str], expected: Mapping[str, Shape]
) -> dict[str, NDArray[Any]]:
    """The tensors of a network by our names.

    Args:
        tensors: By the names in their file.
        names: Their name of each of our tensors.
        expected: Our names, and the shapes that the tensors must have; a dense layer may be a 1x1 convolution.

    Raises:
        DataError: Names or shapes are those of another network.
    """
    found = {}
    for ours, shape in expected.items():
        array = tensors.get(names[ours])
        if array is None and not ours.endswith(BATCH_COUNT):
            raise DataError(f"expected a tensor {names[ours]!r}, but it has none: it is another network")
        if array is not None and array.shape not in (shape, (*shape, 1, 1)):
            raise DataError(
                f"expected {names[ours]!r} of {shape_text(shape)}, got {shape_text(array.shape)}: it is another network"
            )
        if array is not None:
            kind = np.int64 if ours.endswith(BATCH_COUNT) else np.float32
            found[ours] = array.reshape(shape).astype(kind, copy=False)
    known = {names[ours] for ours in expected}
    if left := [name for name in tensors if name not in known and not name.endswith(BATCH_COUNT)]:
        raise DataError(f"it has a tensor {min(left)[:MAX_QUOTED]!r} that was not expected: it is another network")
    return found


def _layout(published: PublishedBackbone, tensors: Tensors) -> tuple[Network, Mapping[str, str]]:
    """The network, and the names of its tensors in the library whose names most of the tensors have."""
    network = timm = published.network
    if published.name.startswith("mobilenetv3"):  # whose batch normalization has the default epsilon in timm
        timm = parse_network(network.architecture.replace(" eps 0.001", ""), network.input_shape, network.classes)
    layouts = (network, published.names(published.name)), (timm, timm_names(published.name))
    return max(layouts, key=lambda layout: len(tensors.keys() & set(layout[1].values())))


def _load(content: bytes) -> dict[str, NDArray[Any]]:
    try:
        return load(content)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataError("it is a truncated or damaged safetensors file: get the original file") from error
