"""Archives and Parquet files are replaced by the images in them, and every image comes once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from pathlib import Path

from convscope.deploy.sources.items import (
    Archive,
    Found,
    ImageSource,
    ParquetFile,
    PassedOver,
    RemoteImage,
    name_of,
    plain_name,
)
from convscope.deploy.sources.remote import read_remote
from convscope.errors import ImageError


def read_archives(
    found: Iterable[Found], passed_over: PassedOver, is_wanted: Callable[[str], bool] = lambda _: True
) -> Iterator[ImageSource | ImageError]:
    """Replace archives and Parquet files by the images in them, and read images at addresses.

    Args:
        found: See `find_images`.
        passed_over: Counts what is not an image.
        is_wanted: Receives the name of each image before it is read; unwanted ones are left out.

    Yields:
        Images, and errors of what cannot be read.
    """
    return read_remote(_open_archives(found, passed_over, is_wanted))


def _open_archives(
    found: Iterable[Found], passed_over: PassedOver, is_wanted: Callable[[str], bool]
) -> Iterator[ImageSource | RemoteImage | ImageError]:
    for one in found:
        if isinstance(one, Archive):
            from convscope.deploy.sources.archives import images_in_archive  # here, because few need it

            yield from images_in_archive(one.path, passed_over, is_wanted)
        elif isinstance(one, ParquetFile):
            from convscope.deploy.sources.parquet import images_in_parquet  # here, because few need it

            yield from images_in_parquet(one, is_wanted)
        elif not isinstance(one, str | Path | RemoteImage | ImageError) or is_wanted(name_of(one)):
            yield one


class OnceFilter:
    """A test for `read_archives` that accepts every image once, and none that is done.

    Args:
        done: `plain_name`s of images.
        passed_over: Counts images that are named more than once.

    Attributes:
        seen: The `plain_name`s of all images that it was asked about.
    """

    def __init__(self, done: Set[str], passed_over: PassedOver) -> None:
        self.seen: set[str] = set()
        self._done, self._passed_over = done, passed_over

    def __call__(self, name: str) -> bool:
        plain = plain_name(name)
        if plain in self.seen:
            self._passed_over.repeated += 1
            return False
        self.seen.add(plain)
        return plain not in self._done


def count_images(found: Iterable[Found]) -> int | None:
    """How many images there are; None if only reading an archive can tell."""
    total = 0
    for one in found:
        if isinstance(one, Archive):
            from convscope.deploy.sources.archives import count_members  # here, because few need it

            count = count_members(one.path)
        elif isinstance(one, ParquetFile):
            from convscope.deploy.sources.parquet import count_rows  # here, because few need it

            count = count_rows(one)
        else:
            count = 1
        if count is None:
            return None
        total += count
    return total
