"""The backbones that can be had by name, and whether they are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convscope._records import Record
from convscope.errors import DataError
from convscope.network.build import parse_network
from convscope.network.network import Network
from convscope.pretrained.backbone import BackboneInfo
from convscope.pretrained.published import PUBLISHED, PublishedBackbone
from convscope.pretrained.store import backbones_folder, location, read_file, stored_file, stored_names


class BackboneEntry(Record):
    """A backbone that can be had by name.

    Attributes:
        name: For `--init`.
        architecture: As published, with batch normalization; of an added one, as stored.
        image_size: Side of the images that it was made for, in pixels.
        parameters: Of a published one with its classifier of 1,000 classes; of an added one without classifier.
        multiply_adds: Of one image of that size.
        top1: Published accuracy on the validation images of ImageNet-1k, 0..1; None if unknown.
        license: SPDX identifier; None if unknown.
        source: Who published it.
        training_data: What it was trained on.
        file: The name of the published file; None for an added backbone.
        file_bytes: Its size; None if unknown.
        sha256: Of the original file; the first digits if no more are known.
        path: The file that would be read; None if it is not on this machine.
    """

    name: str
    architecture: str
    image_size: int
    parameters: int
    multiply_adds: int
    top1: float | None
    license: str | None
    source: str
    training_data: str
    file: str | None
    file_bytes: int | None
    sha256: str
    path: str | None


class BackboneList(Record):
    """The backbones that can be had by name: those published, and those added under other names.

    Attributes:
        folder: Where added ones are kept.
        backbones: Those that can be had.
        problems: One line for each file in the folder that cannot be used.
    """

    folder: str
    backbones: tuple[BackboneEntry, ...]
    problems: tuple[str, ...]


def list_backbones() -> BackboneList:
    """The published backbones, whether they are on this machine or not, and the added ones."""
    entries, problems = [published_entry(published) for published in PUBLISHED.values()], []
    for name in stored_names():
        try:
            if name not in PUBLISHED:
                entries.append(entry_of(read_file(stored_file(name)), stored_file(name)))
        except DataError as error:
            problems.append(str(error))
    return BackboneList(folder=str(backbones_folder()), backbones=tuple(entries), problems=tuple(problems))


def published_entry(published: PublishedBackbone) -> BackboneEntry:
    """The entry of a published backbone."""
    path = location(published)
    return BackboneEntry(
        name=published.name,
        **_work(published.network),
        **published.provenance(published.sha256).model_dump(),
        file=published.file,
        file_bytes=published.bytes,
        path=None if path is None else str(path),
    )


def entry_of(backbone: BackboneInfo, path: Path) -> BackboneEntry:
    """The entry of a backbone that is kept in a file."""
    if backbone.name in PUBLISHED:
        return published_entry(PUBLISHED[backbone.name])
    network = parse_network(backbone.architecture, backbone.input_shape)
    classifier = network.layers[-2]
    work = _work(network)
    work["parameters"] -= classifier.parameters
    work["multiply_adds"] -= classifier.multiply_adds
    origin = backbone.provenance.model_dump()
    return BackboneEntry(name=backbone.name, **work, **origin, file=None, file_bytes=None, path=str(path))


def _work(network: Network) -> dict[str, Any]:
    return {
        "architecture": network.architecture,
        "image_size": network.input_shape[0],
        "parameters": network.parameters,
        "multiply_adds": network.multiply_adds,
    }
