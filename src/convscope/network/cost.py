"""What a network costs: parameters, work and memory, counted from its layer records without running it."""

from __future__ import annotations

from convscope._hardware import HardwareInfo, available_memory
from convscope._records import Record
from convscope.errors import ArchitectureError, UsageError
from convscope.network.backbones import BACKBONES, IMAGENET_CLASSES
from convscope.network.build import parse_network
from convscope.network.layers.base import Layer, Shape
from convscope.network.network import Network
from convscope.network.presets import MNIST_SHAPE, PRESETS

HEIGHT_4K, WIDTH_4K = 2160, 3840


class Work(Record):
    """Parameters, and multiply-adds and bytes of activations (float32) for one image."""

    parameters: int
    multiply_adds: int
    activation_bytes: int


class LayerCost(Work):
    """The work of one layer; `source` is its part of the architecture."""

    name: str
    source: str
    output_shape: tuple[int, ...]


class ImageCost(Work):
    """The work for one image of another size."""

    input_shape: Shape


class PresetCost(Work):
    """The work of a preset."""

    name: str
    architecture: str


class BackboneCost(PresetCost):
    """The work of a published network for the square color images and the classes that it was published for."""

    image_size: int
    classes: int


class PresetList(Record):
    """The presets with their work for images and classes of MNIST, and published networks."""

    presets: tuple[PresetCost, ...]
    backbones: tuple[BackboneCost, ...]


class TimeEstimate(Record):
    """Expected seconds on this machine, scaled up from `probe_seconds` of real training on random images."""

    epochs: int
    epoch_seconds: float
    training_seconds: float
    probe_seconds: float


class TrainingCost(Record):
    """The cost of training on `images` images; `epoch_multiply_adds` counts the forward and the backward pass."""

    recipe: str
    images: int
    epoch_multiply_adds: int
    time: TimeEstimate
    machine: HardwareInfo


class NetworkCost(Record):
    """The cost of a network.

    Attributes:
        layers: One entry per layer record.
        image: The totals for one image of the network's input size.
        image_4k: The same architecture on a 3840x2160 image; None if it does not accept that size.
        training: None if it was not estimated.
    """

    architecture: str
    input_shape: Shape
    classes: int
    layers: tuple[LayerCost, ...]
    image: Work
    image_4k: ImageCost | None
    training: TrainingCost | None = None


def network_cost(network: Network) -> NetworkCost:
    """Count the cost of a network; `training` stays None.

    >>> cost = network_cost(parse_network("conv 32 3, relu, maxpool 2, flatten, dense 100, relu"))
    >>> cost.image.parameters, cost.image.multiply_adds
    (542230, 736488)
    """
    layers = tuple(
        LayerCost(name=layer.name, source=layer.source, output_shape=layer.output_shape, **_work(layer))
        for layer in network.layers
    )
    at_4k = _at_4k(network)
    return NetworkCost(
        architecture=network.architecture,
        input_shape=network.input_shape,
        classes=network.classes,
        layers=layers,
        image=Work(**_work(network)),
        image_4k=ImageCost(input_shape=at_4k.input_shape, **_work(at_4k)) if at_4k else None,
    )


def check_memory(network: Network, batch_size: int) -> None:
    """Raise UsageError if a training batch's activations need more memory than this process can have.

    Args:
        network: Every layer's output is kept for the backward pass.
        batch_size: Images per step.
    """
    available, per_image = available_memory(), network.activation_bytes
    if per_image * batch_size <= available:
        return
    most = int(available // per_image)
    advice = (
        f"lower --batch-size to {most:,} or less, or pool earlier" if most else "pool earlier, or use smaller images"
    )
    raise UsageError(
        f"the activations of {network.architecture!r} take {_bytes_text(per_image)} per image, "
        f"{_bytes_text(per_image * batch_size)} for a batch of {batch_size:,}, but only {_bytes_text(available)} of "
        f"memory are available: {advice}"
    )


def _bytes_text(count: float) -> str:
    """For example `1.6 GB`, `820 GB` or `47 kB`."""
    value, unit = next(
        (count / 1000**i, unit) for i, unit in ((3, "GB"), (2, "MB"), (1, "kB")) if count >= 1000**i or i == 1
    )
    return f"{value:,.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"


def _work(part: Network | Layer) -> dict[str, int]:
    return {
        "parameters": part.parameters,
        "multiply_adds": part.multiply_adds,
        "activation_bytes": part.activation_bytes,
    }


def _at_4k(network: Network) -> Network | None:
    try:
        return parse_network(network.architecture, (HEIGHT_4K, WIDTH_4K, network.input_shape[-1]), network.classes)
    except ArchitectureError:
        return None


def preset_costs() -> PresetList:
    """Count the cost of every preset for images and classes of MNIST, and of every backbone as published."""
    presets = tuple(
        PresetCost(name=name, architecture=line, **_work(parse_network(line, MNIST_SHAPE)))
        for name, line in PRESETS.items()
    )
    return PresetList(presets=presets, backbones=tuple(_backbone_cost(name) for name in BACKBONES))


def _backbone_cost(name: str) -> BackboneCost:
    backbone = BACKBONES[name]
    network = parse_network(backbone.architecture, backbone.input_shape, IMAGENET_CLASSES)
    return BackboneCost(
        name=name,
        architecture=backbone.architecture,
        image_size=backbone.image_size,
        classes=IMAGENET_CLASSES,
        **_work(network),
    )
