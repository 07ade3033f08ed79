"""Checksums of large files, fast enough to be verified at every start: CRC-32, in chunks and threads.

CRC-32 finds damage, not forgery: whoever can write to the cache can also write to the data set. One core does about
2 GB/s with zlib, which is less than it takes to read a file from most disks.
"""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from convscope._files import open_regular
from convscope._hardware import max_threads

CHUNK_BYTES = 2**24
BLOCK_BYTES = 2**20  # that are in memory at once, per thread


def checksums(path: Path) -> tuple[int, ...]:
    """The CRC-32 of every chunk of 16 MiB of a file.

    Raises:
        DataError: it is not a regular file.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
    starts = range(0, size, CHUNK_BYTES)
    with ThreadPoolExecutor(max(1, min(max_threads(), len(starts)))) as pool:
        return tuple(pool.map(lambda start: _chunk_checksum(path, start), starts))


def _chunk_checksum(path: Path, start: int) -> int:
    checksum, block = 0, bytearray(BLOCK_BYTES)
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        for _ in range(0, CHUNK_BYTES, BLOCK_BYTES):
            count = file.readinto(block) or 0
            checksum = zlib.crc32(memoryview(block)[:count], checksum)
    return checksum
