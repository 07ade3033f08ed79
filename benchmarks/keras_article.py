"""The article's network and training, written in Keras. Runs in the `keras` peer environment.

    keras_article.py [--seed 0] [--epochs 10] [--threads N] [--until ACCURACY]

Prints one line of JSON. `seconds_per_epoch` includes the validation after every epoch, as in the article.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import keras
import numpy as np
import tensorflow as tf

import mnist


def network() -> keras.Model:
    """Return the article's network, compiled with its optimizer: 542,230 parameters, all biases zero."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 3, activation="relu", kernel_initializer="he_uniform"),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(100, activation="relu", kernel_initializer="he_uniform"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.SGD(learning_rate=0.01, momentum=0.9)
    model.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy"])
    return model


class EpochTimer(keras.callbacks.Callback):
    """Times every epoch, validation included, on stderr; stops above validation accuracy `until`."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self.until = until
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:  # noqa: ARG002
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds.append(round(time.perf_counter() - self.start, 3))
        print(f"epoch {epoch + 1}: {self.seconds[-1]:.1f} s, {logs}", file=sys.stderr)
        if logs and logs["val_accuracy"] > self.until:
            self.model.stop_training = True


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=0, help="0: TensorFlow decides")
    parser.add_argument(
        "--until", type=float, default=2.0, help="stop after the first epoch above this validation accuracy"
    )
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    keras.utils.set_random_seed(options.seed)

    images, targets = mnist.prepared("train")
    test = mnist.prepared("t10k")
    model, timer = network(), EpochTimer(options.until)
    settings = {"batch_size": 128, "epochs": options.epochs, "validation_data": test, "verbose": 0}
    model.fit(images, targets, callbacks=[timer], **settings)
    loss, accuracy = model.evaluate(*test, batch_size=128, verbose=0)

    versions = {"keras": keras.__version__, "tensorflow": tf.__version__, "numpy": np.__version__}
    result = {"accuracy": round(accuracy, 4), "loss": loss, "parameters": model.count_params()}
    result |= {"seed": options.seed, "threads": options.threads, "seconds_per_epoch": timer.seconds}
    print(json.dumps(result | {"versions": versions | {"python": sys.version.split()[0]}}))


if __name__ == "__main__":
    main()
