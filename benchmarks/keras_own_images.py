"""The network of Keras's tutorial "Image classification from scratch" on folders of images, within a time limit.

    keras_own_images.py FOLDER --seconds 60 [--flip]

FOLDER has train/ and test/ with a folder per class. As in the tutorial: 180x180 pixels, batches of 128, a small
Xception network, Adam at 3e-4, random flips (if allowed) and rotations, and files read during training. The time limit
covers the whole process, which prints:

    {"accuracy": ..., "n": ..., "epochs": ..., "seconds": ...}
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import suppress
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers

from clock import process_start

SIZE, BATCH = (180, 180), 128
EXIT_TIME_S = 1.0  # for the last line and the end of the process


class Deadline(keras.callbacks.Callback):
    """Stops training after the first batch that ends later, and counts batches."""

    def __init__(self, moment: float) -> None:
        super().__init__()
        self.moment, self.batches = moment, 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:  # noqa: ARG002
        self.batches += 1
        if time.monotonic() >= self.moment:
            raise TimeoutError


def main() -> None:
    """Train, measure, print."""
    start = process_start()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--flip", action="store_true")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    train, test = (load(options.folder / part, part == "train") for part in ("train", "test"))
    classes = len(train.class_names)
    augment = [layers.RandomRotation(0.1)]
    if options.flip:
        augment.insert(0, layers.RandomFlip("horizontal"))

    def augment_batch(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        for layer in augment:
            images = layer(images, training=True)
        return images, labels

    batches = len(train)
    model = network(classes)
    model.compile(keras.optimizers.Adam(3e-4), keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    model.evaluate(test.take(1), verbose=0)  # traces the graph
    began = time.monotonic()
    model.evaluate(test.take(1), verbose=0)
    evaluation_time = (time.monotonic() - began) * len(test)
    deadline = Deadline(start + options.seconds - EXIT_TIME_S - evaluation_time)
    with suppress(TimeoutError):
        model.fit(
            train.map(augment_batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE),
            epochs=10_000,
            callbacks=[deadline],
            verbose=0,
        )
    _, accuracy = model.evaluate(test.prefetch(tf.data.AUTOTUNE), verbose=0)
    result = {"accuracy": accuracy, "n": len(test.file_paths), "epochs": deadline.batches / batches}
    print(json.dumps({**result, "seconds": time.monotonic() - start}), flush=True)


def load(folder: Path, shuffle: bool) -> tf.data.Dataset:
    """Return batches of images, float32 (n, 180, 180, 3), stretched to that size, and their labels."""
    return keras.utils.image_dataset_from_directory(
        folder, image_size=SIZE, batch_size=BATCH, shuffle=shuffle, seed=0, verbose=False
    )


def network(classes: int) -> keras.Model:
    """Return the entry flow of Xception (Chollet, 2017), cut down as in the tutorial."""
    images = keras.Input((*SIZE, 3))
    x = layers.Rescaling(1 / 255)(images)
    x = layers.Conv2D(128, 3, strides=2, padding="same")(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    shortcut = x
    for filters in (256, 512, 728):
        for _ in range(2):
            x = layers.Activation("relu")(x)
            x = layers.SeparableConv2D(filters, 3, padding="same")(x)
            x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        x = layers.add([x, layers.Conv2D(filters, 1, strides=2, padding="same")(shortcut)])
        shortcut = x
    x = layers.SeparableConv2D(1024, 3, padding="same")(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Dropout(0.25)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(images, layers.Dense(classes, activation="softmax")(x))


if __name__ == "__main__":
    main()
