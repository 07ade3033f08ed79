"""Where backbones are on this machine: in the user's folder, or in installed packages, which are not imported."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from convscope._files import open_regular, write_atomically
from convscope.data.options import cache_folder
from convscope.errors import ConvscopeError, DataError
from convscope.pretrained.backbone import PretrainedBackbone, read_backbone
from convscope.pretrained.published import PackageFile, PublishedBackbone
from convscope.pretrained.state_dict import import_published

MAX_BYTES = 2**31


def stored_file(name: str) -> Path:
    """Where the user's folder keeps a backbone."""
    return cache_folder() / "backbones" / f"{name}.safetensors"


def installed_file(package: PackageFile | None) -> Path | None:
    """A file of an installed package, or None if it is not installed."""
    spec = find_spec(package.package) if package else None
    if package is None or spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0], package.file)
    return path if path.is_file() else None


def find_backbone(published: PublishedBackbone) -> PretrainedBackbone | None:
    """A published backbone that is on this machine; one from a .pth file is kept in the user's folder.

    Raises:
        DataError: A file is damaged.
    """
    path = stored_file(published.name)
    if path.exists():
        return read_file(path)
    original = installed_file(published.package)
    if original is None:
        return None
    try:
        backbone = import_published(published, read_content(original))
    except DataError as error:
        raise DataError(f"{original}: {error}") from error
    with suppress(ConvscopeError):  # without it, the next start takes some seconds again
        keep_backbone(backbone)
    return backbone


def keep_backbone(backbone: PretrainedBackbone) -> Path:
    """Write a backbone to the user's folder. Raises ConvscopeError if that is impossible."""
    path = stored_file(backbone.name)
    write_atomically(path, backbone.to_bytes())
    return path


def read_file(path: Path) -> PretrainedBackbone:
    """Read a file of `keep_backbone`. Raises DataError if it is damaged."""
    try:
        return read_backbone(read_content(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def read_content(path: Path) -> bytes:
    """The content of a file. Raises DataError, without its name, if it cannot be read or is very large."""
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"has more than {MAX_BYTES / 2**30:.0f} GiB, which no backbone has")
    return content
