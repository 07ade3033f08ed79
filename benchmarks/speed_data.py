"""Write training images of any size and number: ten patterns with noise. Runs in convscope's environment.

    speed_data.py SIZE IMAGES FILE.npz

Writes uint8 images (n, size, size) with labels: n for training, and n / 6 for testing, as in MNIST.
"""

from __future__ import annotations

import sys

import numpy as np


def main(size: int, images: int, file: str) -> None:
    """Write the file."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 128, (10, size, size), np.uint8)
    arrays = {}
    for part, number in (("train", images), ("test", max(10, images // 6))):
        labels = np.arange(number) % 10
        noise = rng.integers(0, 128, (number, size, size), np.uint8)
        arrays |= {f"x_{part}": patterns[labels] + noise, f"y_{part}": labels}
    np.savez(file, **arrays)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
