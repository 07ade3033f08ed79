"""Time PyTorch eager with the weights of a run: latency_torch.py WEIGHTS.npz THREADS. In the `torch` environment."""

from __future__ import annotations

import sys

import numpy as np
import torch

from latency_loop import BATCH_SIZE, measure
from torch_article import network

torch.set_num_threads(int(sys.argv[2]))
model, weights = network().eval(), np.load(sys.argv[1])
model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})


def one(images: np.ndarray) -> np.ndarray:
    """Probabilities of a batch."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return model(pixels).softmax(1).numpy()


def classify(images: np.ndarray) -> np.ndarray:
    """Probabilities of any number of images."""
    return np.concatenate([one(images[i : i + BATCH_SIZE]) for i in range(0, len(images), BATCH_SIZE)])


with torch.inference_mode():
    measure(classify, one)
