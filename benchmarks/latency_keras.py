"""Time Keras with the weights of a run: latency_keras.py WEIGHTS.npz THREADS. In the `keras` environment."""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf

from keras_article import network
from latency_loop import BATCH_SIZE, measure

tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[2]))
tf.config.threading.set_inter_op_parallelism_threads(1)

model, weights = network(), np.load(sys.argv[1])
model.set_weights([weights[name] for name in weights.files])


def pixels(images: np.ndarray) -> np.ndarray:
    """The input of the network."""
    return images.astype(np.float32) / np.float32(255)


measure(
    lambda images: model.predict(pixels(images), batch_size=BATCH_SIZE, verbose=0),
    lambda image: model.predict_on_batch(pixels(image)),  # without the data pipeline of `predict`: ten times as fast
)
