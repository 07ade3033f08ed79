"""What frozen layers compute for the images of a split: once, by ONNX Runtime, into files that the next start finds.

    CACHE/features/KEY.features.npy   float32 (n, features)
    CACHE/features/KEY.maps.npy       float16 (n, height, width, channels), if layers behind the cut are to be trained

KEY is the SHA-256 of everything that they follow from: layers, weights, preprocessing, images, augmentation, threads
and versions. When all of them take more than `MAX_CACHE_BYTES`, the oldest are removed. If the cache cannot be
written, a temporary folder is used instead.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convscope._files import open_regular, replace_file
from convscope._reporting import Reporter
from convscope.backends.native.step import gather_batch
from convscope.backends.onnx.export import MAPS, to_maps_onnx
from convscope.backends.onnx.graph import Weights
from convscope.backends.onnx.metadata import FEATURES, INPUT
from convscope.backends.onnx.session import RUNTIME_VERSION, open_session
from convscope.backends.pytorch.models import as_batch
from convscope.data.cache.guard import explain_bus_errors
from convscope.data.dataset import Split
from convscope.errors import ConvscopeError, DataError
from convscope.images.preprocessing import Preprocessing
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


@dataclass(frozen=True)
class ArrayFile:
    """A .npy file whose type and shape are known.

    Attributes:
        path: Where it is.
        dtype: Of its values.
        shape: Of the array.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def header(self) -> bytes:
        """What comes before the values."""
        file = BytesIO()
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(file, header)
        return file.getvalue()

    def open(self) -> NDArray[Any] | None:
        """The array, memory-mapped; None if the file is missing, or has another header or length."""
        header, size = self.header, self.dtype.itemsize * prod(self.shape)
        try:
            with open_regular(self.path) as file:
                sound = file.read(len(header)) == header and file.seek(0, SEEK_END) == len(header) + size
        except (OSError, DataError):
            return None
        if not sound:
            return None
        explain_bus_errors(self.path)
        return np.memmap(self.path, self.dtype, "r", len(header), self.shape)


Arrays = Mapping[str, ArrayFile]


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
        key = hashlib.sha256(f"{self.digest} {name}".encode())
        key.update(self._content(split))
        arrays = self._arrays(self.folder, key.hexdigest(), len(split))
        found = _read(arrays)
        if found is None:
            found = self._computed(arrays, split, augmentation)
        else:
            self._report(len(split))
        limit_cache(self.folder, keep={array.path for array in arrays.values()})
        return found

    def _content(self, split: Split) -> bytes:
        """The hashes of all pixels of a split, computed once."""
        if id(split) not in self._hashes:
            self._hashes[id(split)] = split, split.hashes().tobytes()
        return self._hashes[id(split)][1]

    def _arrays(self, folder: Path, key: str, images: int) -> dict[str, ArrayFile]:
        """The files of a view by the name of what they hold."""
        layers, cut = self.frozen.network.layers, self.frozen.cut
        features = (images, *layers[-2].input_shape)
        arrays = {FEATURES: ArrayFile(folder / f"{key}.features.npy", np.dtype(np.float32), features)}
        if cut:
            maps = (images, *layers[cut - 1].output_shape)
            arrays[MAPS] = ArrayFile(folder / f"{key}.maps.npy", np.dtype(np.float16), maps)
        return arrays

    def _computed(self, arrays: Arrays, split: Split, augmentation: EpochAugmentation | None) -> View:
        """Compute a view into its files, or temporary ones. Raises ConvscopeError if neither can be written."""
        try:
            self._write(arrays, split, augmentation)
            found = _read(arrays)
        except ConvscopeError as error:
            reason = getattr(error.__cause__, "strerror", error)
            self.reporter.message(
                f"cannot write to the cache {self.folder} ({reason}): features are computed at every start"
            )
            with _temporary_folder() as folder:
                arrays = self._arrays(folder, "view", len(split))
                self._write(arrays, split, augmentation)
                found = _read(arrays)
        assert found is not None
        return found

    def _write(self, arrays: Arrays, split: Split, augmentation: EpochAugmentation | None) -> None:
        with ExitStack() as stack:
            files = [stack.enter_context(replace_file(array.path)) for array in arrays.values()]
            for file, array in zip(files, arrays.values(), strict=True):
                file.write(array.header)
            for images in self._batches(split, augmentation):
                for file, values in zip(files, self.session.run(list(arrays), {INPUT: images}), strict=True):
                    file.write(values.tobytes())
                self._report(len(images))

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


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder that is removed at the end; on Linux and macOS, open maps of its files stay readable."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="convscope-"))
    except OSError as error:
        raise ConvscopeError(
            f"cannot write features to a temporary folder either ({error.strerror}): free some space, or set "
            "XDG_CACHE_HOME or TMPDIR to a folder that has it"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def limit_cache(folder: Path, keep: Collection[Path] = ()) -> None:
    """Remove the oldest files while all take more than `MAX_CACHE_BYTES`, but none of `keep`."""
    with suppress(OSError):
        files = sorted(folder.glob("*.npy"), key=lambda path: path.stat().st_mtime)
        size = sum(path.stat().st_size for path in files)
        for path in files:
            if size > MAX_CACHE_BYTES and path not in keep:
                size -= path.stat().st_size
                path.unlink()


def _read(arrays: Arrays) -> View | None:
    """The arrays in the files of a view; None if one is missing or is not as it was written."""
    opened = {name: array.open() for name, array in arrays.items()}
    features, maps = opened[FEATURES], opened.get(MAPS)
    return None if features is None or (MAPS in arrays and maps is None) else View(features, maps)
