"""Blocks of published networks, written by hand in torch as their authors do, against the same in one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from convscope.backends.pytorch.models import build_model
from convscope.network.build import parse_network

SIZES = (23, 24)  # odd and even: padding of (k - 1) / 2 differs from TensorFlow's `same` at stride 2


class SqueezeExcitation(nn.Module):
    """As in torchvision: 1x1 convolutions of the means."""

    def __init__(self, channels: int, inner: int, act: type[nn.Module], gate: type[nn.Module]) -> None:
        super().__init__()
        self.fc1, self.act = nn.Conv2d(channels, inner, 1), act()
        self.fc2, self.gate = nn.Conv2d(inner, channels, 1), gate()

    def forward(self, x: Tensor) -> Tensor:
        factors: Tensor = self.gate(self.fc2(self.act(self.fc1(nn.functional.adaptive_avg_pool2d(x, 1)))))
        return x * factors


def conv_norm(channels: int, filters: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    padding = (size - 1) // 2
    return [nn.Conv2d(channels, filters, size, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(filters)]


class BasicBlock(nn.Module):
    """Of ResNet; the shortcut of a block with a stride is normalized, too."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_norm(channels, filters, 3, stride), nn.ReLU(), *conv_norm(filters, filters, 3))
        self.downsample = nn.Sequential(*conv_norm(channels, filters, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.body(x) + self.downsample(x))


class InvertedResidual(nn.Module):
    """Of MobileNetV3."""

    def __init__(self, channels: int, inside: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_norm(channels, inside, 1), nn.Hardswish(), *conv_norm(inside, inside, 5, groups=inside),
            nn.Hardswish(), SqueezeExcitation(inside, 2, nn.ReLU, nn.Hardsigmoid), *conv_norm(inside, channels, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.body(x)
        return result


CASES: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "squeeze-and-excite": ("squeeze 2", lambda: SqueezeExcitation(3, 2, nn.ReLU, nn.Sigmoid)),
    "of EfficientNet": ("squeeze 2 act silu", lambda: SqueezeExcitation(3, 2, nn.SiLU, nn.Sigmoid)),
    "stem of ResNet": (
        "conv 4 7 stride 2 pad 3, batchnorm, relu, maxpool 3 stride 2 pad 1",
        lambda: nn.Sequential(*conv_norm(3, 4, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
    ),
    "block of ResNet": (
        "residual(conv 4 3 stride 2 pad 1, batchnorm, relu, conv 4 3 pad 1, batchnorm, "
        "shortcut(conv 4 1 stride 2, batchnorm)), relu",
        lambda: BasicBlock(3, 4, 2),
    ),
    "block of MobileNetV3": (
        "residual(conv 6 1, batchnorm, hardswish, conv 6 5 pad 2 groups 6, batchnorm, hardswish, "
        "squeeze 2 gate hardsigmoid, conv 3 1, batchnorm)",
        lambda: InvertedResidual(3, 6),
    ),
    "of MobileNetV3": ("squeeze 5 gate hardsigmoid", lambda: SqueezeExcitation(3, 5, nn.ReLU, nn.Hardsigmoid)),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_block_in_one_line_equals_torch(name: str, size: int) -> None:
    line, make = CASES[name]
    torch.manual_seed(0)
    block, x = make(), torch.randn(2, 3, size, size + 3)
    model = build_model(parse_network(f"{line}, flatten", (size, size + 3, 3), 4))
    ours = nn.Sequential(*list(model)[:-2])  # without flatten and classifier
    assert_same_function(block, ours, x)


def assert_same_function(block: nn.Module, ours: nn.Module, x: Tensor) -> None:
    """With the same weights in the same order: values, in training and evaluation, and gradients."""
    for name, values in block.state_dict().items():
        if values.is_floating_point():
            values.uniform_(0.5, 2) if name.endswith("var") else values.normal_()
    theirs = list(block.state_dict().values())
    ours.load_state_dict(
        {name: theirs[i].reshape(old.shape) for i, (name, old) in enumerate(ours.state_dict().items())}
    )
    assert len(theirs) == len(ours.state_dict())
    found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    for training in (True, False):
        y, wanted = ours.train(training)(found), block.train(training)(expected)
        torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-5)
        direction = torch.randn_like(y)
        y.backward(direction)
        wanted.backward(direction)
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-4)
