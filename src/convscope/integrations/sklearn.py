"""A scikit-learn classifier with fit, predict, predict_proba and score."""

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
from convscope._records import validate_options
from convscope.api.training.calibrate import calibrate
from convscope.api.training.options import TrainOptions
from convscope.api.training.plan import Plan, make_plan
from convscope.backends.onnx.export import to_onnx
from convscope.backends.pytorch.models import build_model
from convscope.data.dataset import Dataset, Split
from convscope.errors import ConvscopeError
from convscope.evaluation.calibration import softmax
from convscope.integrations.pixel_scale import PixelScale
from convscope.training.config import TrainConfig
from convscope.training.loop import fit, predict_logits
from convscope.training.recipe import Recipe

Array = NDArray[Any]
Floats = NDArray[np.float64]


class ConvClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A convolutional network as a scikit-learn classifier; it trains like `train_model`, but writes no run folder.

    X is images (n, height, width) or (n, height, width, channels) with 1, 3 or 4 channels, or rows of their pixels
    (n, features). uint8 values are used as they are, and other values from 0 to 1 as fractions of full brightness. All
    others are scaled by the smallest and the largest training value; later values outside that range are clipped. The
    network sees 256 levels, so rows of measurements lose what lies between two of them. A warning is issued if wild
    values leave the training images less than an eighth of that range, or if a tenth of later images are on another
    scale.

    Training needs all images for the learning-rate schedule and the preprocessing, so there is no `partial_fit`. The
    same random state, threads and versions give bit-identical probabilities.

    Args:
        model: a preset or an architecture; by default the recipe's preset.
        recipe: a name or a `Recipe`. It also sets the fraction of images that is held out to select the best epoch.
        epochs: passes over the training images; None leaves it to the recipe.
        learning_rate: peak learning rate; None leaves it to the recipe.
        image_shape: (height, width) or (height, width, channels) of the images if X has rows; one side may be -1 and
            then follows. By default rows are square images.
        random_state: an integer is the seed of `train_model`.
        threads: processor threads; by default $OMP_NUM_THREADS, or one per core.

    Attributes:
        classes_: class labels (k,).
        n_features_in_: values per image.
        X_range_: the values that became levels 0 and 255.
        X_scale_: the same with the contrasts of the training images, to recognize images that have another scale.
        config_: everything that was decided before step 0.
        model_: the torch model.
        calibrated_: what the model file contains: weights and metadata, calibrated on the images held out.
        history_: one row per epoch. If the recipe holds nothing out, or each class has one image, the validation values
            are those of the training images.

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
        learning_rate: float | None = None,
        image_shape: tuple[int, ...] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        threads: int | None = None,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.image_shape = image_shape
        self.random_state = random_state
        self.threads = threads

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train on images X (n, ...) with labels y (n,) of any kind.

        Raises:
            ValueError: the data or the parameters are wrong.
            ConvscopeError: the loss became infinite or NaN.
        """
        rows, shape = _as_rows(X)
        with np.errstate(all="ignore"):  # it adds all values up
            rows, y = validate_data(self, rows, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self.X_scale_ = PixelScale.of(rows, stacklevel=2)
        self.X_range_ = self.X_scale_.low, self.X_scale_.high
        images = _shaped(self.X_scale_.to_levels(rows), shape or self.image_shape)
        try:
            planned = self._plan(images, labels)
        except ConvscopeError as error:
            raise ValueError(str(error)) from error
        config, data = planned.config, planned.data
        model = build_model(config.network, config.seed)
        train_config = TrainConfig(config.preprocessing, config.recipe, config.seed, config.precision)
        result = fit(model, data.train, data.validation, train_config)
        self.config_, self.model_ = config, model.eval()
        self.calibrated_ = calibrate(config.network, result.weights, config.model_metadata(), data)
        self.history_ = [epoch.to_row() for epoch in result.history]
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Return the most likely class of each image: (n,), elements of `classes_`."""
        most_likely = self._logits(X).argmax(axis=1)
        predicted: Array = self.classes_[most_likely]
        return predicted

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return probabilities, float64 (n, classes), in the order of `classes_`; rows sum to 1.

        They are calibrated on the images held out; with a recipe that holds out none they are those of the network.

        Raises:
            NotFittedError: `fit` has not been called.
            ValueError: the images have another size than those of `fit`.
        """
        return softmax(self._logits(X), self.calibrated_.metadata.calibration)

    def decision_function(self, X: ArrayLike) -> Floats:
        """Return calibrated logits, float64 (n, classes), whose softmax is `predict_proba`.

        For two classes it is their difference, (n,), the log odds of the second class.
        """
        raw = self._logits(X)
        calibration = self.calibrated_.metadata.calibration
        logits: Floats = calibration.scale(raw) + raw.max(1, keepdims=True) / calibration.temperature
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def save(self, path: str | Path) -> Path:
        """Write the model file (`model.onnx`) for `Predictor` and `convscope predict`, and return its path.

        It gives the same probabilities, and knows images unlike the training images if at least 20 were held out.
        It takes uint8 images: those of X if that was uint8, else with `X_range_` mapped to 0..255.
        """
        check_is_fitted(self)
        config, path = self.config_, Path(path)
        write_atomically(path, to_onnx(config.network, *self.calibrated_))
        return path

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _plan(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Plan:
        everything = Split(images, labels)
        data = Dataset("X", tuple(map(str, self.classes_)), everything, everything, "given to ConvClassifier.fit")
        given = self.random_state
        seed = int(given if isinstance(given, int | np.integer) else check_random_state(given).randint(2**31))
        names = ("model", "recipe", "epochs", "learning_rate")
        options = validate_options(
            TrainOptions,
            {name: getattr(self, name) for name in names} | {"seed": seed, "threads": self.threads or max_threads()},
        )
        if len(labels) == len(data.classes):  # one image per class: nothing can be held out
            recipe = options.chosen_recipe(data.kind).override(selection={"weights": "last", "validation_fraction": 0})
            options = options.model_copy(update={"recipe": recipe})
        return make_plan(data, options)

    def _logits(self, X: ArrayLike) -> Floats:
        check_is_fitted(self)
        rows, shape = _as_rows(X)
        if shape not in ((), self.config_.input_shape):
            raise ValueError(f"X is images of shape {shape}, but ConvClassifier expects {self.config_.input_shape}")
        with np.errstate(all="ignore"):  # it adds all values up
            rows = validate_data(self, rows, reset=False)
        self.X_scale_.check(rows, stacklevel=3)
        images = self.X_scale_.to_levels(rows)
        images = images.reshape(-1, *self.config_.input_shape)
        return predict_logits(self.model_, images, self.config_.preprocessing).astype(np.float64)


def _as_rows(X: ArrayLike) -> tuple[ArrayLike, tuple[int, ...]]:
    """Return images as rows of their pixels, with (height, width, channels); or rows as they are, with ().

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
    """Return rows of pixels (n, features) as images (n, *shape), by default square. Raises ValueError if none fit."""
    features = rows.shape[1]
    side = math.isqrt(features)
    if shape is None and side * side != features:
        raise ValueError(
            f"X has rows of n_features = {features}, which is not a square: "
            "give image_shape=(height, width) or (height, width, channels)"
        )
    try:
        return rows.reshape(len(rows), *(shape or (side, side)))
    except ValueError as error:
        raise ValueError(f"X has rows of n_features = {features}, which do not fit image_shape={shape}") from error
