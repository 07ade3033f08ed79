"""State dicts that others published: read without unpickling in this process, and given the names of our layers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from convscope._extras import require_package
from convscope._workers import Worker
from convscope.errors import DataError
from convscope.network.backbones import IMAGENET_CLASSES
from convscope.network.build import parse_network
from convscope.network.folding import fold_features
from convscope.network.layers.base import Shape, shape_text
from convscope.network.network import Network
from convscope.pretrained.backbone import BackboneInfo, PretrainedBackbone, read_header, with_weights
from convscope.pretrained.published import PublishedBackbone

WORKER = "convscope.pretrained.pth_worker"
ORDER_KEY, FAILED = "order", 1  # see the worker
TIMEOUT_S = 120.0
Tensors = Mapping[str, NDArray[Any]]


def import_published(published: PublishedBackbone, content: bytes) -> PretrainedBackbone:
    """The backbone in the file that its authors published.

    Args:
        published: Its row of the table.
        content: The file, a .pth or a safetensors file.

    Raises:
        DataError: It is another file, by its SHA-256, or its tensors are not those of the network.
        MissingExtraError: It is a .pth file, and torch is not installed.
    """
    digest = hashlib.sha256(content).hexdigest()
    if not digest.startswith(published.sha256):
        raise DataError(
            f"expected the file {published.file} with SHA-256 {published.sha256}, got {digest}: get the original"
        )
    network = published.network
    parsed = parse_network(network.architecture, network.input_shape, IMAGENET_CLASSES)
    weights = rename_in_order(read_state_dict(content), parsed)
    architecture, folded = fold_features(parsed, weights)
    info = BackboneInfo(
        name=published.name,
        architecture=architecture,
        image_size=network.image_size,
        channels=3,
        scale=published.scale,
        mean=published.mean,
        provenance=published.provenance(digest),
    )
    return with_weights(info, folded)


def read_state_dict(content: bytes) -> dict[str, NDArray[Any]]:
    """The tensors in a safetensors or .pth file; those of a .pth are in its order.

    Raises:
        DataError: The file is damaged, or holds anything but tensors; the message does not name it.
        MissingExtraError: It is a .pth file, and torch is not installed.
    """
    if content[8:9] == b"{":
        return _load(content)
    require_package("torch", "reading a .pth file")
    worker = Worker(WORKER)
    try:
        answer = worker.request_within(content, TIMEOUT_S)
    except OSError as error:
        raise DataError(f"the process that read it {error}: get the original file") from error
    finally:
        worker.kill()
    if answer[0] == FAILED:
        raise DataError(f"it cannot be imported: {answer[1:].decode(errors='replace')}; get the original file")
    tensors = _load(answer[1:])
    return {name: tensors[name] for name in json.loads(read_header(answer[1:])["__metadata__"][ORDER_KEY])}


def rename_in_order(tensors: Tensors, network: Network) -> dict[str, NDArray[Any]]:
    """Tensors that come in the order of the layers, by the names of the layers.

    Raises:
        DataError: Kinds (weight, bias, running_mean, ...) or shapes are not those of the network.
    """
    expected = network.tensors
    if len(tensors) != len(expected):
        raise DataError(f"expected {len(expected)} tensors, got {len(tensors)}: it is another network")
    found = {}
    for (name, array), (ours, shape) in zip(tensors.items(), expected.items(), strict=True):
        if name.rpartition(".")[2] != ours.rpartition(".")[2] or array.shape != shape:
            raise DataError(f"expected {_described(ours, shape)}, got {_described(name, array.shape)}: another network")
        found[ours] = array
    return found


def _load(content: bytes) -> dict[str, NDArray[Any]]:
    try:
        return load(content)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataError("it is a truncated or damaged safetensors file: get the original") from error


def _described(name: str, shape: Shape) -> str:
    return f"{name} ({shape_text(shape) or 'one number'})"
