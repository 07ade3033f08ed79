"""A residual network in PyTorch on folders of pictures, for so many minutes: beside `convscope train --budget`.

    torch_residual.py FOLDER --seconds 60 [--size 96] [--width 64] [--rate 0.1] [--batch 64] [--area 0.35]
                      [--jitter 0] [--cutmix 0] [--until 0.8] [--flip] [--validate]

FOLDER has train/, val/ and test/ with a folder per class. Pictures are decoded once by all cores, letterboxed, and kept
in memory. ResNet-18 (He et al., 2016) with a 3x3 stem, bfloat16 where the processor has it, channels last, SGD with
Nesterov momentum, one cycle of the learning rate that ends with the time, label smoothing, random crops of at least a
share --area of the picture, flips where they are allowed, contrast, brightness and saturation changed by up to
--jitter, and CutMix (Yun et al., 2019) in a share --cutmix of the batches until a share --until of the time is over.
The time is that of the whole process, from its start to its last line:

    {"accuracy": ..., "n": ..., "epochs": ..., "seconds": ...}

With --validate it is measured on val/ instead of test/: to choose its options by.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from clock import started

PADDING = 127
AFTER = 0.5  # seconds for the last line and the end of the process


def main() -> None:
    """Train, measure, print."""
    start = started()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--decay", type=float, default=5e-4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--area", type=float, default=0.35)
    parser.add_argument("--jitter", type=float, default=0.0)
    parser.add_argument("--cutmix", type=float, default=0.0)
    parser.add_argument("--until", type=float, default=0.8)
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    classes = sorted(path.name for path in (options.folder / "train").iterdir())
    images, labels = read(options.folder / "train", classes, options.size)
    held, held_labels = read(options.folder / ("val" if options.validate else "test"), classes, options.size)
    mean = images.float().mean((0, 2, 3), keepdim=True)
    deviation = images.float().std((0, 2, 3), keepdim=True)
    model = ResNet(len(classes), options.width, options.size).to(memory_format=torch.channels_last)
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": decayed, "weight_decay": options.decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=options.rate, momentum=0.9, nesterov=True)

    def normalized(some: Tensor) -> Tensor:
        return ((some.float() - mean) / deviation).contiguous(memory_format=torch.channels_last)

    def scores(some: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16()):
            return torch.cat([model(normalized(part)).float() for part in some.split(128)])

    began = time.monotonic()
    scores(held[:256])
    deadline = start + options.seconds - AFTER - (time.monotonic() - began) * len(held) / min(256, len(held))
    began, step, epochs = time.monotonic(), 0, 0.0
    model.train()
    while time.monotonic() < deadline:
        order = torch.randperm(len(images))
        for index in order.split(options.batch):
            done = (time.monotonic() - began) / (deadline - began)
            if done >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = options.rate * min(done / 0.15 + 0.01, (1 - done) / 0.85)
            batch, others = augmented(normalized(images[index]), options.flip, options.area), labels[index].roll(1)
            batch = colored(batch, options.jitter) if options.jitter else batch
            own = patched(batch) if done < options.until and torch.rand(()) < options.cutmix else 1.0
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16()):
                answers = model(batch)
            loss = own * functional.cross_entropy(answers.float(), labels[index], label_smoothing=0.1)
            if own < 1:
                loss = loss + (1 - own) * functional.cross_entropy(answers.float(), others, label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            epochs += len(index) / len(images)
    model.eval()
    right = (scores(held).argmax(1) == held_labels).float().mean().item()
    found = {"accuracy": right, "n": len(held), "epochs": epochs, "loss": loss.item()}
    print(json.dumps({**found, "seconds": time.monotonic() - start}), flush=True)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the second batch norm starts at 0."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.first_norm, self.second_norm = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        nn.init.zeros_(self.second_norm.weight)
        same = before == after and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        )

    def forward(self, images: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(images)), inplace=True)
        return functional.relu(self.second_norm(self.second(inner)) + self.shortcut(images), inplace=True)


class ResNet(nn.Sequential):
    """ResNet-18; pictures of 96 pixels and more are halved by the stem's stride, and of 128 and more by a pooling."""

    def __init__(self, classes: int, width: int, size: int) -> None:
        stem = [nn.Conv2d(3, width, 3, 2 if size >= 64 else 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        if size >= 128:
            stem.append(nn.MaxPool2d(3, 2, 1))
        blocks, before = [], width
        for stage in range(4):
            after = width << stage
            blocks += [Block(before, after, 1 if stage == 0 else 2), Block(after, after, 1)]
            before = after
        super().__init__(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def augmented(images: Tensor, flip: bool, least_area: float) -> Tensor:
    """A random part of each image, at the images' size, every other one mirrored."""
    n = len(images)
    area = torch.empty(n).uniform_(least_area, 1)
    shape = torch.empty(n).uniform_(-math.log(4 / 3), math.log(4 / 3)).exp()
    height, width = (area / shape).sqrt().clamp(max=1), (area * shape).sqrt().clamp(max=1)
    across = torch.empty(n).uniform_(-1, 1) * (1 - width)
    down = torch.empty(n).uniform_(-1, 1) * (1 - height)
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0) if flip else torch.ones(n)
    zero = torch.zeros(n)
    moves = torch.stack([width * mirror, zero, across, zero, height, down], 1).view(-1, 2, 3)
    grid = functional.affine_grid(moves, list(images.shape), align_corners=False)
    seen = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return seen.contiguous(memory_format=torch.channels_last)


def colored(images: Tensor, strength: float) -> Tensor:
    """Another contrast, brightness, tint and saturation for each image."""
    n, channels = images.shape[:2]
    contrast, saturation = torch.empty(2, n, 1, 1, 1).uniform_(1 - strength, 1 + strength)
    lighter = torch.empty(n, 1, 1, 1).uniform_(-strength, strength)
    tint = torch.empty(n, channels, 1, 1).uniform_(-strength / 2, strength / 2)
    changed = torch.lerp(images.mean((2, 3), keepdim=True), images, contrast) + lighter + tint
    return torch.lerp(changed.mean(1, keepdim=True), changed, saturation)


def patched(images: Tensor) -> float:
    """Put a rectangle of the image before it into each image; the share of each that is left."""
    height, width = images.shape[2:]
    side = torch.rand(()).sqrt().item()
    down, across = round(side * height), round(side * width)
    top, left = (int(torch.randint(most + 1, ())) for most in (height - down, width - across))
    part = images[:, :, top : top + down, left : left + across]
    part.copy_(part.roll(1, 0))
    return 1 - down * across / (height * width)


def read(folder: Path, classes: list[str], size: int) -> tuple[Tensor, Tensor]:
    """uint8 (n, 3, size, size) and int64 (n,)."""
    files = [(path, size) for name in classes for path in sorted((folder / name).iterdir())]
    labels = [classes.index(path.parent.name) for path, _ in files]
    with Pool(len(os.sched_getaffinity(0))) as pool:
        images = np.stack(pool.map(letterboxed, files, chunksize=32))
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor(labels)


def letterboxed(file: tuple[Path, int]) -> np.ndarray:
    """The whole picture, as large as it fits into a square of gray."""
    path, size = file
    with Image.open(path) as picture:
        share = size / max(picture.size)
        sides = [max(1, round(side * share)) for side in picture.size]
        small = picture.convert("RGB").resize(sides, Image.Resampling.BILINEAR)
    square = Image.new("RGB", (size, size), (PADDING,) * 3)
    square.paste(small, ((size - small.width) // 2, (size - small.height) // 2))
    return np.asarray(square)


def bf16() -> bool:
    """Whether the processor multiplies in it."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


if __name__ == "__main__":
    main()
