"""Data sets by name: digits, MNIST, Fashion-MNIST and CIFAR-10, and the places where they are searched."""

from __future__ import annotations

import gzip
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.data import named
from convscope.data.load import load_data, load_default
from convscope.data.named import images_at_hand
from convscope.data.statistics import dataset_statistics
from convscope.errors import DataError, MissingExtraError
from helpers.reporting import RecordingReporter

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data folder, an empty cache and no network."""
    monkeypatch.delenv("CONVSCOPE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def refuse(*_: object) -> dict[str, bytes]:
        raise DataError("no mirror delivered it")

    monkeypatch.setattr(named, "fetch", refuse)


@pytest.fixture(scope="session")
def cifar(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the official cifar-10-batches-bin."""
    folder = tmp_path_factory.mktemp("cifar")
    subprocess.run([sys.executable, data_folder / "unpack_cifar10.py", folder], check=True)
    return folder


def test_digits_are_1797_with_a_fixed_test_split_of_20_percent() -> None:
    digits = load_data("digits")
    assert (len(digits.train), len(digits.test), digits.shape) == (1438, 359, (8, 8, 1))
    assert digits.classes == tuple("0123456789")
    levels = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]  # round(v * 255 / 16)
    assert np.unique(digits.train.images).tolist() == levels
    # The 1,797 images include 174 to 183 of each digit; 35 to 37 of each are 20 %.
    assert np.bincount(digits.test.labels).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert digits.fingerprint == "122d3f216d339ce4b8286e41fc7a3f4cd37c8cef4df6b413a5042647650f0800"
    assert digits.source == "scikit-learn; test split: a fixed, stratified 20 %"


def test_digits_are_read_without_importing_scikit_learn() -> None:
    code = "import sys, convscope; convscope.load_data('digits'); sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mnist_article_a10_has_70000_gray_28x28_digits(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A1, A10 and A11 of the article: uint8, 60,000 + 10,000, (n, 28, 28, 1), digits 0 to 9."""
    monkeypatch.setenv("CONVSCOPE_DATA", str(data_folder))
    mnist = load_data("mnist")
    assert mnist.train.images.shape == (60000, 28, 28, 1)
    assert mnist.test.images.shape == (10000, 28, 28, 1)
    assert mnist.train.images.dtype == np.uint8
    assert mnist.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    # Known of MNIST: the first nine training digits, and mean 0.1307 and std 0.3081 of the training pixels / 255.
    assert mnist.train.labels[:9].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1]
    train = dataset_statistics(mnist).splits["train"]
    assert train.mean is not None
    assert train.std is not None
    assert train.mean / 255 == pytest.approx(0.1307, abs=5e-5)
    assert train.std / 255 == pytest.approx(0.3081, abs=5e-5)
    assert mnist.source == str(data_folder / "mnist")


def test_fashion_mnist_has_its_official_classes(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_DATA", str(data_folder))
    fashion = load_data("fashion-mnist")
    assert (len(fashion.train), len(fashion.test), fashion.shape) == (60000, 10000, (28, 28, 1))
    readme = (data_folder / "fashion-mnist" / "README.md").read_text()
    assert " ".join(f"{i} {name}" for i, name in enumerate(fashion.classes)) in readme
    assert np.bincount(fashion.train.labels).tolist() == [6000] * 10


@pytest.mark.parametrize("folder", ["", "cifar-10", "cifar10"])
def test_cifar10_unpacked_is_found_and_decoded_plane_by_plane(
    data_folder: Path, cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "cifar-10-batches-bin").symlink_to(cifar / "cifar-10-batches-bin")
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path))
    cifar10 = load_data("cifar10")
    assert (len(cifar10.train), len(cifar10.test), cifar10.shape) == (50000, 10000, (32, 32, 3))
    assert cifar10.classes == tuple((cifar / "cifar-10-batches-bin" / "batches.meta.txt").read_text().split())
    with Image.open(data_folder / "cifar-10" / "train-099.webp") as strip:  # the last 500 training images
        expected = np.asarray(strip.convert("RGB")).reshape(500, 32, 32, 3)
    assert np.array_equal(cifar10.train.images[-500:], expected)
    labels = np.fromfile(data_folder / "cifar-10/test-labels.u8", np.uint8)
    assert cifar10.test.labels.tobytes() == labels.astype(np.int64).tobytes()


def test_cifar10_archive_is_read_without_unpacking(
    cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz", compresslevel=0) as tar:
        for path in sorted((cifar / "cifar-10-batches-bin").iterdir(), reverse=True):
            tar.add(path, f"./cifar-10-batches-bin/{path.name}")
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path))
    assert load_data("cifar10").fingerprint == "f68bb3dbbcc03c71a1f0ab9956e7fca99aa0acbc9a8f25c2a756622e984c9759"


def test_mnist_recompressed_is_accepted_and_damaged_is_not(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnist").mkdir()
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path))
    for path in (data_folder / "mnist").glob("*.gz"):
        content = gzip.decompress(path.read_bytes())
        dotted = path.name.replace("-idx", ".idx").removesuffix(".gz")
        (tmp_path / "mnist" / dotted).write_bytes(gzip.compress(content, 1) if "labels" in dotted else content)
    assert load_data("mnist").test.labels[:3].tolist() == [7, 2, 1]
    altered = tmp_path / "mnist" / "t10k-images.idx3-ubyte"
    altered.write_bytes(altered.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match=r"^mnist: .*t10k-images.idx3-ubyte: the content differs from the official"):
        load_data("mnist")


def test_named_set_that_cannot_be_loaded_lists_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"^mnist: not in \$CONVSCOPE_DATA, which is not set, nor in the cache"):
        load_data("mnist")
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path))
    (tmp_path / "cifar-10").mkdir()
    (tmp_path / "cifar-10" / "train-000.webp").touch()
    with pytest.raises(DataError) as error:
        load_data("cifar10")
    cache = tmp_path / "cache" / "convscope" / "cifar10"
    places = f"{tmp_path}, {tmp_path}/cifar-10, {tmp_path}/cifar10, nor in the cache {cache}"
    advice = "put cifar-10-binary.tar.gz into one of them, packed or unpacked, or try again with a network connection"
    assert str(error.value) == f"cifar10: not in {places}; no mirror delivered it; {advice}"
    assert error.value.exit_code == 3


def test_named_set_empty_environment_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSCOPE_DATA", "")
    with pytest.raises(DataError, match="which is not set"):
        load_data("mnist")


def test_load_default_is_mnist_or_else_digits(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = RecordingReporter()
    assert load_default(reporter).name == "digits"
    monkeypatch.setenv("CONVSCOPE_DATA", str(data_folder))
    assert load_default(reporter).name == "mnist"
    assert reporter.messages == [
        "No data set given, and MNIST cannot be loaded (`convscope data show mnist` says why): using digits",
        f"No data set given: using mnist from {data_folder}/mnist",
    ]


def test_digits_without_scikit_learn_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sklearn.datasets", raising=False)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"^digits needs the training extra: pip install 'convscope\[train\]'$"):
        load_data("digits")


def test_images_at_hand_are_the_first_test_images(
    data_folder: Path, cifar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, name in ((data_folder, "mnist"), (data_folder, "fashion-mnist"), (cifar, "cifar10")):
        monkeypatch.setenv("CONVSCOPE_DATA", str(folder))
        found = images_at_hand(name, 7)
        assert found is not None
        assert np.array_equal(found, load_data(name).test.images[:7])


def test_images_at_hand_in_the_cache_are_found(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "t10k-images-idx3-ubyte.gz"
    (tmp_path / "cache" / "convscope" / "mnist").mkdir(parents=True)
    (tmp_path / "cache" / "convscope" / "mnist" / name).write_bytes((data_folder / "mnist" / name).read_bytes())
    found = images_at_hand("mnist", 3)
    assert found is not None
    monkeypatch.setenv("CONVSCOPE_DATA", str(data_folder))
    assert np.array_equal(found, load_data("mnist").test.images[:3])


def test_images_at_hand_damaged_or_missing_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert images_at_hand("mnist", 3) is None
    monkeypatch.setenv("CONVSCOPE_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte").write_bytes(bytes(100))
    assert images_at_hand("mnist", 3) is None
