"""Folders and patterns are replaced by the images that they stand for."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from convscope._storage import is_address
from convscope._text import natural_order
from convscope.deploy.sources.folders import images_in_folder, walk_folder
from convscope.deploy.sources.items import (
    Archive,
    Found,
    ImageSource,
    ParquetFile,
    PassedOver,
    is_archive,
    is_image,
    is_parquet_name,
    read_head,
)
from convscope.errors import ImageError
from convscope.images.files.source import STANDARD_INPUT

RECURSIVE = "**"  # in a pattern: any number of folders


def find_images(sources: Iterable[ImageSource], passed_over: PassedOver) -> Iterator[Found]:
    """Replace folders and patterns by the images that they contain.

    Args:
        sources: Anything that `read_image` takes; paths may also be folders, archives, and patterns such as
            "photos/**/*.jpg" if there is no file of that name; and addresses such as "s3://bucket/photos/".
        passed_over: Counts what is not an image.

    Yields:
        Images, archives, Parquet files, and errors of what cannot be read.
    """
    for source in sources:
        if not isinstance(source, str | Path) or source == STANDARD_INPUT:
            yield source
            continue
        path = os.fspath(source)
        if is_address(path):
            from convscope.deploy.sources.remote import find_remote  # here, because few need it

            yield from find_remote(path, passed_over)
        elif os.path.isdir(path):  # noqa: PTH112  many paths
            yield from images_in_folder(path, passed_over)
        elif is_archive(path):
            yield Archive(path)
        elif is_parquet_name(path) and os.path.isfile(path):  # noqa: PTH113
            yield ParquetFile(path)
        elif glob.has_magic(path) and not os.path.lexists(path):
            yield from _images_matching(path, passed_over)
        else:
            yield source


def _images_matching(pattern: str, passed_over: PassedOver) -> Iterator[Found]:
    """What a pattern matches, in natural order: folders with the images in them, archives, and images."""
    recursive = RECURSIVE in PurePath(pattern).parts
    found = list(_recursive_matches(pattern, passed_over)) if recursive else _sorted(glob.iglob(pattern))  # noqa: PTH207
    if not found:
        yield ImageError(pattern, f"{pattern}: no file matches; check the spelling and the folder")
    for path in found:
        if isinstance(path, ImageError):
            yield path
        elif os.path.isdir(path) or is_archive(path) or is_parquet_name(path):  # noqa: PTH112
            yield from find_images([path], passed_over)
        elif is_image(path, lambda path=path: read_head(path)):  # type: ignore[misc]
            yield path
        else:
            passed_over.add(path)


def _sorted(paths: Iterable[str]) -> list[str | ImageError]:
    return [*sorted(paths, key=lambda path: [natural_order(part) for part in PurePath(path).parts])]


def _recursive_matches(pattern: str, passed_over: PassedOver) -> Iterator[str | ImageError]:
    """Files that match a pattern with **; glob would follow links in circles."""
    parts = PurePath(pattern).parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    base = PurePath(*parts[:first])
    if not os.path.lexists(base):
        return
    for path in walk_folder(str(base), passed_over):
        if isinstance(path, ImageError):
            yield path
        elif _matches(PurePath(path).relative_to(base).parts, parts[first:]):
            yield str(PurePath(path))


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == RECURSIVE:
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
