"""Text for the costs of networks."""

from __future__ import annotations

from convscope._hardware import hardware_info
from convscope.cli.format_models import cost_lines, preset_lines
from convscope.network.backbones import BACKBONES
from convscope.network.build import parse_network
from convscope.network.cost import NetworkCost, TimeEstimate, TrainingCost, network_cost, preset_costs
from convscope.network.presets import PRESETS

from .conftest import Printed


def words(text: str) -> list[list[str]]:
    """The words of each line."""
    return [line.split() for line in text.splitlines()]


def cost(architecture: str) -> NetworkCost:
    """The cost of a preset or line, with a made-up time estimate."""
    found = network_cost(parse_network(PRESETS.get(architecture, architecture)))
    machine = hardware_info(1).model_copy(update={"processor": "Abacus", "cores": 4, "peak_gflops": 100.0})
    time = TimeEstimate(epochs=2, epoch_seconds=95.0, training_seconds=190.0, probe_seconds=4.2)
    training = TrainingCost(
        recipe="default", images=54_000, epoch_multiply_adds=119_311_056_000, time=time, machine=machine
    )
    return found.model_copy(update={"training": training})


def test_cost_lines_have_every_layer_and_the_cost_of_training(printed: Printed) -> None:
    text = printed(cost_lines(cost("article")))
    assert words(text)[:10] == words(
        """layer source output parameters multiply-adds activation bytes
        conv1 conv 32 3 26x26x32 320 194,688 86,528
        relu1 relu 26x26x32 0 0 86,528
        maxpool1 maxpool 2 13x13x32 0 0 21,632
        flatten1 flatten 5408 0 0 21,632
        dense1 dense 100 100 540,900 540,800 400
        relu2 relu 100 0 0 400
        classifier dense 10 10 1,010 1,000 40
        softmax softmax 10 0 0 40
        total 542,230 736,488 217,200"""
    )
    assert text.splitlines()[11:] == [
        "one image          736 k multiply-adds, 217 kB of activations",
        "one epoch          119 G multiply-adds for 54,000 images, about 1 min 35 s",
        "training           about 3 min 10 s for 2 epochs of recipe default",
        "measured           4.2 s of training on random images; Abacus, 1 of 4 cores, 100 GFLOP/s float32",
        "a 4K image         3840x2160 at full size: 9.01 G multiply-adds, 2.65 GB of activations, 6.63 G parameters",
        "the same, reduced  to 28x28: 736 k multiply-adds, 217 kB of activations, 542 k parameters "
        "(12,235 times less work)",
    ]


def test_cost_lines_of_network_that_rejects_4k_do_not_mention_it(printed: Printed) -> None:
    assert "4K" not in printed(cost_lines(cost("residual(maxpool 7), flatten")))


def test_preset_lines_have_every_preset_with_its_architecture(printed: Printed) -> None:
    text = printed(preset_lines(preset_costs()))
    assert all(line in text for line in PRESETS.values())
    assert "article             542,230 parameters, 736 k multiply-adds" in text


def test_preset_lines_have_every_backbone_with_its_images(printed: Printed) -> None:
    text = printed(preset_lines(preset_costs()))
    assert all(f"\n{name} " in text for name in BACKBONES)
    resnet = "resnet18            11,689,512 parameters, 1.82 G multiply-adds for 224x224x3 images and 1,000 classes"
    assert resnet in text
