"""The table of data sets that are downloaded by name. (`digits` comes with scikit-learn.)"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from convscope.data.archives import File, Package
from convscope.data.dataset import Split
from convscope.data.formats.cifar import decode_cifar10, decode_cifar10_images
from convscope.data.formats.idx import decode_idx_images, decode_idx_pairs
from convscope.data.types import Images


@dataclass(frozen=True)
class NamedSet:
    """A data set that is loaded by name.

    Attributes:
        name: what the user types.
        classes: the class names.
        folders: folders in $CONVSCOPE_DATA that may hold it.
        mirrors: URLs that end in a slash, tried in this order.
        packages: what is downloaded.
        symmetric: whether a horizontal flip preserves the class.
        decode: builds the train and the test split from the contents of all files, in the order of `packages`.
        test_file: the name of the file with the test images.
        decode_images: builds the test images, uint8 (n, h, w) or (n, h, w, c), from its contents.
    """

    name: str
    classes: tuple[str, ...]
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    packages: tuple[Package, ...]
    symmetric: bool
    decode: Callable[[Sequence[bytes]], tuple[Split, Split]]
    test_file: str
    decode_images: Callable[[bytes], Images]


def _gz(name: str, size: int, sha256: str) -> Package:
    return Package(f"{name}.gz", (File(name, size, sha256),))


MNIST = NamedSet(
    name="mnist",
    classes=tuple("0123456789"),
    folders=("mnist",),
    mirrors=(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
    packages=(
        _gz("train-images-idx3-ubyte", 47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        _gz("train-labels-idx1-ubyte", 60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        _gz("t10k-images-idx3-ubyte", 7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        _gz("t10k-labels-idx1-ubyte", 10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ),
    symmetric=False,
    decode=decode_idx_pairs,
    test_file="t10k-images-idx3-ubyte",
    decode_images=decode_idx_images,
)

FASHION_MNIST = NamedSet(
    name="fashion-mnist",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    folders=("fashion-mnist",),
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
    packages=(
        _gz("train-images-idx3-ubyte", 47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
        _gz("train-labels-idx1-ubyte", 60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
        _gz("t10k-images-idx3-ubyte", 7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
        _gz("t10k-labels-idx1-ubyte", 10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
    ),
    symmetric=True,
    decode=decode_idx_pairs,
    test_file="t10k-images-idx3-ubyte",
    decode_images=decode_idx_images,
)


def _batch(name: str, sha256: str) -> File:
    return File(f"cifar-10-batches-bin/{name}.bin", 30730000, sha256)


CIFAR10 = NamedSet(
    name="cifar10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    folders=("", "cifar-10", "cifar10"),
    mirrors=(
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
        "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
    ),
    packages=(
        Package(
            "cifar-10-binary.tar.gz",
            (
                _batch("data_batch_1", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
                _batch("data_batch_2", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
                _batch("data_batch_3", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
                _batch("data_batch_4", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
                _batch("data_batch_5", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
                _batch("test_batch", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
            ),
        ),
    ),
    symmetric=True,
    decode=decode_cifar10,
    test_file="cifar-10-batches-bin/test_batch.bin",
    decode_images=decode_cifar10_images,
)

SETS = {MNIST.name: MNIST, FASHION_MNIST.name: FASHION_MNIST, CIFAR10.name: CIFAR10}
NAMES = ("digits", *SETS)
