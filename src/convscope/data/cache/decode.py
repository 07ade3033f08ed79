"""Image files -> facts and pixels, file by file, in this process or in helpers beside it.

A file is read once: its SHA-256, what it looks like, a perceptual hash, and its pixels as the network will see them
come from the same bytes. Pixels go straight into their rows of the store, a file of nothing but pixels.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convscope._workers import map_in_order, serve, worker_pool
from convscope.errors import DataError
from convscope.images.color import over_white, to_gray
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import read_image

Pixels = NDArray[np.uint8]
Facts = NDArray[np.void]

# What is known of a file: its SHA-256; height and width as it is shown, 0 where it cannot be read; whether it has
# colors, whether some of it is transparent, whether its EXIF turns it; the brightness of its border (the lower
# median), of its darkest and of its lightest pixel; a 64-bit perceptual hash of what the network sees.
FACTS = np.dtype(
    [
        ("digest", "u8", 4), ("bytes", "i8"), ("height", "i4"), ("width", "i4"), ("colored", "?"), ("clear", "?"),
        ("turned", "?"), ("border", "u1"), ("darkest", "u1"), ("lightest", "u1"), ("hash", "u8"),
    ]
)  # fmt: skip
MAX_FILE_BYTES = 2**28  # bytes
TOGETHER = 32  # files that a helper is given at a time
ALONE = 4 * TOGETHER  # fewer files than this are not worth a helper's start
MODULE = "convscope.data.cache.decode"


@dataclass(frozen=True)
class Task:
    """Consecutive files: their paths, and where their pixels go (nowhere without a store)."""

    paths: list[str]
    max_megapixels: float
    preprocessing: str = ""  # a Preprocessing as JSON
    store: str = ""
    first: int = 0


def decode(
    paths: Sequence[Path], max_megapixels: float, preprocessing: Preprocessing | None = None, store: Path | None = None
) -> Iterator[tuple[Facts, dict[int, str]]]:
    """The facts of the files in order, some at a time, and why those among them that are left out cannot be read.

    With a preprocessing, their pixels are transformed and written into `store`, row by row; the row of a file that
    cannot be read stays as it is. The numbers of the reasons count from the first path. Raises OSError if the store
    cannot be written.
    """
    tasks = [
        Task(
            [os.fspath(path) for path in paths[first : first + TOGETHER]],
            max_megapixels,
            preprocessing.model_dump_json() if preprocessing else "",
            str(store or ""),
            first,
        )
        for first in range(0, len(paths), TOGETHER)
    ]
    messages = (json.dumps(asdict(task)).encode() for task in tasks)
    if len(paths) < ALONE:
        yield from (_opened(_answer(message)) for message in messages)
        return
    from convscope._hardware import max_threads  # here, for the helpers do without it

    with worker_pool(MODULE, max_threads()) as helpers:
        for answer in map_in_order(helpers, messages, _answer):
            yield _opened(answer)


def look(path: Path, max_megapixels: float, preprocessing: Preprocessing | None = None) -> tuple[Facts, Pixels | None]:
    """The facts of one file, a single row, and its pixels as the preprocessing arranges them.

    Raises DataError where it is no picture that can be used.
    """
    facts = np.zeros(1, FACTS)
    content = _content(path)
    facts["digest"] = np.frombuffer(hashlib.sha256(content).digest(), ">u8")
    facts["bytes"] = len(content)
    picture = read_image(content, max_megapixels=max_megapixels)
    pixels = picture.pixels
    clear = pixels.shape[2] == 4 and bool((pixels[..., 3] < 255).any())
    colors = over_white(pixels) if clear else pixels[..., :3]
    colored = colors.shape[2] == 3 and bool(
        (colors[..., 0] != colors[..., 1]).any() or (colors[..., 1] != colors[..., 2]).any()
    )
    edge = np.concatenate([colors[0], colors[-1], colors[:, 0], colors[:, -1]])[None]
    brightness = (to_gray(edge) if edge.shape[2] == 3 else edge).ravel()
    facts["height"], facts["width"] = pixels.shape[:2]
    facts["colored"], facts["clear"] = colored, clear
    facts["turned"] = any(note.startswith("rotated") for note in picture.notes)
    facts["border"] = np.sort(brightness)[(len(brightness) - 1) // 2]
    facts["darkest"], facts["lightest"] = colors.min(), colors.max()
    if preprocessing is None:
        return facts, None
    arranged, _ = preprocessing.transform(picture)
    facts["hash"] = _hash(arranged)
    return facts, arranged


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path.stat().st_size / 1e9:.1f} GB, at most {MAX_FILE_BYTES / 1e9:.1f} are read")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error


def _hash(pixels: Pixels) -> np.uint64:
    """A 64-bit perceptual hash (DCT, after Zauner, 2010) of pixels (h, w, c)."""
    import imagehash  # here, for a sample does without it
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    bits: NDArray[np.bool_] = imagehash.phash(image).hash
    return np.uint64(int.from_bytes(np.packbits(bits).tobytes()))


def _answer(message: bytes) -> bytes:
    """Do a task: its facts and reasons."""
    task = Task(**json.loads(message))
    preprocessing = Preprocessing.model_validate_json(task.preprocessing) if task.preprocessing else None
    facts, reasons = np.zeros(len(task.paths), FACTS), {}
    rows: dict[int, Pixels] = {}
    for i, path in enumerate(task.paths):
        try:
            facts[i : i + 1], arranged = look(Path(path), task.max_megapixels, preprocessing)
        except DataError as error:
            reasons[task.first + i] = str(error).removeprefix("image: ")
            continue
        if arranged is not None:
            rows[i] = arranged
    failure = ""
    if rows and task.store:
        try:
            _write(Path(task.store), task.first, rows)
        except OSError as error:
            failure = error.strerror or str(error)
    answer = {"facts": base64.b64encode(facts.tobytes()).decode(), "reasons": reasons, "failure": failure}
    return json.dumps(answer).encode()


def _opened(answer: bytes) -> tuple[Facts, dict[int, str]]:
    values = json.loads(answer)
    if values["failure"]:
        raise OSError(values["failure"])
    facts: Facts = np.frombuffer(base64.b64decode(values["facts"]), FACTS)
    return facts, {int(number): reason for number, reason in values["reasons"].items()}


def _write(store: Path, first: int, rows: dict[int, Pixels]) -> None:
    with store.open("r+b", buffering=0) as file:
        for i, pixels in rows.items():
            file.seek((first + i) * pixels.size)
            if file.write(pixels.tobytes()) != pixels.size:
                raise OSError("the disk is full")


if __name__ == "__main__":
    serve(_answer)
