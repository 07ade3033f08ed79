"""Maps and features of frozen layers: equal to the torch model's, in every view, and found again in the cache."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from convscope.backends.pytorch.models import as_batch, get_weights
from convscope.data.dataset import Split
from convscope.errors import ConvscopeError
from convscope.training.augmentation import (
    adjust_colors,
    crop_and_resize,
    epoch_colors,
    epoch_crops,
    epoch_flips,
    epoch_shifts,
)
from convscope.training.finetuning import feature_maps
from convscope.training.finetuning.feature_maps import BATCH_SIZE, FeatureExtractor, FrozenLayers, View, limit_cache
from convscope.training.finetuning.tail import EXTRACTING
from convscope.training.recipe import AugmentationConfig
from helpers.networks import NetworkCase, random_images, random_preprocessing, trained_model
from helpers.reporting import FailingReporter, RecordingReporter

Floats = NDArray[np.float32]

CASE = NetworkCase(
    "conv 8 3 stride 2 pad same, batchnorm, relu, residual(conv 8 3 pad same, relu), "
    "conv 12 3 stride 2 pad same, relu, globalavg, dropout 0.3",
    (16, 16, 3),
    4,
)
CUT = 4
MODEL = trained_model(CASE)
WEIGHTS = {name: array for name, array in get_weights(MODEL).items() if not name.startswith("classifier.")}
PREPROCESSING = random_preprocessing(CASE)
IMAGES = BATCH_SIZE + 5
STORE = random_images(CASE, IMAGES + 10)
AUGMENTATION = AugmentationConfig(max_shift=2, min_crop_area=0.4, color_jitter=0.2, horizontal_flip="always")


def split_of(seed: int = 0) -> Split:
    """Some images of the store in an order of their own."""
    rows = np.random.default_rng(seed).permutation(len(STORE))[:IMAGES]
    return Split(STORE, np.arange(len(STORE)) % 4).take(rows)


def frozen(cut: int | None = CUT, **changes: Any) -> FrozenLayers:
    values = {"network": CASE.network, "weights": WEIGHTS, "preprocessing": PREPROCESSING, "threads": 1, **changes}
    return FrozenLayers(cut=cut, **values)


def extractor(folder: Path, cut: int | None = CUT, **changes: Any) -> FeatureExtractor:
    return FeatureExtractor(frozen(cut, **changes), folder, FailingReporter())


class Refusing:
    """A session that must not be run."""

    def run(self, *_: object) -> None:
        pytest.fail("computed again")


def forbid_computing(found: FeatureExtractor) -> FeatureExtractor:
    found.session = Refusing()
    return found


def normalized(images: NDArray[np.uint8]) -> Tensor:
    """The input of the network, worked out pixel by pixel."""
    scale, mean = np.array(PREPROCESSING.scale, np.float32), np.array(PREPROCESSING.mean, np.float32)
    return as_batch(images.astype(np.float32) * scale - mean)


def check_view(view: View, inputs: Tensor, cut: int | None = CUT) -> None:
    """The view is what the torch model computes of these inputs; maps are rounded to float16."""
    with torch.inference_mode():
        features = MODEL[:-1](inputs).numpy()
    assert view.features.dtype == np.float32
    np.testing.assert_allclose(view.features, features, rtol=1e-4, atol=1e-4)
    if cut is None:
        assert view.maps is None
        return
    with torch.inference_mode():
        maps = MODEL[:cut](inputs).permute(0, 2, 3, 1).numpy()
    assert view.maps is not None
    assert view.maps.dtype == np.float16
    np.testing.assert_allclose(view.maps, maps, rtol=2e-3, atol=2e-3)


# What is computed


@pytest.mark.parametrize("cut", [None, 1, 3, CUT, 6])
def test_extractor_plain_view_equals_the_models_own_layers(tmp_path: Path, cut: int | None) -> None:
    """The model's layers in torch, cut between any of them."""
    split = split_of()
    check_view(extractor(tmp_path, cut).plain(split), normalized(split.images), cut)


def test_extractor_flipped_view_shows_images_mirrored(tmp_path: Path) -> None:
    split = split_of()
    check_view(extractor(tmp_path).flipped(split), normalized(split.images[:, :, ::-1]))


def shifted(images: NDArray[np.uint8], shifts: NDArray[np.int64], pixels: int) -> NDArray[np.uint8]:
    """Cut each shifted image out of its reflection."""
    height, width = images.shape[1:3]
    wide = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="reflect")
    corners = (pixels - shifts).tolist()
    return np.stack([image[y : y + height, x : x + width] for image, (y, x) in zip(wide, corners, strict=True)])


@pytest.mark.parametrize("number", [1, 2])
def test_extractor_augmented_view_is_what_that_epoch_shows(tmp_path: Path, number: int) -> None:
    split, seed = split_of(), 7
    flips = epoch_flips(seed, number, IMAGES)
    images = np.where(flips[:, None, None, None], split.images[:, :, ::-1], split.images)
    inputs = normalized(shifted(images, epoch_shifts(seed, number, IMAGES, 2), 2))
    inputs = crop_and_resize(inputs, epoch_crops(seed, number, IMAGES, 0.4), 1)
    inputs = adjust_colors(inputs, epoch_colors(seed, number, IMAGES, 3, 0.2))
    check_view(extractor(tmp_path).augmented(split, AUGMENTATION, seed, number), inputs)


def test_extractor_without_augmentation_an_augmented_view_is_plain(tmp_path: Path) -> None:
    found = extractor(tmp_path)
    plain, augmented = found.plain(split_of()), found.augmented(split_of(), AugmentationConfig(), 0, 1)
    np.testing.assert_array_equal(augmented.features, plain.features)


def test_bytes_per_image_is_what_the_files_of_a_view_take(tmp_path: Path) -> None:
    for cut in (None, CUT):
        extractor(tmp_path / str(cut), cut).plain(split_of())
        arrays = sum(path.stat().st_size - 128 for path in (tmp_path / str(cut)).iterdir())
        assert arrays == IMAGES * frozen(cut).bytes_per_image


def test_extractor_progress_counts_images_also_those_found_in_the_cache(tmp_path: Path) -> None:
    for _ in range(2):
        reporter = RecordingReporter()
        found = FeatureExtractor(frozen(), tmp_path, reporter)
        found.expect(2 * IMAGES)
        found.plain(split_of())
        found.flipped(split_of())
        assert reporter.tasks[-1] == (EXTRACTING, 2 * IMAGES, 2 * IMAGES)
        assert {total for _, _, total in reporter.tasks} == {2 * IMAGES}
    assert len(reporter.tasks) == 2  # one for each view that was found


# The cache


def test_extractor_finds_views_again_without_computing(tmp_path: Path) -> None:
    found, again = extractor(tmp_path), forbid_computing(extractor(tmp_path))
    views: list[Callable[[FeatureExtractor], View]] = [plain, augmented(), lambda one: one.flipped(split_of())]
    for view in views:
        first, second = view(found), view(again)
        assert first.maps is not None
        assert second.maps is not None
        assert first.features.tobytes() == second.features.tobytes()
        assert first.maps.tobytes() == second.maps.tobytes()
    assert len(list(tmp_path.iterdir())) == 6


def other_weights() -> dict[str, NDArray[Any]]:
    first = next(iter(WEIGHTS))
    return {**WEIGHTS, first: np.nextafter(WEIGHTS[first], np.float32(9))}


def plain(found: FeatureExtractor) -> View:
    return found.plain(split_of())


def augmented(seed: int = 0, number: int = 1, config: AugmentationConfig = AUGMENTATION) -> Callable[..., View]:
    return lambda found: found.augmented(split_of(), config, seed, number)


KEYS: dict[str, tuple[dict[str, Any], Callable[[FeatureExtractor], View]]] = {
    "plain": ({}, plain),
    "flipped": ({}, lambda found: found.flipped(split_of())),
    "other images": ({}, lambda found: found.plain(split_of(1))),
    "fewer images": ({}, lambda found: found.plain(split_of().take(np.arange(3)))),
    "augmented": ({}, augmented()),
    "other number": ({}, augmented(number=2)),
    "other seed": ({}, augmented(seed=1)),
    "other augmentation": ({}, augmented(config=AugmentationConfig(max_shift=2))),
    "other weights": ({"weights": other_weights()}, plain),
    "other preprocessing": ({"preprocessing": random_preprocessing(CASE, 1)}, plain),
    "other cut": ({"cut": 3}, plain),
    "no cut": ({"cut": None}, plain),
    "other threads": ({"threads": 2}, plain),
    "other network": ({"network": CASE._replace(architecture=CASE.architecture.replace("0.3", "0.2")).network}, plain),
}


def test_extractor_whatever_changes_views_changes_the_key(tmp_path: Path) -> None:
    keys = {}
    for name, (changes, view) in KEYS.items():
        view(extractor(tmp_path / name, **changes))
        keys[name] = {path.name.partition(".")[0] for path in (tmp_path / name).iterdir()}
    assert all(len(key) == 1 for key in keys.values())
    assert len(set.union(*keys.values())) == len(KEYS)


def test_extractor_labels_and_order_of_the_store_do_not_change_the_key(tmp_path: Path) -> None:
    split = split_of()
    extractor(tmp_path).plain(split)
    forbid_computing(extractor(tmp_path)).plain(Split(split.images, split.labels * 0))


def truncated(length: float) -> Callable[[Path], object]:
    """Keep this many bytes; a negative number or a fraction is relative to the size."""

    def truncate(path: Path) -> None:
        size = path.stat().st_size
        kept = length if length >= 1 else length * size if length > 0 else size + length
        os.truncate(path, int(kept))

    return truncate


def overwritten(start: int, content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(
        path.read_bytes()[:start] + content + path.read_bytes()[start + len(content) :]
    )


def saved(array: NDArray[Any]) -> Callable[[Path], object]:
    def save(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, array)

    return save


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "magic alone": truncated(6),
    "half a header": truncated(60),
    "header alone": truncated(128),
    "half": truncated(0.5),
    "a byte short": truncated(-1),
    "a byte too many": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a zip file": overwritten(0, b"PK\x03\x04"),
    "a pickle": lambda path: path.write_bytes(b"\x80\x04N."),
    "no header": overwritten(10, b"{'descr': (((("),
    "brackets in the header": overwritten(10, b"[" * 100),
    "other version": overwritten(6, b"\x09"),
    "no array": saved(np.array(3.0)),
    "other shape": saved(np.zeros((IMAGES, 5), np.float32)),
    "other type": saved(np.zeros((IMAGES, 12), np.float64)),
    "fewer images": saved(np.zeros((IMAGES - 1, 12), np.float32)),
}


@pytest.mark.parametrize("kind", ["features", "maps"])
@pytest.mark.parametrize("name", DAMAGE)
def test_extractor_damaged_file_is_computed_again(tmp_path: Path, name: str, kind: str) -> None:
    first = extractor(tmp_path).plain(split_of())
    features, maps = first.features.tobytes(), first.maps.tobytes() if first.maps is not None else b""
    (path,) = tmp_path.glob(f"*.{kind}.npy")
    content = path.read_bytes()
    DAMAGE[name](path)
    again = extractor(tmp_path).plain(split_of())
    assert again.maps is not None
    assert (again.features.tobytes(), again.maps.tobytes()) == (features, maps)
    assert path.read_bytes() == content
    forbid_computing(extractor(tmp_path)).plain(split_of())


def test_extractor_interrupted_computation_leaves_nothing(tmp_path: Path) -> None:
    class Interrupted(RecordingReporter):
        def progress(self, task: str, done: int, total: int | None) -> None:
            super().progress(task, done, total)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FeatureExtractor(frozen(), tmp_path, Interrupted()).plain(split_of())
    assert list(tmp_path.iterdir()) == []


def test_limit_cache_removes_the_oldest_but_not_those_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, name in enumerate(["new", "middle", "old", "in use", "oldest"]):
        path = tmp_path / f"{name}.npy"
        path.write_bytes(bytes(100))
        os.utime(path, (10**9 - age, 10**9 - age))
    (tmp_path / "other.txt").write_bytes(bytes(1000))
    monkeypatch.setattr(feature_maps, "MAX_CACHE_BYTES", 300)
    limit_cache(tmp_path, keep={tmp_path / "in use.npy"})
    assert {path.stem for path in tmp_path.iterdir()} == {"new", "middle", "in use", "other"}
    limit_cache(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4  # they just fit
    limit_cache(tmp_path / "missing")


def test_extractor_limits_the_cache_but_keeps_the_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = extractor(tmp_path)
    first = found.plain(split_of())
    kept = first.features.tobytes()
    monkeypatch.setattr(feature_maps, "MAX_CACHE_BYTES", 1)
    old = set(tmp_path.iterdir())
    second = found.flipped(split_of())
    assert len(set(tmp_path.iterdir())) == 2
    assert not old & set(tmp_path.iterdir())
    assert first.features.tobytes() == kept
    assert second.maps is not None
    assert np.isfinite(second.maps).all()


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A folder that cannot be made, not even by root."""
    (tmp_path / "file").write_bytes(b"")
    return tmp_path / "file" / "features"


def test_extractor_unwritable_cache_uses_a_temporary_folder(
    unwritable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    reporter, split = RecordingReporter(), split_of()
    view = FeatureExtractor(frozen(), unwritable, reporter).plain(split)
    (message,) = reporter.messages
    assert message == f"cannot write to the cache {unwritable} (Not a directory): features are computed at every start"
    check_view(view, normalized(split.images))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_extractor_folder_in_place_of_a_file_uses_a_temporary_folder(tmp_path: Path) -> None:
    split, reporter = split_of(), RecordingReporter()
    extractor(tmp_path).plain(split)
    (path,) = tmp_path.glob("*.maps.npy")
    path.unlink()
    path.mkdir()
    check_view(FeatureExtractor(frozen(), tmp_path, reporter).plain(split), normalized(split.images))
    assert "it is a folder" in reporter.messages[0]


def test_extractor_without_any_place_to_write_raises_one_line(
    unwritable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    found = FeatureExtractor(frozen(), unwritable, RecordingReporter())
    with pytest.raises(
        ConvscopeError,
        match=r"^cannot write features to a temporary folder either \(No space left on device\): [^\n]*TMPDIR",
    ):
        found.plain(split_of())
