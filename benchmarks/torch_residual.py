"""A residual network in PyTorch on folders of images, within a time limit, to compare with `convscope train --budget`.

    torch_residual.py FOLDER --seconds 60 [--image-size 96] [--width 64] [--learning-rate 0.1] [--batch-size 64]
                      [--area 0.35] [--jitter 0] [--cutmix 0] [--until 0.8] [--flip] [--validate]

FOLDER has train/, val/ and test/ with a folder per class. Images are decoded once on all cores, letterboxed and kept in
memory. The network is ResNet-18 (He et al., 2016) with a 3x3 stem, in bfloat16 if the processor supports it, channels
last. Training uses SGD with Nesterov momentum, one learning-rate cycle over the time limit, label smoothing, random
crops of at least the fraction --area, flips if allowed, color jitter up to --jitter, and CutMix (Yun et al., 2019) in a
fraction --cutmix of the batches until a fraction --until of the time has passed. The time limit covers the whole
process, which prints:

    {"accuracy": ..., "n": ..., "epochs": ..., "seconds": ...}

With --validate it is measured on val/ instead of test/, to tune its options.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from clock import process_start
from torch_images import random_crops

FILL = 127  # gray, around letterboxed images
EXIT_TIME_S = 0.5  # for the last line and the end of the process


def main() -> None:
    """Train, measure, print."""
    start = process_start()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--decay", type=float, default=5e-4)
    parser.add_argument("--batch-size", type=int, default=64)
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
    images, labels = read(options.folder / "train", classes, options.image_size)
    held_out, held_out_labels = read(
        options.folder / ("val" if options.validate else "test"), classes, options.image_size
    )
    mean = images.float().mean((0, 2, 3), keepdim=True)
    deviation = images.float().std((0, 2, 3), keepdim=True)
    model = ResNet(len(classes), options.width, options.image_size).to(memory_format=torch.channels_last)
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": decayed, "weight_decay": options.decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=options.learning_rate, momentum=0.9, nesterov=True)

    def normalize(some: Tensor) -> Tensor:
        return ((some.float() - mean) / deviation).contiguous(memory_format=torch.channels_last)

    def logits(some: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16()):
            return torch.cat([model(normalize(part)).float() for part in some.split(128)])

    began = time.monotonic()
    logits(held_out[:256])
    deadline = (
        start + options.seconds - EXIT_TIME_S - (time.monotonic() - began) * len(held_out) / min(256, len(held_out))
    )
    began, step, epochs = time.monotonic(), 0, 0.0
    model.train()
    while time.monotonic() < deadline:
        order = torch.randperm(len(images))
        for index in order.split(options.batch_size):
            done = (time.monotonic() - began) / (deadline - began)
            if done >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * min(done / 0.15 + 0.01, (1 - done) / 0.85)
            batch, others = augment(normalize(images[index]), options.flip, options.area), labels[index].roll(1)
            batch = jitter_colors(batch, options.jitter) if options.jitter else batch
            lam = cutmix(batch) if done < options.until and torch.rand(()) < options.cutmix else 1.0
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16()):
                outputs = model(batch)
            loss = lam * functional.cross_entropy(outputs.float(), labels[index], label_smoothing=0.1)
            if lam < 1:
                loss = loss + (1 - lam) * functional.cross_entropy(outputs.float(), others, label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            epochs += len(index) / len(images)
    model.eval()
    accuracy = (logits(held_out).argmax(1) == held_out_labels).float().mean().item()
    result = {"accuracy": accuracy, "n": len(held_out), "epochs": epochs, "loss": loss.item()}
    print(json.dumps({**result, "seconds": time.monotonic() - start}), flush=True)


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut; the scale of the second batch norm starts at 0."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.first_norm, self.second_norm = nn.BatchNorm2d(out_channels), nn.BatchNorm2d(out_channels)
        nn.init.zeros_(self.second_norm.weight)
        same = in_channels == out_channels and stride == 1
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(images)), inplace=True)
        return functional.relu(self.second_norm(self.second(inner)) + self.shortcut(images), inplace=True)


class ResNet(nn.Sequential):
    """ResNet-18; the stem halves images of 64 pixels and more, and pools those of 128 and more."""

    def __init__(self, classes: int, width: int, size: int) -> None:
        stem = [nn.Conv2d(3, width, 3, 2 if size >= 64 else 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        if size >= 128:
            stem.append(nn.MaxPool2d(3, 2, 1))
        blocks, channels = [], width
        for stage in range(4):
            out_channels = width << stage
            blocks += [Block(channels, out_channels, 1 if stage == 0 else 2), Block(out_channels, out_channels, 1)]
            channels = out_channels
        super().__init__(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def augment(images: Tensor, flip: bool, min_area: float) -> Tensor:
    """Crop each image at random, resize it to its former size, and flip half of them."""
    cropped = random_crops(images, images.shape[2:], min_area, flip)
    return cropped.contiguous(memory_format=torch.channels_last)


def jitter_colors(images: Tensor, strength: float) -> Tensor:
    """Change contrast, brightness, tint and saturation of each image at random."""
    n, channels = images.shape[:2]
    contrast, saturation = torch.empty(2, n, 1, 1, 1).uniform_(1 - strength, 1 + strength)
    brightness = torch.empty(n, 1, 1, 1).uniform_(-strength, strength)
    tint = torch.empty(n, channels, 1, 1).uniform_(-strength / 2, strength / 2)
    changed = torch.lerp(images.mean((2, 3), keepdim=True), images, contrast) + brightness + tint
    return torch.lerp(changed.mean(1, keepdim=True), changed, saturation)


def cutmix(images: Tensor) -> float:
    """Paste a rectangle of the previous image into each image, in place; return the fraction that remains."""
    height, width = images.shape[2:]
    side = torch.rand(()).sqrt().item()
    down, across = round(side * height), round(side * width)
    top, left = (int(torch.randint(most + 1, ())) for most in (height - down, width - across))
    part = images[:, :, top : top + down, left : left + across]
    part.copy_(part.roll(1, 0))
    return 1 - down * across / (height * width)


def read(folder: Path, classes: list[str], size: int) -> tuple[Tensor, Tensor]:
    """Return images uint8 (n, 3, size, size) and labels int64 (n,)."""
    files = [(path, size) for name in classes for path in sorted((folder / name).iterdir())]
    labels = [classes.index(path.parent.name) for path, _ in files]
    with Pool(len(os.sched_getaffinity(0))) as pool:
        images = np.stack(pool.map(letterbox, files, chunksize=32))
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor(labels)


def letterbox(file: tuple[Path, int]) -> np.ndarray:
    """Return the whole image, as large as fits, on a gray square: uint8 (size, size, 3)."""
    path, size = file
    with Image.open(path) as image:
        scale = size / max(image.size)
        sides = [max(1, round(side * scale)) for side in image.size]
        small = image.convert("RGB").resize(sides, Image.Resampling.BILINEAR)
    square = Image.new("RGB", (size, size), (FILL,) * 3)
    square.paste(small, ((size - small.width) // 2, (size - small.height) // 2))
    return np.asarray(square)


def bf16() -> bool:
    """Return whether the processor multiplies in bfloat16."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


if __name__ == "__main__":
    main()
