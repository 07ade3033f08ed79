"""Decoding image files, in this process or in worker processes: properties of each file, and its pixels.

A file is read once: its SHA-256, its properties, its perceptual hash and the pixels that the network will see all come
from the same bytes. Pixels are written directly into their rows of the store, a file of nothing but pixels.
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

from convscope._files import open_regular
from convscope._workers import map_in_order, serve, worker_pool
from convscope.errors import DataError
from convscope.images.color import over_white, to_gray
from convscope.images.depth import FULL_RANGE
from convscope.images.files.jpeg import DAMAGE_NOTE
from convscope.images.files.source import MAX_FILE_BYTES
from convscope.images.perceptual_hash import perceptual_hash
from convscope.images.preprocessing import Preprocessing, was_framed, was_inverted
from convscope.images.read import read_image
from convscope.images.statistics import lower_median

Pixels = NDArray[np.uint8]
ImageInfo = NDArray[np.void]  # a row of IMAGE_INFO per file

IMAGE_INFO = np.dtype(
    [
        ("digest", "u8", 4),  # SHA-256 of the file
        ("bytes", "i8"),
        ("height", "i4"),  # as the image is shown; 0 if it cannot be read
        ("width", "i4"),
        ("colored", "?"),  # whether any pixel is not gray
        ("transparent", "?"),  # whether any pixel is not opaque
        ("rotated", "?"),  # whether EXIF rotates it
        ("damaged", "?"),  # whether some of its pixels are wrong, as the decoder can tell
        ("lowest16", "i4"),  # the values of a 16-bit file; 0 for 8 bits
        ("highest16", "i4"),
        ("border", "u1"),  # the lower median gray level of the border
        ("darkest", "u1"),
        ("lightest", "u1"),
        ("hash", "u8"),  # the perceptual hash of what the network sees
        ("inverted", "?"),  # whether preprocessing inverted it
        ("framed", "?"),  # whether preprocessing drew it in the frame of the training images
    ]
)
FILES_PER_TASK = 32
MIN_FILES_FOR_WORKERS = 4 * FILES_PER_TASK  # fewer do not pay for starting worker processes
MODULE = "convscope.data.cache.decode"


@dataclass(frozen=True)
class Task:
    """Consecutive files to decode.

    Attributes:
        paths: the files.
        max_megapixels: larger images are rejected.
        preprocessing: a Preprocessing as JSON; "" to transform nothing.
        store: the file to write pixels to; "" for none.
        first: the row of the first file in the store.
        uint16_range: the values of 16-bit files that are mapped to 0..255, without preprocessing.
    """

    paths: list[str]
    max_megapixels: float
    preprocessing: str = ""
    store: str = ""
    first: int = 0
    uint16_range: tuple[int, int] = FULL_RANGE


def decode_files(
    paths: Sequence[Path],
    max_megapixels: float,
    preprocessing: Preprocessing | None = None,
    store: Path | None = None,
    *,
    uint16_range: tuple[int, int] = FULL_RANGE,
) -> Iterator[tuple[ImageInfo, dict[int, str]]]:
    """Decode files in order, some at a time.

    Args:
        paths: the files.
        max_megapixels: larger images are rejected.
        preprocessing: how to transform the images.
        store: the file that receives the transformed pixels, row by row; the row of a rejected file stays as it is.
        uint16_range: the values of 16-bit files that are mapped to 0..255, without preprocessing.

    Yields:
        The IMAGE_INFO of some files, and the reason for each of them that is rejected, by its index in `paths`.

    Raises:
        OSError: the store cannot be written.
    """
    tasks = [
        Task(
            [os.fspath(path) for path in paths[first : first + FILES_PER_TASK]],
            max_megapixels,
            preprocessing.model_dump_json() if preprocessing else "",
            str(store or ""),
            first,
            uint16_range,
        )
        for first in range(0, len(paths), FILES_PER_TASK)
    ]
    messages = (json.dumps(asdict(task)).encode() for task in tasks)
    if len(paths) < MIN_FILES_FOR_WORKERS:
        yield from (_unpack(_run_task(message)) for message in messages)
        return
    from convscope._hardware import max_threads  # here, because worker processes do not need it

    with worker_pool(MODULE, max_threads()) as workers:
        for answer in map_in_order(workers, messages, _run_task):
            yield _unpack(answer)


def decode_file(
    path: Path,
    max_megapixels: float,
    preprocessing: Preprocessing | None = None,
    uint16_range: tuple[int, int] = FULL_RANGE,
) -> tuple[ImageInfo, Pixels | None]:
    """Decode one file.

    Args:
        path: the file.
        max_megapixels: larger images are rejected.
        preprocessing: how to transform the image; None to transform nothing.
        uint16_range: the values of a 16-bit file that are mapped to 0..255, without preprocessing.

    Returns:
        Its IMAGE_INFO, (1,), and its transformed pixels; without preprocessing None, and a hash of 0.

    Raises:
        DataError: it is not an image, or one that cannot be used.
    """
    info = np.zeros(1, IMAGE_INFO)
    content = _read_content(path)
    info["digest"] = np.frombuffer(hashlib.sha256(content).digest(), ">u8")
    info["bytes"] = len(content)
    image = read_image(content, max_megapixels=max_megapixels)
    info["rotated"] = any(note.startswith("rotated") for note in image.notes)
    info["damaged"] = DAMAGE_NOTE in image.notes
    if image.deep is not None:
        info["lowest16"], info["highest16"] = image.deep.min(), image.deep.max()
    image = image.with_range(*(preprocessing.uint16_range if preprocessing else uint16_range))
    _fill_properties(info, image.pixels)
    if preprocessing is None:
        return info, None
    transformed, notes = preprocessing.transform(image)
    info["hash"] = perceptual_hash(transformed)
    info["inverted"], info["framed"] = was_inverted(notes), was_framed(notes)
    return info, transformed


def _fill_properties(info: ImageInfo, pixels: Pixels) -> None:
    transparent = pixels.shape[2] == 4 and bool((pixels[..., 3] < 255).any())
    colors = over_white(pixels) if transparent else pixels[..., :3]
    colored = colors.shape[2] == 3 and bool(
        (colors[..., 0] != colors[..., 1]).any() or (colors[..., 1] != colors[..., 2]).any()
    )
    border = np.concatenate([colors[0], colors[-1], colors[:, 0], colors[:, -1]])[None]
    levels = (to_gray(border) if border.shape[2] == 3 else border).ravel()
    info["height"], info["width"] = pixels.shape[:2]
    info["colored"], info["transparent"] = colored, transparent
    info["border"] = lower_median(levels)
    info["darkest"], info["lightest"] = colors.min(), colors.max()


def _read_content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise DataError(f"{size / 1e9:.1f} GB, expected at most {MAX_FILE_BYTES / 1e9:.1f}")
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error


def _run_task(message: bytes) -> bytes:
    """Decode the files of a Task given as JSON; infos, reasons and a failure to write are returned as JSON."""
    task = Task(**json.loads(message))
    preprocessing = Preprocessing.model_validate_json(task.preprocessing) if task.preprocessing else None
    infos, reasons = np.zeros(len(task.paths), IMAGE_INFO), {}
    rows: dict[int, Pixels] = {}
    for i, path in enumerate(task.paths):
        try:
            infos[i : i + 1], pixels = decode_file(Path(path), task.max_megapixels, preprocessing, task.uint16_range)
        except DataError as error:
            reasons[task.first + i] = str(error).removeprefix("image: ")
            continue
        if pixels is not None:
            rows[i] = pixels
    failure = ""
    if rows and task.store:
        try:
            _write_rows(Path(task.store), task.first, rows)
        except OSError as error:
            failure = error.strerror or str(error)
    answer = {"infos": base64.b64encode(infos.tobytes()).decode(), "reasons": reasons, "failure": failure}
    return json.dumps(answer).encode()


def _unpack(answer: bytes) -> tuple[ImageInfo, dict[int, str]]:
    values = json.loads(answer)
    if values["failure"]:
        raise OSError(values["failure"])
    infos: ImageInfo = np.frombuffer(base64.b64decode(values["infos"]), IMAGE_INFO)
    return infos, {int(index): reason for index, reason in values["reasons"].items()}


def _write_rows(store: Path, first: int, rows: dict[int, Pixels]) -> None:
    with store.open("r+b", buffering=0) as file:
        for i, pixels in rows.items():
            file.seek((first + i) * pixels.size)
            if file.write(pixels.tobytes()) != pixels.size:
                raise OSError("the disk is full")


if __name__ == "__main__":
    serve(_run_task)
