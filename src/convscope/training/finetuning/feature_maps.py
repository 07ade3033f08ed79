"""What frozen layers compute for the images of a split: once, by ONNX Runtime, into files that the next start finds.

    CACHE/features/KEY.features.npy   float32 (n, features)
    CACHE/features/KEY.maps.npy       float16 (n, height, width, channels), if layers behind the cut are to be trained

KEY is the SHA-256 of everything that they follow from: layers, weights, preprocessing, images, augmentation, threads
and versions. When all of them take more than `MAX_CACHE_BYTES`, the oldest are removed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from convscope._files import replace_file
from convscope._reporting import Reporter
from convscope.backends.native.step import gather_batch
from convscope.backends.onnx.export import MAPS, to_maps_onnx
from convscope.backends.onnx.graph import Weights
from convscope.backends.onnx.metadata import FEATURES, INPUT
from convscope.backends.onnx.session import RUNTIME_VERSION, open_session
from convscope.backends.pytorch.models import as_batch
from convscope.data.cache.guard import explain_bus_errors
from convscope.data.dataset import Split
from convscope.images.preprocessing import Preprocessing
from convscope.network.layers.base import Shape
from convscope.network.network import Network
from convscope.training.augmentation import EpochAugmentation
from convscope.training.finetuning.tail import EXTRACTING, Maps
from convscope.training.recipe import AugmentationConfig

Floats = NDArray[np.float32]

FORMAT = 1  # of what is computed; another one finds nothing in the cache
BATCH_SIZE = 32
MAX_CACHE_BYTES = 4 * 2**30
NAME = Path("the backbone")  # for messages


@dataclass(frozen=True)
class View:
    """The images of a split as the frozen layers see them, once plain or once augmented.

    Both are memory-mapped.

    Attributes:
        features: float32 (n, features), the vectors before the classifier.
        maps: float16 (n, height, width, channels): the output of the last frozen layer; None if only
            the classifier is trained.
    """

    features: Floats
    maps: Maps | None = None


@dataclass(frozen=True)
class FrozenLayers:
    """The frozen part of a network.

    Attributes:
        network: All layers.
        weights: Of the layers before the classifier, by name.
        preprocessing: Gives their input.
        cut: How many layers compute the maps; None for features alone.
        threads: How many compute.
    """

    network: Network
    weights: Weights
    preprocessing: Preprocessing
    cut: int | None
    threads: int

    @property
    def bytes_per_image(self) -> int:
        """Of maps and features."""
        maps = 2 * prod(self.network.layers[self.cut - 1].output_shape) if self.cut else 0
        return maps + 4 * self.network.layers[-2].input_shape[0]

    def digest(self) -> str:
        """A SHA-256 of layers, weights, input and what computes."""
        parts = (
            self.network.architecture,
            self.network.input_shape,
            self.cut,
            self.threads,
            RUNTIME_VERSION,
            FORMAT,
        )
        digest = hashlib.sha256(repr(parts).encode())
        digest.update(self.preprocessing.table.tobytes())
        for name, array in sorted(self.weights.items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class FeatureExtractor:
    """Computes views of splits, or reads them from the cache.

    Args:
        frozen: The layers.
        folder: The cache.
        reporter: Its progress counts images.
    """

    def __init__(self, frozen: FrozenLayers, folder: Path, reporter: Reporter) -> None:
        self.frozen, self.folder, self.reporter = frozen, folder, reporter
        content = to_maps_onnx(frozen.network, frozen.weights, frozen.cut)
        self.session = open_session(content, NAME, frozen.threads)
        self.digest = frozen.digest()
        self.done, self.total = 0, 0  # images
        self._hashes: dict[int, tuple[Split, bytes]] = {}  # by the identity of the split, which stays alive here

    def expect(self, images: int) -> None:
        """Count the progress of this number of images from now on."""
        self.done, self.total = 0, images

    def seconds_per_image(self, split: Split) -> float:
        """How long the features of an image take, measured on a batch after another one; nothing is cached."""
        first = split.subsample(BATCH_SIZE)
        seconds = []
        for images in (*self._batches(first, None), *self._batches(first, None)):
            start = time.perf_counter()
            self.session.run([FEATURES], {INPUT: images})
            seconds.append(time.perf_counter() - start)
        return seconds[-1] / len(first)

    def plain(self, split: Split) -> View:
        """The images as they are."""
        return self._view(split, "", None)

    def augmented(self, split: Split, config: AugmentationConfig, seed: int, number: int) -> View:
        """The images as epoch `number` of a training would show them; see `EpochAugmentation`."""
        augmentation = EpochAugmentation(config, seed, number, (len(split), *split.shape), 0)
        return self._view(split, f"{config.model_dump_json()} {seed} {number}", augmentation)

    def flipped(self, split: Split) -> View:
        """The images, all flipped left to right."""
        augmentation = EpochAugmentation(AugmentationConfig(), 0, 0, (len(split), *split.shape), 0)
        augmentation.flips = np.ones(len(split), bool)
        return self._view(split, "flipped", augmentation)

    def _view(self, split: Split, name: str, augmentation: EpochAugmentation | None) -> View:
        digest = hashlib.sha256(f"{self.digest} {name}".encode())
        digest.update(self._content(split))
        files = {FEATURES: self.folder / f"{digest.hexdigest()}.features.npy"}
        if self.frozen.cut:
            files[MAPS] = self.folder / f"{digest.hexdigest()}.maps.npy"
        found = _read(files, len(split))
        if found is not None:
            self._report(len(split))
        else:
            self._compute(split, augmentation, files)
            found = _read(files, len(split))
        assert found is not None
        limit_cache(self.folder, keep=set(files.values()))
        return found

    def _content(self, split: Split) -> bytes:
        """The hashes of all pixels of a split, computed once."""
        if id(split) not in self._hashes:
            self._hashes[id(split)] = split, split.hashes().tobytes()
        return self._hashes[id(split)][1]

    def _compute(self, split: Split, augmentation: EpochAugmentation | None, files: Mapping[str, Path]) -> None:
        """Write the files of a view. Raises ConvscopeError if the disk is full."""
        shapes = {name: (len(split), *shape) for name, shape in self._shapes().items()}
        with ExitStack() as stack:
            opened = {name: stack.enter_context(replace_file(path)) for name, path in files.items()}
            for name, file in opened.items():
                dtype = np.dtype(np.float32 if name == FEATURES else np.float16)
                header = {"descr": dtype.str, "fortran_order": False, "shape": shapes[name]}
                np.lib.format.write_array_header_1_0(file, header)
            for images in self._batches(split, augmentation):
                values = self.session.run(list(files), {INPUT: images})
                for file, array in zip(opened.values(), values, strict=True):
                    file.write(array.tobytes())
                self._report(len(images))

    def _shapes(self) -> dict[str, Shape]:
        layers, cut = self.frozen.network.layers, self.frozen.cut
        return {FEATURES: layers[-2].input_shape} | ({MAPS: layers[cut - 1].output_shape} if cut else {})

    def _batches(self, split: Split, augmentation: EpochAugmentation | None) -> Iterator[Floats]:
        """The input of the network, float32 (n, channels, height, width), some images at a time."""
        table = self.frozen.preprocessing.table
        for first in range(0, len(split), BATCH_SIZE):
            index = np.arange(first, min(first + BATCH_SIZE, len(split)))
            rows, shifts, flips = split.indices(index), None, None
            if augmentation is not None:
                shifts = None if augmentation.shifts is None else augmentation.shifts[index]
                flips = None if augmentation.flips is None else augmentation.flips[index]
            images = as_batch(gather_batch(split.store, rows, table, shifts, flips))
            if augmentation is not None:
                images = augmentation.apply(images, index, 1)
            yield images.contiguous(memory_format=torch.contiguous_format).numpy()

    def _report(self, images: int) -> None:
        self.done += images
        self.reporter.progress(EXTRACTING, self.done, max(self.done, self.total))


def limit_cache(folder: Path, keep: Collection[Path] = ()) -> None:
    """Remove the oldest files while all take more than `MAX_CACHE_BYTES`, but none of `keep`."""
    with suppress(OSError):
        files = sorted(folder.glob("*.npy"), key=lambda path: path.stat().st_mtime)
        size = sum(path.stat().st_size for path in files)
        for path in files:
            if size > MAX_CACHE_BYTES and path not in keep:
                size -= path.stat().st_size
                path.unlink()


def _read(files: Mapping[str, Path], images: int) -> View | None:
    """The arrays in the files of a view; None if one is missing or damaged."""
    try:
        arrays = {name: np.load(path, mmap_mode="r") for name, path in files.items()}
    except (OSError, ValueError):
        return None
    if any(len(array) != images for array in arrays.values()):
        return None
    for path in files.values():
        explain_bus_errors(path)
    return View(arrays[FEATURES], arrays.get(MAPS))
