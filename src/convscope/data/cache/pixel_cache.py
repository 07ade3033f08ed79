"""Pictures decoded once: a memory-mapped file of uint8 pixels, kept under what it was made from.

    CACHE/images/KEY/pixels.u8    (n, height, width, channels), row by row; of what cannot be read, zeros
    CACHE/images/KEY/facts.npy    see `decode.FACTS`
    CACHE/images/KEY/about.json   the preprocessing, and why files cannot be read
    CACHE/listings/NAME.npz         which KEY the files of a folder had when they were last seen, by size and time

KEY is the SHA-256 of the preprocessing and of all files' SHA-256: a folder that was moved or copied finds its store, an
altered one does not. A store is written beside the others and renamed when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import __version__ as decoder

from convscope._files import write_atomically
from convscope._reporting import Reporter
from convscope.data.cache.decode import Facts, decode
from convscope.data.cache.input_size import choose_preprocessing
from convscope.data.dataset import Images
from convscope.data.formats.listing import Listing
from convscope.data.options import LoadOptions
from convscope.errors import ConvscopeError, DataError
from convscope.images.preprocessing import Preprocessing

FORMAT = 1
DECODING = "decoding"  # the task of a reporter's progress
SAMPLE = 256  # files that decide on size and channels
PIXELS, FACTS_FILE, ABOUT = "pixels.u8", "facts.npy", "about.json"
ABANDONED = 24 * 3600  # seconds after which an unfinished store is nobody's


@dataclass(frozen=True, eq=False)
class Store:
    """Decoded pictures: uint8 (n, height, width, channels), read from disk as they are wanted.

    facts: what is known of each file. reasons: why those that cannot be read cannot, by their number.
    preprocessing: how they were transformed; its scale and mean are those of values 0..1. key: the store's name.
    """

    pixels: Images
    facts: Facts
    reasons: dict[int, str]
    preprocessing: Preprocessing
    key: str


def open_store(listing: Listing, options: LoadOptions, cache: Path, reporter: Reporter) -> Store:
    """The store of the listed files, from the cache or made now; the reporter's progress counts files.

    Where the cache cannot be written, a temporary folder takes its place. Raises DataError where no file can be read,
    ConvscopeError where no store can be written.
    """
    seen = _Seen(listing, options, cache / "listings")
    if (key := seen.key()) and (store := _read(cache / "images" / key, len(listing))):
        return store
    try:
        store = _build(listing, options, cache / "images", reporter)
    except OSError as error:
        reporter.message(f"cannot write to the cache {cache} ({error.strerror or error}): decoding anew at every start")
        return _build_temporarily(listing, options, reporter)
    with suppress(OSError, ConvscopeError):  # it is there to be faster next time
        seen.note(store.key)
    return store


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
        shutil.rmtree(folder, ignore_errors=True)  # on Linux and macOS the open map stays readable


def _build(listing: Listing, options: LoadOptions, folder: Path, reporter: Reporter) -> Store:
    paths = [listing.path(number) for number in range(len(listing))]
    preprocessing = _frame(paths, options)
    row = preprocessing.height * preprocessing.width * preprocessing.channels
    facts: list[Facts] = []
    reasons: dict[int, str] = {}
    done = 0
    reporter.progress(DECODING, 0, len(paths))
    with _unfinished(folder) as unfinished:
        pixels = unfinished / PIXELS
        with pixels.open("wb") as file:
            _reserve(file.fileno(), row * len(paths))
        for some, failed in decode(paths, options.max_megapixels, preprocessing, pixels):
            facts.append(some)
            reasons |= failed
            done += len(some)
            reporter.progress(DECODING, done, len(paths))
        every = np.concatenate(facts)
        _check_some_are_read(every, reasons, listing)
        key = _key(preprocessing, every, reasons)
        np.save(unfinished / FACTS_FILE, every)
        about = {"preprocessing": preprocessing.model_dump(), "reasons": reasons, "key": key}
        write_atomically(unfinished / ABOUT, json.dumps(about))
        store = _read(folder / key, len(paths))  # the same files elsewhere, or another process was faster
        if store is None:
            shutil.rmtree(folder / key, ignore_errors=True)
            unfinished.replace(folder / key)
            store = _read(folder / key, len(paths))
    if store is None:
        raise OSError(f"{folder / key} was altered while it was written")
    return store


def _frame(paths: list[Path], options: LoadOptions) -> Preprocessing:
    if options.preprocessing:
        return options.preprocessing
    some = np.unique(np.linspace(0, len(paths) - 1, min(SAMPLE, len(paths))).astype(int))
    facts = np.concatenate([found for found, _ in decode([paths[i] for i in some], options.max_megapixels)])
    readable = facts[facts["height"] > 0]
    if not len(readable):  # the whole of it will tell what is wrong
        readable = facts[:1].copy()
        readable["height"] = readable["width"] = 8
    return choose_preprocessing(readable, options, len(paths))


def _check_some_are_read(facts: Facts, reasons: dict[int, str], listing: Listing) -> None:
    if (facts["height"] > 0).any():
        return
    number, reason = next(iter(reasons.items()))
    raise DataError(f"none of {len(listing):,} files is a picture; the first, {listing.files[number]}: {reason}")


def _key(preprocessing: Preprocessing, facts: Facts, reasons: dict[int, str]) -> str:
    digest = hashlib.sha256(f"{FORMAT} {decoder} {preprocessing.model_dump_json()} {sorted(reasons)}".encode())
    digest.update(facts["digest"].tobytes())
    return digest.hexdigest()


def _read(folder: Path, count: int) -> Store | None:
    """The store in a folder; None where it is not there, or not whole."""
    try:
        about = json.loads((folder / ABOUT).read_text())
        facts = np.load(folder / FACTS_FILE, allow_pickle=False)
        preprocessing = Preprocessing.model_validate(about["preprocessing"])
        shape = (count, preprocessing.height, preprocessing.width, preprocessing.channels)
        if len(facts) != count or (folder / PIXELS).stat().st_size != np.prod(shape):
            return None
        pixels = np.memmap(folder / PIXELS, np.uint8, "r", shape=shape)
    except (OSError, ValueError, KeyError, EOFError):
        return None
    return Store(
        pixels, facts, {int(number): reason for number, reason in about["reasons"].items()}, preprocessing, folder.name
    )


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A new folder beside the stores, taken away where it was not renamed; so are old ones of killed processes."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(".unfinished-*"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > ABANDONED:
                shutil.rmtree(old)
    made = Path(tempfile.mkdtemp(dir=folder, prefix=".unfinished-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _reserve(file: int, size: int) -> None:
    """Space for the whole file, so that a full disk shows now."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


class _Seen:
    """What the files of a listing were when their store was made."""

    def __init__(self, listing: Listing, options: LoadOptions, folder: Path) -> None:
        name = f"{listing.root.resolve()}\n{options.model_dump_json(exclude={'group_by'})}"
        self.file = folder / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.npz"
        self.names = hashlib.sha256(os.fsencode("\n".join(listing.files))).hexdigest()
        self.times = np.zeros((len(listing), 2), np.int64)
        for number, below in enumerate(listing.files):
            with suppress(OSError):
                found = os.stat(os.path.join(listing.root, below))  # noqa: PTH116, PTH118  five times as fast
                self.times[number] = found.st_size, found.st_mtime_ns

    def key(self) -> str:
        """The key of their store; nothing where they were not seen, or are others now."""
        with suppress(OSError, ValueError, KeyError, EOFError), np.load(self.file, allow_pickle=False) as seen:
            if str(seen["names"]) == self.names and np.array_equal(seen["times"], self.times):
                return str(seen["key"])
        return ""

    def note(self, key: str) -> None:
        """Remember."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(f".{os.getpid()}")
        with temporary.open("wb") as file:
            np.savez(file, names=np.array(self.names), times=self.times, key=np.array(key))
        temporary.replace(self.file)
