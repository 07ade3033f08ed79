"""Fine-tune EfficientNet-Lite0 in PyTorch within a time limit, to compare with `convscope train --budget`.

    torch_pretrained.py CSV --layers frozen|last|all --seconds 60 [--seed 0] [--validate] [OPTIONS]

CSV has the columns file, label and split (train, val, test). All variants fit the classifier on frozen features first,
with the strength of its L2 penalty chosen on the validation images:

    frozen   ends there, with as many views of the training images (mirrored, cropped at random) as there is time for
    last     trains the layers from --first on, on the feature maps of many such views, which are computed once
    all      trains every layer, on a new view of each image in every epoch

Both trainings use AdamW, smaller rates for earlier layers, one learning-rate cycle over the time limit, label
smoothing, dropout, and fixed batch-norm statistics; the weights of the best epoch on the validation images are kept,
those before the first epoch included. Answers are the mean over the image and its mirror image. The time limit covers
the whole process, which prints:

    {"accuracy": ..., "n": ..., "validation_accuracy": ..., "epochs": ..., "seconds": ...}

The learning rate of `last` is the better one of 0.001 and 0.003 on the validation images of trashnet; the other
defaults are usual values. With --validate nothing is computed on the test images, and "accuracy" is null.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from clock import process_start
from csv_images import read_splits
from torch_images import random_crops
from torch_lite0 import FEATURES, LAYERS, Lite0, normalize

EXIT_TIME_S = 0.7  # for the last line and the end of the process
MARGIN = 1.15  # of estimated times
BATCH = 64  # images, without gradients
PENALTIES = [10.0**exponent for exponent in (-1.5, -2, -2.5, -3, -3.5, -4, -4.5)]  # strongest first


@dataclass
class Labeled:
    """Images uint8 (n, 3, side, side), a little larger than the network's input, and labels (n,)."""

    images: Tensor
    labels: Tensor


class Classifier(nn.Module):
    """The layers of a network from `first` on, and a linear classifier."""

    def __init__(self, network: Lite0, head: nn.Linear, first: int, dropout: float) -> None:
        super().__init__()
        self.network, self.head, self.first, self.dropout = network, head, first, dropout
        for layer in network.layers[:first]:
            layer.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (n, classes) of images, scaled, or of the maps of layer `first` - 1."""
        features = self.network(inputs, self.first)
        return self.head(functional.dropout(features, self.dropout, self.training))


def main() -> None:
    """Train, measure, print."""
    start = process_start()
    keep_freed_memory()
    options = arguments()
    torch.manual_seed(options.seed)
    splits, classes = read_splits(options.table, round(options.size * 8 / 7))
    train, val, test = (to_tensors(*splits[name]) for name in ("train", "val", "test"))
    trainer = Trainer(options, start, train, val)
    trainer.test_images = len(test.labels)
    model = trainer.fit(len(classes))
    result = {
        "accuracy": None if options.validate else trainer.correct(model, test) / len(test.labels),
        "n": len(test.labels),
        "validation_accuracy": trainer.best / len(val.labels),
        "epochs": trainer.epochs,
        "chosen": f"{trainer.views} views, penalty {trainer.penalty:.0e}, best epoch {trainer.best_epoch} of "
        f"{trainer.epochs:.1f}, frozen {trainer.frozen}, best {trainer.best} of {len(val.labels)} validation images",
    }
    print(json.dumps({**result, "seconds": time.monotonic() - start}), flush=True)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--layers", choices=("frozen", "last", "all"), required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--first", type=int, default=16, help="first layer that `last` trains; 16: the last block")
    parser.add_argument(
        "--views-time", type=float, default=0.5, help="fraction of the time until the views of `last` are ready"
    )
    parser.add_argument("--max-views", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, help="default: 0.003 for `last`, 0.001 for `all`")
    parser.add_argument("--layer-decay", type=float, default=0.8)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--smoothing", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--area", type=float, default=0.4, help="smallest part of an image that a crop keeps")
    parser.add_argument("--max-epochs", type=float, default=60)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    if options.learning_rate is None:
        options.learning_rate = 3e-3 if options.layers == "last" else 1e-3
    return options


class Trainer:
    """Trains a network on some images until the time is up.

    Attributes:
        test_images: number of images that must be answered within the time limit, too.
        frozen: correct answers to the validation images, with frozen features.
        best: the same, of the best epoch.
        best_epoch: that epoch; 0 is before the first one.
        epochs: of training, the last one incomplete.
        views: of each training image, whose features or maps were computed.
        penalty: of the classifier.
    """

    def __init__(self, options: argparse.Namespace, start: float, train: Labeled, val: Labeled) -> None:
        self.options, self.start, self.train, self.val = options, start, train, val
        self.network = Lite0()
        self.first = {"frozen": LAYERS, "last": options.first, "all": 0}[options.layers]
        self.dtype = torch.bfloat16 if options.bf16 else torch.float32
        self.end = start + options.seconds - EXIT_TIME_S
        self.test_images = 0
        self.frozen, self.best, self.best_epoch, self.epochs, self.views, self.penalty = -1, -1, 0, 0.0, 0, 0.0

    def fit(self, classes: int) -> Classifier:
        """Return the trained network."""
        end = self.first or LAYERS  # of what is computed once
        began = time.monotonic()
        val_views = [self.maps(scaled(self.val.images, self.options.size, mirror), end) for mirror in (False, True)]
        self.end -= (time.monotonic() - began) * self.test_images / len(self.val.labels) * MARGIN
        views = self.compute_views(end)
        fitted = views if self.first == LAYERS else views[:2]
        features = torch.cat([self.features(view, end) for view in fitted])
        val_features = [self.features(view, end) for view in val_views]
        head = self.fit_head(features, self.train.labels.repeat(len(fitted)), val_features, classes)
        model = Classifier(self.network, head, self.first, self.options.dropout).eval()
        if self.first == LAYERS:
            return model
        if self.first == 0:
            return self.tune(model, self.new_views, lambda: self.correct(model, self.val))
        stacked = torch.stack(views)
        return self.tune(
            model,
            lambda index: stacked[torch.randint(len(views), (len(index),)), index],
            lambda: count(sum(probabilities(model, view) for view in val_views), self.val.labels),
        )

    def compute_views(self, end: int) -> list[Tensor]:
        """Return the output of layer `end` - 1 for the training images, then mirrored, then cropped at random."""
        fraction = 0.8 if self.first == LAYERS else self.options.views_time  # the rest is for training
        until = min(self.start + fraction * self.options.seconds, self.end)
        most = 1 if self.first == 0 else self.options.max_views
        views: list[Tensor] = []
        longest = 0.0
        while not views or (len(views) < most and time.monotonic() + longest < until):
            began = time.monotonic()
            if len(views) < 2:
                views.append(self.maps(scaled(self.train.images, self.options.size, mirror=len(views) == 1), end))
            else:
                parts = torch.arange(len(self.train.labels)).split(BATCH)
                views.append(torch.cat([self.maps(self.crops(part), end) for part in parts]))
            longest = max(longest, time.monotonic() - began)
        self.views = len(views)
        return views

    @torch.no_grad()
    def maps(self, images: Tensor, end: int) -> Tensor:
        """Return the output of layer `end` - 1 for images 0..255."""
        return torch.cat([self.network(normalize(part, self.dtype), 0, end) for part in images.split(BATCH)])

    @torch.no_grad()
    def features(self, maps: Tensor, first: int) -> Tensor:
        """Return features, computed from the output of layer `first` - 1."""
        return torch.cat([self.network(part, first) for part in maps.split(BATCH)])

    def crops(self, index: Tensor) -> Tensor:
        """Return random crops of training images, half of them mirrored: 0..255."""
        return random_crops(self.train.images[index].float(), 2 * (self.options.size,), self.options.area, flip=True)

    def new_views(self, index: Tensor) -> Tensor:
        """Return random crops as the network takes them."""
        return normalize(self.crops(index), self.dtype)

    def correct(self, model: Classifier, data: Labeled) -> int:
        """Return the number of correct answers to images."""
        views = (scaled(data.images, self.options.size, mirror) for mirror in (False, True))
        if model.first:
            return count(sum(probabilities(model, self.maps(view, model.first)) for view in views), data.labels)
        scores = (probabilities(model, part, self.dtype) for part in views)
        return count(sum(scores), data.labels)

    def fit_head(self, features: Tensor, labels: Tensor, val_features: list[Tensor], classes: int) -> nn.Linear:
        """Return the logistic regression whose L2 penalty is best on the validation images."""
        head, best, best_loss = nn.Linear(FEATURES, classes), nn.Linear(FEATURES, classes), math.inf
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        for penalty in PENALTIES:
            minimize(head, features, labels, penalty)
            with torch.no_grad():
                mean = torch.stack([head(view).softmax(1) for view in val_features]).mean(0)
            right, loss = count(mean, self.val.labels), functional.nll_loss(mean.log(), self.val.labels).item()
            if (right, -loss) > (self.frozen, -best_loss):
                self.frozen = self.best = right
                self.penalty, best_loss = penalty, loss
                best.load_state_dict(head.state_dict())
        return best

    def tune(self, model: Classifier, batch: Callable[[Tensor], Tensor], validate: Callable[[], int]) -> Classifier:
        """Train until the time is up; return the weights of the best epoch.

        Args:
            model: is changed.
            batch: returns inputs of the network for some indices of training images.
            validate: returns the number of correct answers to the validation images.
        """
        options, labels = self.options, self.train.labels
        optimizer = torch.optim.AdamW(groups(model, options), weight_decay=options.weight_decay)
        best, began = copy.deepcopy(model.state_dict()), time.monotonic()
        validate()
        deadline = self.end - MARGIN * (time.monotonic() - began)
        began, done, epoch = time.monotonic(), 0.0, 0
        while done < 1:
            model.train()
            for index in torch.randperm(len(labels)).split(options.batch_size):
                elapsed = (time.monotonic() - began) / max(deadline - began, 1e-3)
                done = max(elapsed, self.epochs / options.max_epochs)
                if done >= 1:
                    break
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * cycle(done)
                loss = functional.cross_entropy(model(batch(index)), labels[index], label_smoothing=options.smoothing)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                self.epochs += len(index) / len(labels)
            model.eval()
            right, epoch = validate(), epoch + 1
            if right >= self.best:
                self.best, self.best_epoch, best = right, epoch, copy.deepcopy(model.state_dict())
        model.load_state_dict(best)
        return model


def cycle(done: float) -> float:
    """Return the factor of the learning rates when a fraction `done` of the time has passed."""
    return done / 0.1 + 0.01 if done < 0.1 else 0.5 + 0.5 * math.cos(math.pi * (done - 0.1) / 0.9)


def groups(model: Classifier, options: argparse.Namespace) -> list[dict]:
    """Return the parameters with their peak learning rates, which shrink from the last layer to the first."""
    parts = [model.head, *reversed(model.network.layers[model.first :])]
    rates = [options.learning_rate * options.layer_decay**depth for depth in range(len(parts))]
    return [{"params": part.parameters(), "peak": rate} for part, rate in zip(parts, rates, strict=True)]


def minimize(head: nn.Linear, features: Tensor, labels: Tensor, penalty: float) -> None:
    """Minimize cross-entropy plus penalty/2 times the squared weights, from the weights that `head` has."""
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=100, tolerance_change=1e-7, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(head(features), labels) + penalty / 2 * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)


@torch.no_grad()
def probabilities(model: Classifier, inputs: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return probabilities of images 0..255, or of maps."""
    parts = (normalize(part, dtype) if model.first == 0 else part for part in inputs.split(BATCH))
    return torch.cat([model(part) for part in parts]).softmax(1)


def count(scores: Tensor, labels: Tensor) -> int:
    """Return the number of correct answers."""
    return int((scores.argmax(1) == labels).sum())


def scaled(images: Tensor, size: int, mirror: bool) -> Tensor:
    """Return whole images uint8, resized and mirrored if wanted."""
    resized = functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return resized.flip(3) if mirror else resized


def to_tensors(images: object, labels: object) -> Labeled:
    """Return images (n, 3, side, side) and labels."""
    return Labeled(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels))


def keep_freed_memory() -> None:
    """Make glibc reuse freed memory instead of returning it to the system: three to seven times as fast here."""
    libc, mmap_max, trim_threshold = ctypes.CDLL(None), -4, -1  # options in malloc.h
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)


if __name__ == "__main__":
    main()
