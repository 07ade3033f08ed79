"""Write synthetic photographs into class folders: blurred noise with a disc, whose color depends on the class.

    make_images.py FOLDER 100000 [--side 128] [--mixed]

JPEGs of quality 85, `--side` pixels wide and high. With --mixed, every other image has a random size of 48 to 256
pixels, and one in a hundred is a PNG. The same command writes the same files.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 10
CHUNK_SIZE = 500  # images per call of a worker process


def main() -> None:
    """Write the images, on all cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--mixed", action="store_true")
    options = parser.parse_args()
    write(options.folder, options.count, options.side, options.mixed)


def write(folder: Path, count: int, side: int = 128, mixed: bool = False) -> None:
    """Write `count` images, spread evenly over the classes."""
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
    write_chunk = partial(_write_chunk, folder, side, mixed, count)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(write_chunk, range(0, count, CHUNK_SIZE)))


def _write_chunk(folder: Path, side: int, mixed: bool, count: int, first: int) -> None:
    for number in range(first, min(first + CHUNK_SIZE, count)):
        random = np.random.default_rng(number)
        shape = tuple(random.integers(48, 257, 2)) if mixed and number % 2 else (side, side)
        label = number % CLASSES
        suffix = "png" if mixed and number % 100 == 0 else "jpg"
        image = _image(random, shape[0], shape[1], label)
        image.save(folder / f"class{label}" / f"{number:06d}.{suffix}", quality=85)


def _image(random: np.random.Generator, height: int, width: int, label: int) -> Image.Image:
    coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    rows, columns = np.ogrid[:height, :width]
    inside = (rows - height * random.random()) ** 2 + (columns - width * random.random()) ** 2 < (0.2 * height) ** 2
    pixels[inside] = pixels[inside] // 2 + np.array([25 * label, 250 - 25 * label, 128]) // 2
    grain = random.integers(-8, 9, pixels.shape, np.int16)
    return Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    main()
