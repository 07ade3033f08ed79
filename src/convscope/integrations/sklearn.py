"""The way in from scikit-learn: a classifier with fit, predict, predict_proba and score."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from convscope._files import write_atomically
from convscope._hardware import max_threads
from convscope.api.train import Plan, plan
from convscope.backends.onnx.export import to_onnx
from convscope.backends.pytorch.models import build_model, get_weights
from convscope.data.dataset import Dataset, Split, as_levels
from convscope.errors import ConvscopeError
from convscope.training import loop as train
from convscope.training.recipes import Recipe, changed, recipe_named

Array = NDArray[Any]
Floats = NDArray[np.float64]


class ConvClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A convolutional network as a scikit-learn classifier: trained as `train_model` does, but no run is written.

    X is images (n, height, width) or (n, height, width, channels), channels 1, 3 or 4, or rows of their pixels
    (n, features). uint8 is taken as it is, other numbers within 0..1 as shares of full brightness; any others are
    scaled by the least and the largest of all training values. What later lies outside that range is cut off at its
    ends. An image classifier sees 256 levels: rows of measurements lose what lies between two of them.

    model, recipe, epochs, batch, learning_rate: as in `convscope train`; None leaves it to the recipe, which also says
    how many training images are held out to choose the best epoch by. image_shape: (height, width) or
    (height, width, channels) of X given as rows; one side may be -1, then it follows. By default rows are squares.
    random_state: an integer is the seed of `train_model`. The same one, threads and versions give the same
    probabilities to the bit. threads: by default $OMP_NUM_THREADS, or as many as there are cores.

    After fit: `classes_` (k,); `n_features_in_`, values per image; `X_range_`, what became levels 0 and 255; `config_`,
    everything settled before step 0; `model_`, the torch model; `history_`, one row per epoch. Where the recipe holds
    nothing out, or there is one image of each class, validation figures are those of the training images.

    There is no partial_fit: the learning rate's schedule and the preprocessing need all images beforehand.

    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)  # rows of 64 pixels, 0..16
    >>> classifier = ConvClassifier("conv 8 3, relu, flatten", epochs=3).fit(X[:1000], y[:1000])
    >>> classifier.X_range_, classifier.score(X[1000:], y[1000:]) > 0.8
    ((0.0, 16.0), True)
    """

    def __init__(
        self,
        model: str | None = None,
        recipe: Recipe | str = "default",
        *,
        epochs: int | None = None,
        batch: int | None = None,
        learning_rate: float | None = None,
        image_shape: tuple[int, ...] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        threads: int | None = None,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.image_shape = image_shape
        self.random_state = random_state
        self.threads = threads

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on images X (n, ...) with labels y (n,) of any kind.

        Raises ValueError for data or parameters that do not fit, ConvscopeError when the loss becomes no number.
        """
        rows, shape = _as_rows(X)
        rows, y = validate_data(self, rows, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self.X_range_ = _range_of(rows)
        images = _shaped(as_levels(rows, *self.X_range_), shape or self.image_shape)
        try:
            planned = self._plan(images, labels)
        except ConvscopeError as error:
            raise ValueError(str(error)) from error
        config = planned.config
        model = build_model(config.network, config.seed)
        fitted = train.fit(
            model, planned.training, planned.validation, config.preprocessing, config.recipe, config.seed,
            precision=config.precision,
        )  # fmt: skip
        self.config_, self.model_, self.history_ = config, model.eval(), train.history_rows(fitted.history)
        return self

    def predict(self, X: ArrayLike) -> Array:
        """The most likely class of each image, (n,), out of `classes_`. Raises as `predict_proba` does."""
        most_likely = self._logits(X).argmax(axis=1)
        predicted: Array = self.classes_[most_likely]
        return predicted

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Probabilities, float64 (n, classes), in the order of `classes_`; rows sum to 1.

        Raises NotFittedError before fit, and ValueError for images of another size than those of fit.
        """
        logits = self._logits(X)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: Floats = powers / powers.sum(axis=1, keepdims=True)
        return probabilities

    def decision_function(self, X: ArrayLike) -> Floats:
        """Scores before softmax, float64 (n, classes), of two classes their difference (n,); raises likewise."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def save(self, path: str | Path) -> Path:
        """Write the model file (`model.onnx`), for `Predictor` and `convscope predict`; its path.

        It takes uint8 images: those of X where that was uint8, else with `X_range_` as 0..255.
        """
        check_is_fitted(self)
        config, path = self.config_, Path(path)
        write_atomically(path, to_onnx(config.network, get_weights(self.model_), config.preprocessing, config.classes))
        return path

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _plan(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Plan:
        everything = Split(images, labels)
        data = Dataset("X", tuple(map(str, self.classes_)), everything, everything, "given to ConvClassifier.fit")
        recipe = self.recipe if isinstance(self.recipe, Recipe) else recipe_named(self.recipe, data.kind)
        recipe = changed(recipe, epochs=self.epochs, batch=self.batch, learning_rate=self.learning_rate)
        if len(labels) == len(data.classes):  # one image of each: none can be held out
            recipe = changed(recipe, validation_share=0, select="last")
        given = self.random_state
        seed = int(given if isinstance(given, int | np.integer) else check_random_state(given).randint(2**31))
        return plan(data, self.model, recipe, seed=seed, threads=self.threads or max_threads())

    def _logits(self, X: ArrayLike) -> Floats:
        check_is_fitted(self)
        rows, shape = _as_rows(X)
        if shape not in ((), self.config_.input_shape):
            raise ValueError(f"X is images of shape {shape}, but ConvClassifier expects {self.config_.input_shape}")
        images = as_levels(validate_data(self, rows, reset=False), *self.X_range_)
        images = images.reshape(-1, *self.config_.input_shape)
        return train.logits_of(self.model_, images, self.config_.preprocessing).astype(np.float64)


def _as_rows(X: ArrayLike) -> tuple[ArrayLike, tuple[int, ...]]:
    """Images as rows of their pixels, and (height, width, channels); rows as they are, and ().

    >>> rows, shape = _as_rows(np.zeros((5, 8, 6)))
    >>> rows.shape, shape
    ((5, 48), (8, 6, 1))
    """
    images = X if hasattr(X, "shape") else np.asarray(X)
    if len(images.shape) < 3:
        return X, ()
    images = np.asarray(images)
    shape = images.shape[1:] if images.ndim > 3 else (*images.shape[1:], 1)
    return images.reshape(len(images), math.prod(shape)), shape


def _shaped(rows: NDArray[np.uint8], shape: tuple[int, ...] | None) -> NDArray[np.uint8]:
    """Rows of pixels (n, features) as images (n, *shape), or squares. Raises ValueError where the pixels do not fit."""
    features = rows.shape[1]
    side = math.isqrt(features)
    if shape is None and side * side != features:
        raise ValueError(
            f"X has rows of n_features = {features}, which are no squares: "
            "give image_shape=(height, width) or (height, width, channels)"
        )
    try:
        return rows.reshape(len(rows), *(shape or (side, side)))
    except ValueError as error:
        raise ValueError(f"X has rows of n_features = {features}, which do not fit image_shape={shape}") from error


def _range_of(values: Array) -> tuple[float, float]:
    """What counts as black and as white: the range of uint8, 0..1, or the least and the largest value.

    >>> _range_of(np.array([0.2, 0.9])), _range_of(np.array([-3, 2])), _range_of(np.array([9.0]))
    ((0.0, 1.0), (-3.0, 2.0), (9.0, 10.0))
    """
    if values.dtype == np.uint8:
        return 0.0, 255.0
    least, largest = float(values.min()), float(values.max())
    if least >= 0 and largest <= 1:
        return 0.0, 1.0
    return least, largest if largest > least else least + 1
