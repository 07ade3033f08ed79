"""The work in parts: some images each, by their names only. What a part contains decides the name of its file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from convscope.deploy.sources.items import Archive, Found, ParquetFile, RemoteImage, name_of
from convscope.errors import ImageError

IMAGES_PER_PART = 1024


class Missing(NamedTuple):
    """An image that was not found, and why: an ImageError that can be sent."""

    image: str
    message: str


Item: TypeAlias = "str | Archive | RemoteImage | ParquetFile | Missing"


class Part(NamedTuple):
    """Images that are scored together, in order.

    Attributes:
        number: from 0; parts in their order hold the images in theirs.
        items: what to read.
    """

    number: int
    items: tuple[Item, ...]

    @property
    def file(self) -> str:
        """The name of the file of its answers. It tells whether an earlier call has written the same."""
        digest = hashlib.sha256(repr(self.items).encode()).hexdigest()[:16]
        return f"part-{self.number:08}-{digest}.parquet"


def plan_parts(found: Iterable[Found], is_wanted: Callable[[str], bool]) -> Iterator[Part]:
    """Put images into parts of the same size; an archive is a part of its own, and so are row groups of Parquet.

    Args:
        found: See `find_images`; they are consumed as parts are.
        is_wanted: Receives the name of each image, archive or Parquet file; unwanted ones are left out.
    """
    return (Part(number, items) for number, items in enumerate(_groups(found, is_wanted)))


def _groups(found: Iterable[Found], is_wanted: Callable[[str], bool]) -> Iterator[tuple[Item, ...]]:
    some: list[Item] = []
    for one in found:
        if not is_wanted(one.path if isinstance(one, Archive | ParquetFile) else name_of(one)):
            continue
        alone = _alone(one)
        if some and (alone or len(some) == IMAGES_PER_PART):
            yield tuple(some)
            some = []
        if alone:
            yield from ((item,) for item in alone)
        else:
            some.append(_item(one))
    if some:
        yield tuple(some)


def _alone(one: Found) -> Sequence[Archive | ParquetFile]:
    """The parts that something becomes alone; none for a single image."""
    if isinstance(one, ParquetFile):
        from convscope.deploy.sources.parquet import split_groups  # here, because few need it

        return split_groups(one, IMAGES_PER_PART)
    return [one] if isinstance(one, Archive) else []


def _item(one: Found) -> Item:
    if isinstance(one, ImageError):
        return Missing(one.image, str(one))
    assert isinstance(one, str | RemoteImage), "scoring takes paths and addresses"
    return one
