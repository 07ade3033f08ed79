"""Images in folders.

A folder is searched with all folders in it, in natural order (2 before 10). A file in it is an image if its name says
so, or if its name says nothing and its first bytes do. Links are followed, but no folder is read twice, and no link
back to a folder around it. Hidden files, and what systems leave in folders, are ignored; everything else that is not
an image is counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal

from convscope._text import natural_order, pluralize
from convscope.data.folders.tree import is_ignored, is_image_name, is_run
from convscope.deploy.sources.items import ParquetFile, PassedOver, is_image, is_parquet_name, read_head
from convscope.errors import ImageError


def images_in_folder(folder: str, passed_over: PassedOver) -> Iterator[str | ParquetFile | ImageError]:
    """The images in a folder; if there are none, the Parquet files in it; an error without any."""
    before, empty = passed_over.kinds.total(), True
    tables: list[str] = []
    for path in walk_folder(folder, passed_over):
        if isinstance(path, ImageError) or is_image(path, lambda path=path: read_head(path)):  # type: ignore[misc]
            empty = False
            yield path
        elif is_parquet_name(path):
            tables.append(path)
        else:
            passed_over.add(path)
    if empty and tables:
        yield from map(ParquetFile, tables)
        return
    for table in tables:
        passed_over.add(table)
    if empty:
        others = pluralize(passed_over.kinds.total() - before, "other file")
        yield ImageError(folder, f"{folder}: no images in this folder ({others}); name another one, or single files")


def walk_folder(top: str, passed_over: PassedOver) -> Iterator[str | ImageError]:
    """All files in a folder and the folders in it, and errors of folders that cannot be read."""
    pending: list[tuple[str, bool]] = [(top, True)]  # paths, and whether they are folders; the next one last
    seen: set[tuple[int, int]] = set()
    while pending:
        path, is_folder = pending.pop()
        if not is_folder:
            yield path
            continue
        try:
            about = os.stat(path)  # noqa: PTH116  many paths
            if (about.st_dev, about.st_ino) in seen or (path != top and _leads_around(path, top)):
                continue
            seen.add((about.st_dev, about.st_ino))
            with os.scandir(path) as entries:
                inside = [entry for entry in entries if not is_ignored(entry.name)]
        except OSError as error:
            yield ImageError(path, f"{path}: cannot be read ({error.strerror}); check its permissions")
            continue
        if is_run({entry.name for entry in inside}):
            if path == top:
                yield ImageError(path, f"{path}: a folder with results of a training; name one with images")
            else:
                passed_over.runs.append(path)
            continue
        inside.sort(key=lambda entry: natural_order(entry.name), reverse=True)
        pending += [(entry.path, kind == "folder") for entry in inside if (kind := _kind(entry, passed_over))]


def _leads_around(path: str, top: str) -> bool:
    """Whether a folder is a link to one that the folder `top` is in."""
    return os.path.islink(path) and os.path.realpath(top).startswith(os.path.join(os.path.realpath(path), ""))  # noqa: PTH114, PTH118


def _kind(entry: os.DirEntry[str], passed_over: PassedOver) -> Literal["folder", "file", ""]:
    """What to do with an entry of a folder. A broken link named like an image is taken for a file, to be reported."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file() or (is_image_name(entry.name) and not os.path.exists(entry.path)):  # noqa: PTH110
            return "file"
    except OSError:  # a link to itself
        pass
    passed_over.kinds["neither a file nor a folder"] += 1
    return ""
