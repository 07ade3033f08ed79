"""Links in archives: they become the files that they stand for, if those are in the archive too."""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

MAX_CHAIN = 100  # links to links


class Link(NamedTuple):
    """A link in an archive.

    Attributes:
        name: its own path in the archive.
        target: the path of what it stands for, from the top of the archive.
    """

    name: str
    target: str


def symbolic_link(name: str, target: str) -> Link:
    """The link of a target that is relative to the link's folder.

    >>> symbolic_link("train/cat/1.png", "../../all/1.png")
    Link(name='train/cat/1.png', target='all/1.png')
    """
    return hard_link(name, posixpath.join(posixpath.dirname(name), target))


def hard_link(name: str, target: str) -> Link:
    """The link of a target that is relative to the top of the archive."""
    return Link(posixpath.normpath(name), posixpath.normpath(target))


def resolve_links(links: Iterable[Link], root: Path, create: Callable[[str, Path], None]) -> list[Link]:
    """Create the files that links stand for, whatever order they are in.

    Args:
        links: links to files, to folders and to other links.
        root: the folder in which everything else of the archive is.
        create: receives the path in the archive of a file, and the file whose content it gets.

    Returns:
        Links to something that is not in the archive, or to a folder that they are in.
    """
    pending = list(links)
    for _ in range(MAX_CHAIN):
        ready = set(_next(pending, root))
        for link in sorted(ready):
            source = _source(link, root)
            for file in sorted(file for file in source.rglob("*") if file.is_file()) if source.is_dir() else [source]:
                create(str(PurePosixPath(link.name, file.relative_to(source).as_posix())), file)
        pending = [link for link in pending if link not in ready]
        if not ready:
            break
    return pending


def copy_file(source: Path, file: Path) -> None:
    """Give a file the content of another one, without taking space if the file system can do that."""
    try:
        os.link(source, file)
    except OSError:
        shutil.copyfile(source, file)


def _next(pending: list[Link], root: Path) -> list[Link]:
    """Links to existing files; without any, those to folders in which no links are left, or any one to a folder."""
    inside = [link for link in pending if not _leads_out(link) and os.path.exists(_source(link, root))]  # noqa: PTH110
    if files := [link for link in inside if _source(link, root).is_file()]:
        return files
    unfinished = {parent for link in pending for parent in _parents(link.name)}
    folders = [link for link in inside if _source(link, root).is_dir() and link.target not in _parents(link.name)]
    return [link for link in folders if link.target not in unfinished] or folders[:1]


def _leads_out(link: Link) -> bool:
    parts = PurePosixPath(link.target).parts
    return (
        link.target.startswith("/") or ".." in parts or bool(set("\0\\") & {*link.target}) or any(map(is_drive, parts))
    )


def is_drive(part: str) -> bool:
    """Whether a part of a path is a drive on Windows, such as C:."""
    return part[1:2] == ":" and part[0].isalpha()


def _source(link: Link, root: Path) -> Path:
    """The file or folder that a link stands for."""
    return root.joinpath(*PurePosixPath(link.target).parts)


def _parents(name: str) -> set[str]:
    """The paths of the folders around a path, with "." for the top."""
    return {str(parent) for parent in PurePosixPath(name).parents}
