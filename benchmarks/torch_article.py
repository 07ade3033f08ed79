"""The article's network and training in PyTorch, tuned as its guide advises. Runs in the `torch` peer environment.

    torch_article.py [--seed 0] [--epochs 10] [--threads N] [--until ACCURACY] [--channels-last] [--fused] [--bf16]
                     [--compile] [--loader]

Batches are indexed from one tensor in memory, because a DataLoader (`--loader`) is slower. Prints one line of JSON.
`seconds_per_epoch` includes the validation after every epoch, as in the article.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import mnist

BATCH, EVALUATION_BATCH_SIZE = 128, 1000


def tensors(part: str, memory_format: torch.memory_format) -> tuple[Tensor, Tensor]:
    """Return images float32 (n, 1, 28, 28) in 0..1 and labels int64 (n,)."""
    images, labels = mnist.load(part)
    pixels = torch.from_numpy(images.astype(np.float32) / np.float32(255)).permute(0, 3, 1, 2)
    return pixels.contiguous(memory_format=memory_format), torch.from_numpy(labels.astype(np.int64))


def network() -> nn.Sequential:
    """Return the article's network with its initial weights: 542,230 parameters, all biases zero."""
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(5408, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    for layer in (model[0], model[4]):
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")  # as in keras_article.py
        nn.init.zeros_(layer.bias)
    nn.init.xavier_uniform_(model[6].weight)
    nn.init.zeros_(model[6].bias)
    return model


def shuffled(images: Tensor, labels: Tensor, loader: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of one epoch."""
    if loader:
        data = torch.utils.data.TensorDataset(images, labels)
        yield from torch.utils.data.DataLoader(data, BATCH, shuffle=True)
        return
    for index in torch.randperm(len(images)).split(BATCH):
        yield images[index], labels[index]


def train_epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterator[tuple[Tensor, Tensor]], bf16: bool
) -> tuple[float, float]:
    """Train on the batches; return mean loss and accuracy, which are read once, at the end."""
    model.train()
    losses, correct, seen = torch.zeros(()), torch.zeros((), dtype=torch.int64), 0
    for images, labels in batches:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(images)
            loss = functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        losses += loss.detach() * len(labels)
        correct += (logits.detach().argmax(1) == labels).sum()
        seen += len(labels)
    return float(losses) / seen, int(correct) / seen


@torch.inference_mode()
def validate(model: nn.Module, images: Tensor, labels: Tensor, bf16: bool) -> tuple[float, float]:
    """Return mean loss and accuracy on all images."""
    model.eval()
    loss, correct = 0.0, 0
    for pixels, targets in zip(images.split(EVALUATION_BATCH_SIZE), labels.split(EVALUATION_BATCH_SIZE), strict=True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(pixels).float()
        loss += functional.cross_entropy(logits, targets, reduction="sum").item()
        correct += int((logits.argmax(1) == targets).sum())
    return loss / len(labels), correct / len(labels)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch decides")
    parser.add_argument(
        "--until", type=float, default=2.0, help="stop after the first epoch above this validation accuracy"
    )
    for flag in ("channels-last", "fused", "bf16", "compile", "loader"):
        parser.add_argument(f"--{flag}", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Train, evaluate, print."""
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
    training, test = tensors("train", memory_format), tensors("t10k", memory_format)
    eager = network().to(memory_format=memory_format)
    model = torch.compile(eager) if options.compile else eager
    optimizer = torch.optim.SGD(eager.parameters(), lr=0.01, momentum=0.9, fused=options.fused or None)

    seconds, loss, accuracy = [], 0.0, 0.0
    for epoch in range(1, options.epochs + 1):
        start = time.perf_counter()
        trained = train_epoch(model, optimizer, shuffled(*training, options.loader), options.bf16)
        loss, accuracy = validate(model, *test, options.bf16)
        seconds.append(round(time.perf_counter() - start, 3))
        logs = {"loss": trained[0], "accuracy": trained[1], "val_loss": loss, "val_accuracy": accuracy}
        print(f"epoch {epoch}: {seconds[-1]:.1f} s, {logs}", file=sys.stderr)
        if accuracy > options.until:
            break

    result = {"accuracy": round(accuracy, 4), "loss": loss, "parameters": sum(p.numel() for p in eager.parameters())}
    result |= {"seed": options.seed, "threads": torch.get_num_threads(), "seconds_per_epoch": seconds}
    versions = {"torch": torch.__version__, "numpy": np.__version__, "python": sys.version.split()[0]}
    print(json.dumps(result | {"versions": versions}))


if __name__ == "__main__":
    main()
