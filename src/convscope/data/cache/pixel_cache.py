"""Images decoded once: a memory-mapped file of uint8 pixels, named by everything that it was made from.

    CACHE/images/KEY/pixels.u8    (n, height, width, channels), row by row; zeros for files that cannot be read
    CACHE/images/KEY/info.npy     see `decode.IMAGE_INFO`
    CACHE/images/KEY/about.json   the preprocessing, why files cannot be read, and checksums of the other two
    CACHE/listings/NAME.npz       the KEY of a folder's files when they were last seen, by their sizes and times

KEY is the SHA-256 of the preprocessing and of all files' SHA-256: a folder that was moved or copied finds its store, an
altered one does not. A store is written into a temporary folder, put on the disk, and renamed when it is complete.
Every start verifies it; what is damaged is decoded again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import __version__ as decoder_version

from convscope._files import open_regular, sync_file, sync_folder, write_atomically
from convscope._records import Record
from convscope._reporting import Reporter
from convscope.data.cache.checksums import checksums
from convscope.data.cache.decode import IMAGE_INFO, ImageInfo, decode_files
from convscope.data.cache.guard import explain_bus_errors
from convscope.data.cache.input_size import preprocessing_from_sample
from convscope.data.formats.listing import Listing
from convscope.data.options import LoadContext, LoadOptions
from convscope.data.types import Images
from convscope.errors import ConvscopeError, DataError
from convscope.images.preprocessing import Preprocessing

FORMAT = 4
DECODING = "decoding"  # the task of a reporter's progress
PIXELS_FILE, INFO_FILE, ABOUT_FILE = "pixels.u8", "info.npy", "about.json"
MAX_SMALL_BYTES = 2**28  # of a file that is read at once
KEY = re.compile("[0-9a-f]{64}")
ABANDONED_AFTER_S = 24 * 3600  # unfinished stores that are older were left by killed processes


@dataclass(frozen=True, eq=False)
class Store:
    """Decoded images.

    Attributes:
        pixels: uint8 (n, height, width, channels), read from disk on access.
        info: IMAGE_INFO (n,).
        reasons: why files cannot be read, by their index.
        preprocessing: how the images were transformed; its scale and mean are those of values 0..1.
        key: the digest of everything that the store was made from.
    """

    pixels: Images
    info: ImageInfo
    reasons: dict[int, str]
    preprocessing: Preprocessing
    key: str


class AboutStore(Record):
    """`about.json`; `pixels` and `info` are the CRC-32 of each chunk of the pixels and of the info."""

    preprocessing: Preprocessing
    reasons: dict[int, str]
    pixels: tuple[int, ...]
    info: int


def open_store(listing: Listing, context: LoadContext) -> Store:
    """The store of the listed files, from the cache or made now.

    If the cache cannot be written, a temporary folder is used instead.

    Args:
        listing: the files.
        context: options, cache and reporter; progress counts files.

    Raises:
        DataError: no file can be read.
        ConvscopeError: no store can be written.
    """
    images, options, reporter = context.cache / "images", context.options, context.reporter
    seen = _Seen(listing, options, context.cache / "listings")
    if key := seen.key():
        if store := _read(images / key, len(listing)):
            return store
        if (images / key).exists():
            reporter.message(f"the decoded images in {images / key} are damaged: decoding again")
    try:
        store = _build(listing, options, images, reporter)
    except OSError as error:
        reporter.message(
            f"cannot write to the cache {context.cache} ({error.strerror or error}): images are decoded at every start"
        )
        return _build_temporarily(listing, options, reporter)
    with suppress(OSError, ConvscopeError):  # it only makes the next start faster
        seen.remember(store.key)
    return store


def is_decoded(listing: Listing, options: LoadOptions, cache: Path) -> bool:
    """Whether a store of the listed files is in the cache, sound or not.

    Args:
        listing: the files.
        options: how they are read.
        cache: the folder of the cache.
    """
    key = _Seen(listing, options, cache / "listings").key()
    return bool(key) and (cache / "images" / key).exists()


def _build_temporarily(listing: Listing, options: LoadOptions, reporter: Reporter) -> Store:
    folder = Path(tempfile.mkdtemp(prefix="convscope-"))
    try:
        return _build(listing, options, folder, reporter)
    except OSError as error:
        raise ConvscopeError(
            f"cannot write decoded images to {folder} either ({error.strerror or error}): free some space, or set "
            "XDG_CACHE_HOME or TMPDIR to a folder that has it"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # on Linux and macOS, the open map stays readable


def _build(listing: Listing, options: LoadOptions, folder: Path, reporter: Reporter) -> Store:
    """Decode all files into a new store in `folder`."""
    paths = [listing.path(index) for index in range(len(listing))]
    preprocessing = options.preprocessing or preprocessing_from_sample(paths, options)
    with _unfinished(folder) as unfinished:
        info, reasons = _decode_into(unfinished / PIXELS_FILE, paths, options, preprocessing, reporter)
        _check_any_read(info, reasons, listing)
        key = _key(preprocessing, info, reasons)
        info_file = BytesIO()
        np.save(info_file, info)
        write_atomically(unfinished / INFO_FILE, info_file.getvalue())
        about = AboutStore(
            preprocessing=preprocessing,
            reasons=reasons,
            pixels=checksums(unfinished / PIXELS_FILE),
            info=zlib.crc32(info_file.getvalue()),
        )
        write_atomically(unfinished / ABOUT_FILE, about.model_dump_json())
        store = _read(folder / key, len(paths))  # a copy of the folder, or another process, may have made it
        if store is None:
            _publish(unfinished, folder / key, reporter)
            store = _read(folder / key, len(paths)) or _read(unfinished, len(paths), key)
    if store is None:
        raise OSError(f"{folder / key} was altered while it was written")
    return store


def _publish(unfinished: Path, place: Path, reporter: Reporter) -> None:
    """Move a complete store to its place, over a damaged one; if that fails, only the next start is slower."""
    try:
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        unfinished.replace(place)
        sync_folder(place.parent)
    except OSError as error:
        reporter.message(f"cannot replace {place} ({error.strerror or error}): remove it, or images are decoded again")


def _decode_into(
    file: Path, paths: list[Path], options: LoadOptions, preprocessing: Preprocessing, reporter: Reporter
) -> tuple[ImageInfo, dict[int, str]]:
    """Write the pixels of all paths to a file."""
    row = preprocessing.height * preprocessing.width * preprocessing.channels
    infos: list[ImageInfo] = []
    reasons: dict[int, str] = {}
    done = 0
    reporter.progress(DECODING, 0, len(paths))
    with file.open("wb") as created:
        _reserve(created.fileno(), row * len(paths))
    for some, failed in decode_files(paths, options.max_megapixels, preprocessing, file):
        infos.append(some)
        reasons |= failed
        done += len(some)
        reporter.progress(DECODING, done, len(paths))
    sync_file(file)
    return np.concatenate(infos), reasons


def _check_any_read(info: ImageInfo, reasons: dict[int, str], listing: Listing) -> None:
    if (info["height"] > 0).any():
        return
    index, reason = next(iter(reasons.items()))
    raise DataError(f"none of {len(listing):,} files is an image; the first, {listing.files[index]}: {reason}")


def _key(preprocessing: Preprocessing, info: ImageInfo, reasons: dict[int, str]) -> str:
    parts = FORMAT, decoder_version, preprocessing.model_dump_json(), sorted(reasons.items())
    digest = hashlib.sha256(" ".join(map(str, parts)).encode())
    digest.update(info["digest"].tobytes())
    return digest.hexdigest()


def _read(folder: Path, count: int, key: str = "") -> Store | None:
    """The store in a folder; None if it does not exist, is incomplete or is damaged.

    Args:
        folder: the folder.
        count: number of files.
        key: the key of the store; by default the name of the folder.
    """
    key, pixels_file = key or folder.name, folder / PIXELS_FILE
    try:
        about = AboutStore.model_validate_json(_read_small(folder / ABOUT_FILE))
        content = _read_small(folder / INFO_FILE)
        if zlib.crc32(content) != about.info:
            return None
        info: ImageInfo = np.load(BytesIO(content), allow_pickle=False)
        record = about.preprocessing
        shape = (count, record.height, record.width, record.channels)
        if info.dtype != IMAGE_INFO or len(info) != count or _key(record, info, about.reasons) != key:
            return None
        if pixels_file.stat().st_size != np.prod(shape) or checksums(pixels_file) != about.pixels:
            return None
        explain_bus_errors(pixels_file)
        pixels = np.memmap(pixels_file, np.uint8, "r", shape=shape)
    except (OSError, ValueError, DataError, MemoryError):  # MemoryError: a shape that is too large
        return None
    return Store(pixels, info, about.reasons, record, key)


def _read_small(path: Path) -> bytes:
    """The content of a file, at most MAX_SMALL_BYTES of it. Raises OSError or DataError."""
    with open_regular(path) as file:
        return file.read(MAX_SMALL_BYTES)


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A new folder next to the stores, removed unless it is renamed; old ones of killed processes are removed too."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(".unfinished-*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > ABANDONED_AFTER_S:
                shutil.rmtree(old)
    unfinished = Path(tempfile.mkdtemp(dir=folder, prefix=".unfinished-"))
    try:
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _reserve(file: int, size: int) -> None:
    """Allocate the whole file, so that a full disk fails now."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


class _Seen:
    """The names, sizes and times of the files of a listing, to recognize them without reading them."""

    def __init__(self, listing: Listing, options: LoadOptions, folder: Path) -> None:
        reading = f"{FORMAT} {decoder_version} {options.model_dump_json(exclude={'group_by'})}"
        name = f"{listing.root.resolve()}\n{reading}"
        self.file = folder / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.npz"
        times = np.zeros((len(listing), 2), np.int64)
        for index, below in enumerate(listing.files):
            with suppress(OSError):
                found = os.stat(os.path.join(listing.root, below))  # noqa: PTH116, PTH118  five times as fast
                times[index] = found.st_size, found.st_mtime_ns
        digest = hashlib.sha256(os.fsencode("\n".join(listing.files)))
        digest.update(times.tobytes())
        self.files = digest.hexdigest()

    def key(self) -> str:
        """The key of their store; "" if they are new or have changed."""
        with suppress(Exception):  # numpy and zipfile raise a dozen kinds for damaged files
            seen = np.load(BytesIO(_read_small(self.file)), allow_pickle=False)
            key = str(seen["key"])
            if str(seen["files"]) == self.files and KEY.fullmatch(key):
                return key
        return ""

    def remember(self, key: str) -> None:
        """Write down the key of their store."""
        content = BytesIO()
        np.savez(content, files=np.array(self.files), key=np.array(key))
        write_atomically(self.file, content.getvalue())
