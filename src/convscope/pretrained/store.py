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
SUFFIX = ".safetensors"


def backbones_folder() -> Path:
    """The user's folder of backbones."""
    return cache_folder() / "backbones"


def stored_file(name: str) -> Path:
    """Where the user's folder keeps a backbone."""
    return backbones_folder() / f"{name}{SUFFIX}"


def stored_names() -> list[str]:
    """The names of the backbones in the user's folder."""
    return sorted(path.name.removesuffix(SUFFIX) for path in backbones_folder().glob(f"[!.]*{SUFFIX}"))


def own_package(name: str) -> PackageFile:
    """The file in the distribution `convscope-weights-NAME`."""
    distribution = f"convscope-weights-{name}"
    return PackageFile(distribution, distribution.replace("-", "_"), f"{name}{SUFFIX}")


def own_package_file(name: str) -> Path | None:
    """The same, if that is installed."""
    return _installed(own_package(name))


def original_file(published: PublishedBackbone) -> Path | None:
    """The file as published in the pip package that carries it, if that is installed."""
    return _installed(published.package) if published.package else None


def location(published: PublishedBackbone) -> Path | None:
    """The file from which a published backbone would be read; None if it is not on this machine."""
    stored = stored_file(published.name)
    return stored if stored.is_file() else own_package_file(published.name) or original_file(published)


def find_backbone(published: PublishedBackbone) -> PretrainedBackbone | None:
    """A published backbone, if it is on this machine.

    One from a .pth file is kept in the user's folder. A file there that is damaged, or of another version of convscope,
    is made again if a package has the original.

    Raises:
        DataError: A file is damaged, or not what was published.
        MissingExtraError: It is a .pth file, and torch is not installed.
    """
    stored, package, original = stored_file(published.name), own_package_file(published.name), original_file(published)
    if stored.is_file():
        try:
            return _read_published(stored, published)
        except DataError:
            if package is None and original is None:
                raise
    if package:
        return _read_published(package, published)
    if original is None:
        return None
    try:
        backbone = import_published(published, read_content(original))
    except DataError as error:
        raise DataError(f"{original}: {error}") from error
    with suppress(ConvscopeError):  # without it, the next start imports again, in seconds
        keep_backbone(backbone)
    return backbone


def check_published(backbone: PretrainedBackbone, published: PublishedBackbone) -> PretrainedBackbone:
    """The backbone. Raises DataError, without the name of its file, unless it was made from the published one."""
    if not backbone.provenance.sha256.startswith(published.sha256):
        raise DataError(f"it was not made from {published.file} with the SHA-256 {published.sha256}: add the original")
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
        raise DataError(f"expected a file of at most {MAX_BYTES / 2**30:.0f} GiB, it is larger: name another file")
    return content


def _read_published(path: Path, published: PublishedBackbone) -> PretrainedBackbone:
    try:
        return check_published(read_backbone(read_content(path)), published)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _installed(wanted: PackageFile) -> Path | None:
    """A file of an installed package, which is not imported."""
    spec = find_spec(wanted.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0], wanted.file)
    return path if path.is_file() else None
