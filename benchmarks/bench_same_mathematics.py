"""Same mathematics as Keras: same network, same initial weights, same 100 batches, same losses.

    bench_same_mathematics.py [--steps 100] [--seed 0] > same_mathematics.txt

Three programs train the article's network from the same initial weights: Keras and convscope's training loop in
float32, and `convscope.reference` (NumPy, float64) as an independent third. The script compares the loss of every batch
before its update, which depends on every earlier forward pass, gradient and momentum update, and the final weights.
Exit code 5: a loss of convscope differs from Keras's by more than 1e-4 of it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

import mnist
import peers
from convscope import reference
from convscope._hardware import hardware_info
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import make_plan
from convscope.backends.pytorch import models
from convscope.data.load import load_data
from convscope.training.augmentation import epoch_order
from convscope.training.callbacks import Callback, Trainer
from convscope.training.config import TrainConfig
from convscope.training.loop import fit

Arrays = dict[str, np.ndarray]
TOLERANCE = 1e-4  # relative
BATCH, LEARNING_RATE, MOMENTUM = 128, 0.01, 0.9  # article, A13
SHAPES = {  # in Keras's layout: (rows, columns, channels, filters) and (inputs, units)
    "conv_kernel": (3, 3, 1, 32),
    "conv_bias": (32,),
    "hidden_kernel": (5408, 100),
    "hidden_bias": (100,),
    "classes_kernel": (100, 10),
    "classes_bias": (10,),
}


def start(steps: int, seed: int) -> Arrays:
    """Return the article's initial weights, float32, and `batches`, int64 (steps, 128), without repeated images."""
    rng = np.random.default_rng(seed)
    given = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    for name, draw in (("conv", reference.he_uniform), ("hidden", reference.he_uniform)):
        given[f"{name}_kernel"] = draw(SHAPES[f"{name}_kernel"], rng).astype(np.float32)
    given["classes_kernel"] = reference.glorot_uniform(SHAPES["classes_kernel"], rng).astype(np.float32)
    return given | {"batches": rng.permutation(60_000)[: steps * BATCH].reshape(steps, BATCH)}


def keras(given: Arrays) -> Arrays:
    """Return losses and trained weights of Keras, computed in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        file, result = Path(folder, "start.npz"), Path(folder, "result.npz")
        np.savez(file, **given)
        print(peers.run("keras", "keras_losses.py", file, result), end="")
        with np.load(result, allow_pickle=False) as arrays:
            return dict(arrays)


def convscope(given: Arrays) -> Arrays:
    """Return losses and trained weights of `convscope train mnist --model article --recipe article`."""
    plan = make_plan(load_data("mnist"), TrainOptions(model="article", recipe="article"), "mnist")
    config = plan.config
    model = models.build_model(config.network)
    models.set_weights(model, to_torch(given))
    batches = given["batches"].ravel()
    images = batches[np.argsort(epoch_order(config.seed, 1, len(batches)))]  # the loop's shuffle yields the batches
    recorder = LossRecorder()
    train_config = TrainConfig(config.preprocessing, config.recipe.override(epochs=1), config.seed)
    fit(model, plan.data.train.take(images), plan.data.validation.take(np.arange(1)), train_config, [recorder])
    return {"losses": np.diff(recorder.sums, prepend=0) / BATCH} | from_torch(models.get_weights(model))


class LossRecorder(Callback):
    """Records the sum of the losses of all images since the epoch began, after each batch."""

    def __init__(self) -> None:
        self.sums: list[float] = []

    def on_train_batch_end(self, trainer: Trainer) -> None:
        """Record the sum."""
        self.sums.append(trainer.state.loss_sum)


def to_torch(given: Arrays) -> Arrays:
    """Convert Keras's layout to torch's: (filters, channels, rows, columns) and (units, inputs)."""
    return {
        "conv1.weight": given["conv_kernel"].transpose(3, 2, 0, 1),
        "conv1.bias": given["conv_bias"],
        "dense1.weight": given["hidden_kernel"].T,
        "dense1.bias": given["hidden_bias"],
        "classifier.weight": given["classes_kernel"].T,
        "classifier.bias": given["classes_bias"],
    }


def from_torch(weights: Arrays) -> Arrays:
    """Convert torch's layout to Keras's."""
    return {
        "conv_kernel": weights["conv1.weight"].transpose(2, 3, 1, 0),
        "conv_bias": weights["conv1.bias"],
        "hidden_kernel": weights["dense1.weight"].T,
        "hidden_bias": weights["dense1.bias"],
        "classes_kernel": weights["classifier.weight"].T,
        "classes_bias": weights["classifier.bias"],
    }


def textbook(given: Arrays, images: np.ndarray, targets: np.ndarray) -> Arrays:
    """Return losses and trained weights of `convscope.reference`, in float64."""
    weights = {name: given[name].astype(np.float64) for name in SHAPES}
    momenta = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    losses = []
    for batch in given["batches"]:
        loss, gradients = textbook_step(weights, images[batch].astype(np.float64), targets[batch])
        losses.append(loss)
        for name, gradient in gradients.items():
            weights[name], momenta[name] = reference.sgd_momentum(
                weights[name], momenta[name], gradient, LEARNING_RATE, MOMENTUM
            )
    return {"losses": np.array(losses)} | weights


def textbook_step(w: Arrays, x: np.ndarray, targets: np.ndarray) -> tuple[float, Arrays]:
    """Return the loss of one batch, and the gradient of each of the weights `w`."""
    conv = reference.convolve(x, w["conv_kernel"], w["conv_bias"])
    active = reference.relu(conv)
    pooled = reference.pool(active, 2)
    flat = reference.flatten(pooled)
    hidden = reference.dense(flat, w["hidden_kernel"], w["hidden_bias"])
    features = reference.relu(hidden)
    logits = reference.dense(features, w["classes_kernel"], w["classes_bias"])

    g: Arrays = {}
    grad = reference.cross_entropy_backward(logits, targets)
    grad, g["classes_kernel"], g["classes_bias"] = reference.dense_backward(grad, features, w["classes_kernel"])
    grad = reference.relu_backward(grad, hidden)
    grad, g["hidden_kernel"], g["hidden_bias"] = reference.dense_backward(grad, flat, w["hidden_kernel"])
    grad = reference.pool_backward(reference.flatten_backward(grad, pooled.shape), active, 2)
    _, g["conv_kernel"], g["conv_bias"] = reference.convolve_backward(
        reference.relu_backward(grad, conv), x, w["conv_kernel"]
    )
    return reference.cross_entropy(logits, targets), g


def loss_difference(a: Arrays, b: Arrays) -> float:
    """Return the largest difference of the losses of a step, relative to b's."""
    return float((np.abs(a["losses"] - b["losses"]) / b["losses"]).max())


def weight_difference(a: Arrays, b: Arrays) -> float:
    """Return the largest difference of a trained weight, relative to the largest weight of its array."""
    return float(max(np.abs(a[name] - b[name]).max() / np.abs(b[name]).max() for name in SHAPES))


def main() -> int:
    """Train in all three, print the comparison, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100, choices=range(1, 469), metavar="1..468")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"Same mathematics: the article's network, {options.steps} batches of {BATCH}, seed {options.seed}")
    machine = hardware_info(torch.get_num_threads())
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine.summary}, {machine.system}, Python {machine.python}")
    print(", ".join(f"{name} {machine.versions[name]}" for name in ("convscope", "torch", "numpy")))
    given = start(options.steps, options.seed)
    results = {
        "keras": keras(given),
        "convscope": convscope(given),
        "reference": textbook(given, *mnist.prepared("train")),
    }

    print(f"\nloss before the update\n{'step':>4}" + "".join(f"{name:>14}" for name in results))
    for step, losses in enumerate(zip(*(result["losses"] for result in results.values()), strict=True)):
        print(f"{step:4}" + "".join(f"{loss:14.8f}" for loss in losses))
    print(f"\nlargest relative difference {'losses':>11} {'weights at the end':>20}")
    for a, b in combinations(results, 2):
        losses = loss_difference(results[b], results[a])
        print(f"{b + ' from ' + a:27} {losses:11.1e} {weight_difference(results[b], results[a]):20.1e}")
    met = loss_difference(results["convscope"], results["keras"]) <= TOLERANCE
    print(f"\n{'met' if met else 'NOT MET'}: losses of convscope within {TOLERANCE:.0e} of Keras's")
    return 0 if met else 5


if __name__ == "__main__":
    sys.exit(main())
