"""Archives and Parquet files, unpacked once into the cache: a folder that is recognized by path, size and time.

    CACHE/unpacked/KEY/NAME/...       the files; NAME is that of the archive without its suffix
    CACHE/unpacked/KEY/about.json     how many files and bytes these are, and what to say about them

A folder is filled under another name and renamed when it is complete; one that was altered is filled again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from convscope._files import write_atomically
from convscope._storage import is_address
from convscope.data.folders.archive import extract, is_archive, stem
from convscope.data.folders.fetch import fetch
from convscope.data.formats.idx import is_idx
from convscope.data.formats.npz import is_npz
from convscope.data.formats.parquet import export_parquet, find_parquet
from convscope.data.options import LoadContext
from convscope.data.validation import error_prefix
from convscope.errors import ConvscopeError, DataError

ABOUT_FILE = "about.json"


def find_path(source: str, context: LoadContext) -> Path | None:
    """The path of a data set, which may lead into an archive; for an address that of a copy in the cache.

    Args:
        source: what the user named, a path or an address such as "s3://bucket/photos/".
        context: cache and reporter.

    Returns:
        None if there is nothing at the path.

    Raises:
        DataError: it cannot be looked at, or there is nothing at the address.
        ConvscopeError: the storage cannot be reached.
    """
    if is_address(source):
        return fetch(source, context.cache, context.reporter)
    path = Path(source)
    with error_prefix(source):
        exists = bool(source) and (path.exists() or any(is_archive(one) and one.is_file() for one in path.parents))
    return path if exists else None


@contextmanager
def unpacked(path: Path, context: LoadContext) -> Iterator[Path]:
    """A path to read instead of `path`: for an archive or for Parquet what they hold, otherwise the path itself.

    A path may lead into an archive, such as photos.zip/labels.csv. Messages of a DataError raised inside name the
    archive.

    Args:
        path: what the user named.
        context: cache and reporter.

    Raises:
        DataError: the archive is damaged or not safe to unpack.
        MissingExtraError: pyarrow is needed and not installed.
        ConvscopeError: the cache cannot be written.
    """
    packed = next((one for one in (path, *path.parents) if is_archive(one) and one.is_file()), None)
    folder, messages = path, list[str]()
    if packed:
        folder, messages = _cached(packed, [packed], lambda target: extract(packed, target, context.reporter), context)
    inner = _enter(folder / path.relative_to(packed)) if packed else path
    with error_prefix(str(path)):
        files = find_parquet(inner)
    if files:
        folder, more = _cached(
            inner, files, lambda target: export_parquet(inner, files, target, context.reporter), context
        )
        inner, messages = folder / "table.jsonl", [*messages, *more]
    for message in messages:
        context.reporter.message(f"{path}: {message}")
    try:
        yield inner
    except DataError as error:
        text = str(error).replace(str(folder / "table.jsonl"), str(path)).replace(str(folder), str(packed or path))
        raise DataError(text.removeprefix(f"{path}: {path}: ")) from error


def _enter(folder: Path) -> Path:
    """The IDX folder or the .npz that is all that a folder holds; otherwise the folder."""
    inner = folder
    while inner.is_dir() and len(found := list(inner.iterdir())) == 1:
        inner = found[0]
    return inner if is_npz(inner) or (inner.is_dir() and is_idx(inner)) else folder


def _cached(
    path: Path, files: Sequence[Path], fill: Callable[[Path], list[str]], context: LoadContext
) -> tuple[Path, list[str]]:
    """The folder in the cache that `fill` has filled from these files, and the messages that it returned."""
    times = [(str(file.resolve()), (found := file.stat()).st_size, found.st_mtime_ns) for file in files]
    key = hashlib.sha256(os.fsencode(json.dumps(times))).hexdigest()[:32]
    root = context.cache / "unpacked"
    folder, name = root / key, stem(path.resolve())
    if (messages := _messages_of(folder)) is not None:
        return folder / name, messages
    unfinished = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=root, prefix=".unfinished-"))
        messages = fill(unfinished / name)
        write_atomically(unfinished / ABOUT_FILE, json.dumps(_measure(unfinished) | {"messages": messages}))
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.replace(folder)
    except OSError as error:
        raise ConvscopeError(
            f"cannot unpack {path} into {root} ({error.strerror or error}): free some space, or set XDG_CACHE_HOME to "
            "a folder that has it"
        ) from error
    finally:
        if unfinished:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder / name, messages


def _messages_of(folder: Path) -> list[str] | None:
    """The messages of when a folder was filled; None if it is not complete."""
    try:
        about = json.loads((folder / ABOUT_FILE).read_text())
        messages = [str(message) for message in about.pop("messages")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return messages if about == _measure(folder) else None


def _measure(folder: Path) -> dict[str, int]:
    """The number and the total size of the files in a folder, apart from ABOUT_FILE."""
    sizes = [
        os.stat(os.path.join(where, name)).st_size  # noqa: PTH116, PTH118  many files
        for where, _, names in os.walk(folder)
        for name in names
        if name != ABOUT_FILE
    ]
    return {"files": len(sizes), "bytes": sum(sizes)}
