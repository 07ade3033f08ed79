"""Train the article's network in Keras from given weights, on given batches. Runs in the `keras` peer environment.

    keras_losses.py start.npz result.npz

start.npz: the arrays named in `WEIGHTS`, and `batches`, int64 (steps, batch), indices into MNIST's training set.
result.npz: `losses`, float32 (steps,), each before the update of its step, and the trained WEIGHTS.
"""

from __future__ import annotations

import sys

import keras
import numpy as np
import tensorflow as tf

import mnist
from keras_article import network

WEIGHTS = ("conv_kernel", "conv_bias", "hidden_kernel", "hidden_bias", "classes_kernel", "classes_bias")


def main(start: str, result: str) -> None:
    """Read `start`, train, write `result`."""
    given = np.load(start, allow_pickle=False)
    images, targets = mnist.prepared("train")
    model = network()
    model.set_weights([given[name] for name in WEIGHTS])
    losses = []
    for batch in given["batches"]:
        model.reset_metrics()  # train_on_batch returns the mean since the last reset
        losses.append(model.train_on_batch(images[batch], targets[batch])[0])
    weights = dict(zip(WEIGHTS, model.get_weights(), strict=True))
    np.savez(result, losses=np.array(losses, np.float32), **weights)
    print(f"Keras {keras.__version__}, TensorFlow {tf.__version__}")


if __name__ == "__main__":
    main(*sys.argv[1:])
