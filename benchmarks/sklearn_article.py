"""MNIST with scikit-learn's multi-layer perceptron. Runs in the `sklearn` peer environment.

    sklearn_article.py [--seed 0] [--epochs 10]

scikit-learn has no convolution. One hidden layer of 100 units, the size of the article's, with default settings (Adam,
batch size 200), on MNIST scaled to 0..1. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings

import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import mnist


def flat(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images float32 (n, 784) in 0..1 and labels uint8 (n,)."""
    images, labels = mnist.load(part)
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255), labels


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is intended
    start = time.perf_counter()
    model = MLPClassifier((100,), max_iter=options.epochs, random_state=options.seed).fit(*flat("train"))
    seconds = time.perf_counter() - start
    result = {"accuracy": round(model.score(*flat("t10k")), 4), "seconds": seconds, "epochs": model.n_iter_}
    versions = {"scikit-learn": sklearn.__version__, "numpy": np.__version__, "python": sys.version.split()[0]}
    print(json.dumps(result | {"seed": options.seed, "versions": versions}))


if __name__ == "__main__":
    main()
