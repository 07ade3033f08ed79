"""`ConvClassifier`: scikit-learn's own checks and tools, equality with `train_model`, input, and errors."""

from __future__ import annotations

import contextlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from convscope import ConvClassifier, ConvscopeError, Predictor, load_data, train_model
from convscope.backends.native import backend
from convscope.backends.pytorch.models import get_weights
from convscope.evaluation.calibration import measure_calibration, softmax
from convscope.training.probes import autotune
from convscope.training.recipes import RECIPES

pytestmark = pytest.mark.slow

Array = NDArray[Any]

DIGITS, LABELS = load_digits(return_X_y=True)  # float64 (1797, 64), 0..16
ARCHITECTURE = "conv 8 3, relu, flatten"
QUICK = ConvClassifier(ARCHITECTURE, epochs=2)


@pytest.fixture(scope="module")
def fitted() -> ConvClassifier:
    classifier: ConvClassifier = clone(QUICK)
    return classifier.fit(DIGITS[:400], LABELS[:400])


# scikit-learn's own checks. They use rows of two or three measurements; here, they are images one pixel high.

ANY_WIDTH: dict[str, Any] = {"model": "conv 16 3 pad same, relu, flatten", "image_shape": (1, -1), "epochs": 30}
SHIFTED, UNSHIFTED = ConvClassifier(**ANY_WIDTH), ConvClassifier(recipe="article", learning_rate=0.1, **ANY_WIDTH)
TORCH = {"check_methods_subset_invariance": "torch's convolution rounds a batch differently from single images"}
ALWAYS = TORCH if backend.native is None else {}
EXCEPTIONS = {
    SHIFTED: {
        "check_classifiers_train": "the recipe shifts images by a pixel: one of two measurements becomes the other"
    },
    UNSHIFTED: {},
}


@parametrize_with_checks(
    [SHIFTED, UNSHIFTED],
    expected_failed_checks=lambda estimator: ALWAYS | EXCEPTIONS[estimator],
    xfail_strict=backend.native is not None,
)  # type: ignore[untyped-decorator]
def test_classifier_passes_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_tags_allow_three_dimensional_arrays() -> None:
    assert get_tags(QUICK).input_tags.three_d_array


# scikit-learn's tools


def test_cross_val_score_of_rows_and_images_is_equal() -> None:
    assert cross_val_score(ConvClassifier(), DIGITS, LABELS, cv=3).min() > 0.9
    rows, images = (cross_val_score(QUICK, X, LABELS, cv=3) for X in (DIGITS, DIGITS.reshape(-1, 8, 8)))
    assert np.array_equal(rows, images)


def test_grid_search_finds_better_model_and_learning_rate() -> None:
    grid = {"learning_rate": [1e-6, 0.1], "model": ["flatten", "small"]}
    search = GridSearchCV(ConvClassifier(epochs=20), grid, cv=2).fit(DIGITS[:500], LABELS[:500])
    assert search.best_params_ == {"learning_rate": 0.1, "model": "small"}
    assert search.score(DIGITS[500:], LABELS[500:]) > 0.8


def test_pipeline_with_scaler_classifies_digits() -> None:
    pipeline = make_pipeline(MinMaxScaler(), ConvClassifier()).set_params(convclassifier__epochs=20)
    assert pipeline.fit(DIGITS[:1000], LABELS[:1000]).score(DIGITS[1000:], LABELS[1000:]) > 0.9
    assert pipeline[-1].X_range_ == (0, 1)


def test_clone_copies_parameters_and_is_not_fitted(fitted: ConvClassifier) -> None:
    copy = clone(fitted.set_params(recipe=RECIPES["fast"].override(batch_size=64)))
    assert copy.get_params() == fitted.get_params()
    assert copy.recipe.batch_size == 64
    with pytest.raises(NotFittedError, match="not fitted yet"):
        copy.predict(DIGITS)


# Equality with train_model


def test_fit_weights_equal_those_of_train_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    digits, recipe = load_data("digits"), RECIPES["default"].override(epochs=2)
    run = train_model(digits, "small", recipe, seed=3, threads=1, run=tmp_path / "run")
    classifier = ConvClassifier("small", epochs=2, random_state=3)
    classifier.fit(digits.train.images, digits.train.labels)
    assert save(get_weights(classifier.model_)) == run.weights_file.read_bytes()
    losses, expected = ([row["validation_loss"] for row in rows] for rows in (classifier.history_, run.history))
    assert losses == expected
    assert run.evaluation is not None
    assert classifier.score(digits.test.images, digits.test.labels) == run.evaluation.accuracy


def test_fit_parameters_reach_the_config() -> None:
    recipe = RECIPES["fast"].override(batch_size=50)
    classifier = ConvClassifier("flatten", recipe, epochs=3, learning_rate=0.02, random_state=7, threads=1)
    config = classifier.fit(DIGITS[:200], LABELS[:200]).config_
    assert (config.model, config.architecture, config.seed, config.epochs) == ("custom", "flatten", 7, 3)
    assert config.machine.threads == 1
    assert (config.recipe.name, config.recipe.batch_size, config.recipe.optimizer.learning_rate) == ("fast", 50, 0.02)
    assert len(classifier.history_) == 3
    assert not classifier.model_.training
    assert classifier.set_params(model=None).fit(DIGITS[:200], LABELS[:200]).config_.model == "small"


def test_fit_on_color_images_takes_their_recipe() -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 6, 4, 3), np.uint8)
    classifier = ConvClassifier("flatten", "best", epochs=1).fit(images, np.arange(8) % 2)
    assert (classifier.config_.recipe.name, classifier.config_.input_shape) == ("best for color", (6, 4, 3))
    rows = ConvClassifier("flatten", "best", epochs=1, image_shape=(6, 4, 3)).fit(
        images.reshape(8, -1), np.arange(8) % 2
    )
    assert np.array_equal(rows.predict_proba(images), classifier.predict_proba(images))


@pytest.mark.parametrize("threads", [2, 3])
def test_fit_uses_as_many_threads_as_the_environment_allows(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    monkeypatch.setattr(autotune, "_fastest", lambda _: pytest.fail("timing must not decide"))
    before = torch.get_num_threads()
    try:
        classifier = clone(QUICK).fit(DIGITS[:100], LABELS[:100])
    finally:
        backend.use_threads(before)
    assert classifier.config_.machine.threads == threads


@pytest.mark.parametrize("state", [0, np.int64(5)])
def test_fit_with_same_random_state_gives_bit_identical_probabilities(state: int) -> None:
    first, again = (clone(QUICK).set_params(random_state=state).fit(DIGITS[:300], LABELS[:300]) for _ in range(2))
    assert first.predict_proba(DIGITS).tobytes() == again.predict_proba(DIGITS).tobytes()
    assert first.config_.seed == state


def test_fit_with_generator_draws_a_new_seed_each_time() -> None:
    classifier = clone(QUICK).set_params(random_state=np.random.RandomState(3))
    seeds = [classifier.fit(DIGITS[:100], LABELS[:100]).config_.seed for _ in range(2)]
    again = np.random.RandomState(3)
    assert seeds == [again.randint(2**31), again.randint(2**31)]
    assert seeds[0] != seeds[1]


def test_fit_without_validation_images_validates_on_training_images() -> None:
    _, ones = np.unique(LABELS, return_index=True)  # one image of each class
    classifier = clone(QUICK).fit(DIGITS[ones], LABELS[ones])
    assert classifier.config_.dataset.split_sizes == "10 training, 10 test images"
    assert classifier.config_.recipe.selection.weights == "last"
    classifier.set_params(recipe="article").fit(DIGITS[:100], LABELS[:100])
    assert classifier.history_[-1]["validation_accuracy"] == classifier.score(DIGITS[:100], LABELS[:100])
    classifier = clone(QUICK).fit(DIGITS[:11], LABELS[:11])  # two of class 0
    assert classifier.config_.dataset.split_sizes == "10 training, 1 validation, 11 test images"


def test_save_model_file_gives_the_same_probabilities(fitted: ConvClassifier, tmp_path: Path) -> None:
    predictor = Predictor(fitted.save(tmp_path / "model.onnx"))
    assert predictor.classes == tuple("0123456789")
    levels = np.rint(DIGITS / 16 * 255).astype(np.uint8).reshape(-1, 8, 8, 1)
    assert predictor.predict_proba(levels) == pytest.approx(fitted.predict_proba(DIGITS), abs=1e-5)
    noise = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), np.uint8)
    assert (np.array(predictor.predict_statuses(noise)[1]) == "unlike").mean() > 0.9
    assert (np.array(predictor.predict_statuses(levels)[1]) == "answered").mean() > 0.8


def test_predict_proba_is_calibrated_on_the_images_held_out() -> None:
    classifier = clone(QUICK).set_params(recipe="fast", epochs=4).fit(DIGITS[:1200], LABELS[:1200])
    calibrated = measure_calibration(classifier.predict_proba(DIGITS[1200:]), LABELS[1200:])
    network = measure_calibration(softmax(classifier._logits(DIGITS[1200:])), LABELS[1200:])
    assert calibrated.ece < 0.7 * network.ece


# Input and output

LEVELS = np.random.default_rng(0).integers(0, 256, (60, 6, 6), np.uint8)
LEVELS[:2, 0, 0] = 0, 255
HALVES = np.where(LEVELS[:, :3].mean((1, 2)) > LEVELS[:, 3:].mean((1, 2)), "upper", "lower")


@pytest.mark.parametrize(
    ("images", "pixel_range"),
    [
        (LEVELS, (0, 255)),
        (LEVELS[..., None], (0, 255)),
        (LEVELS.reshape(60, 36), (0, 255)),
        (LEVELS.tolist(), (0, 255)),
        (LEVELS / 255, (0, 1)),
        ((LEVELS / 255).astype(np.float32).reshape(60, 36), (0, 1)),
        (LEVELS * 2.0 - 100, (-100, 410)),
        (LEVELS.astype(np.int64).reshape(60, 36), (0, 255)),
    ],
)  # fmt: skip
def test_fit_on_other_forms_of_the_same_images_gives_equal_probabilities(
    images: Any, pixel_range: tuple[float, float]
) -> None:
    expected = clone(QUICK).fit(LEVELS, HALVES).predict_proba(LEVELS)
    classifier = clone(QUICK).fit(images, HALVES)
    assert classifier.X_range_ == pixel_range
    assert classifier.n_features_in_ == 36
    assert np.array_equal(classifier.predict_proba(images), expected)


def test_fit_on_dark_images_keeps_their_brightness() -> None:
    dark = clone(QUICK).fit(LEVELS // 4, HALVES)
    assert dark.X_range_ == (0, 255)
    assert dark.config_.preprocessing == clone(QUICK).fit(LEVELS // 4 / 255, HALVES).config_.preprocessing


def test_fit_on_bools_equals_black_and_white() -> None:
    classifier = clone(QUICK).fit(LEVELS > 127, HALVES)
    assert classifier.X_range_ == (0, 1)
    assert np.array_equal(
        classifier.predict_proba(LEVELS > 127),
        clone(QUICK).fit(np.where(LEVELS > 127, 255, 0).astype(np.uint8), HALVES).predict_proba((LEVELS > 127) * 255),
    )


def test_predict_proba_clips_values_outside_the_training_range(fitted: ConvClassifier) -> None:
    outside = np.where(DIGITS == 0, -1, np.where(DIGITS == 16, 17, DIGITS))
    assert np.array_equal(fitted.predict_proba(outside), fitted.predict_proba(DIGITS))
    far = np.where(DIGITS == 0, -1e308, np.where(DIGITS == 16, 1e308, DIGITS))
    with pytest.warns(UserWarning, match="another scale") as warned:
        assert np.array_equal(fitted.predict_proba(far), fitted.predict_proba(DIGITS))
    assert len(warned) == 1  # none of NumPy's


@pytest.mark.parametrize(
    ("train", "other", "ranges"),
    [
        (LEVELS, LEVELS / 255, "0.* to 0.9.* instead of 0 to 255"),
        (LEVELS / 255, LEVELS, "0 to 255 instead of 0 to 1"),
        (LEVELS * (16 / 255), LEVELS / 255, "0.* to 0.9.* instead of 0 to 16"),
        (LEVELS / 255, LEVELS / 127.5 - 1, "-1 to 1 instead of 0 to 1"),
        (LEVELS / 127.5 - 1, LEVELS / 255, "0.* to 0.9.* instead of -1 to 1"),
        (LEVELS, LEVELS * 257.0, "0 to 65535 instead of 0 to 255"),
        (LEVELS * 257.0, LEVELS, "[0-9.]+ to 2[345].* instead of 0 to 65535"),
        (LEVELS / 255, LEVELS / 255 + 100, "100 to 101 instead of 0 to 1"),
        (LEVELS / 255, LEVELS / 255 - 0.5, "-0.5 to 0.5 instead of 0 to 1"),
        (LEVELS / 255 - 0.5, LEVELS / 255, "0 to 1 instead of -0.5 to 0.5"),
        (LEVELS / 1.0, LEVELS - 127.5, "-127.5 to 127.5 instead of 0 to 255"),
        (LEVELS / 255, LEVELS / 255 + 0.5, "0.5 to 1.5 instead of 0 to 1"),
        (LEVELS / 255, LEVELS / 255 * 1.3, "0 to 1.3 instead of 0 to 1"),
    ],
)
def test_predict_on_another_scale_warns(train: Array, other: Array, ranges: str) -> None:
    classifier = clone(QUICK).fit(train, HALVES)
    for images in (other, other[:1]):
        with pytest.warns(UserWarning, match="another scale than .*; give both the same scale$") as warned:
            classifier.predict_proba(images)
        assert warned[0].filename == __file__
    expected = f"^[456][0-9] of 60 images are on another scale than the training images: {ranges};"
    with pytest.warns(UserWarning, match=expected):
        classifier.score(other, HALVES)


@pytest.mark.parametrize(("count", "warned"), [(16, True), (15, False)])
def test_predict_a_tenth_of_the_images_on_another_scale_warns(fitted: ConvClassifier, count: int, warned: bool) -> None:
    mixed = DIGITS[:160].copy()
    mixed[:count] /= 16
    expected = f"^{count} of 160 images are .*: 0 to (1|0.9375) instead of 0 to 16; give"
    with pytest.warns(UserWarning, match=expected) if warned else contextlib.nullcontext():
        fitted.predict(mixed)


@pytest.mark.parametrize("images", [LEVELS[:1], LEVELS // 2 + 64, np.zeros_like(LEVELS[:2]), LEVELS.astype(float)])
def test_predict_on_images_of_the_same_scale_does_not_warn(images: Array) -> None:
    clone(QUICK).fit(np.where(LEVELS > 127, LEVELS, LEVELS // 2 + 64), HALVES).predict_proba(images)


def test_predict_on_few_images_of_the_same_scale_does_not_warn(fitted: ConvClassifier) -> None:
    faint = np.zeros((1, 64))
    faint[0, :3] = 1, 2, 1
    for images in (faint, np.vstack([faint, DIGITS[:9]]), *(DIGITS[i : i + 1] for i in range(100))):
        fitted.predict(images)


@pytest.mark.parametrize("kind", ["one high", "one above", "one low", "both ends", "in each image", "row index"])
def test_fit_wild_values_warn(kind: str) -> None:
    images = np.array(DIGITS[:300])
    match kind:
        case "one high":
            images[3, 5] = 1e6
        case "one above":
            images[3, 5] = 255
        case "one low":
            images[3, 5] = -1e6
        case "both ends":
            images[::7, 5:7] = -1e308, 1e308
        case "in each image":
            images[:, 0] = 1e6
        case "row index":
            images[:, 0] = np.arange(300)
    expected = r"^X ranges from .* span less than 12.5% of that, typically 0.* to 1[56].*: remove wild values"
    with pytest.warns(UserWarning, match=expected) as warned:
        clone(QUICK).fit(images, LABELS[:300])
    assert len(warned) == 1  # none of NumPy's
    assert warned[0].filename == __file__


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_fit_on_the_largest_range_keeps_its_levels(kind: type) -> None:
    largest = np.finfo(kind).max
    images: Array = ((LEVELS / 127.5 - 1) * float(largest)).astype(kind)
    classifier = clone(QUICK).fit(images, HALVES)
    assert np.array_equal(classifier.predict_proba(images), clone(QUICK).fit(LEVELS, HALVES).predict_proba(LEVELS))


def test_predict_methods_agree_with_each_other(fitted: ConvClassifier) -> None:
    probabilities, logits = fitted.predict_proba(DIGITS), fitted.decision_function(DIGITS)
    assert (probabilities.shape, str(probabilities.dtype)) == ((1797, 10), "float64")
    assert probabilities.min() >= 0
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert np.log(probabilities[:, 1:] / probabilities[:, :1]) == pytest.approx(logits[:, 1:] - logits[:, :1])
    assert np.array_equal(fitted.predict(DIGITS), fitted.classes_[probabilities.argmax(axis=1)])


def test_predict_proba_of_huge_logits_sums_to_one(fitted: ConvClassifier) -> None:
    scaled = deepcopy(fitted)
    scaled.model_.get_parameter("classifier.weight").data.mul_(1e4)
    assert scaled.decision_function(DIGITS).max() > 1000  # its exponential exceeds float64
    assert scaled.predict_proba(DIGITS).sum(axis=1) == pytest.approx(1)


def test_decision_function_of_two_classes_is_log_odds_of_the_second() -> None:
    classifier = clone(QUICK).fit(LEVELS, HALVES)
    logit, odds = classifier.decision_function(LEVELS), classifier.predict_proba(LEVELS)
    assert np.log(odds[:, 1] / odds[:, 0]) == pytest.approx(logit)


@pytest.mark.parametrize(
    "labels", [HALVES, HALVES == "upper", np.where(HALVES == "upper", 7, -2), HALVES.astype(object)]
)
def test_predict_returns_labels_of_the_given_kind(labels: Array) -> None:
    classifier = ConvClassifier("flatten", "article", epochs=100).fit(LEVELS, labels)
    assert np.array_equal(classifier.classes_, np.unique(labels))
    assert classifier.predict(LEVELS).dtype == labels.dtype
    assert classifier.score(LEVELS, labels) > 0.9


# Errors

ONE = np.zeros(60)
NAN = np.where(LEVELS > 0, LEVELS, np.nan)


@pytest.mark.parametrize(
    ("parameters", "images", "labels", "message"),
    [
        ({}, NAN, HALVES, "Input X contains NaN"),
        ({}, LEVELS[:50], HALVES, r"inconsistent numbers of samples: \[50, 60\]"),
        ({}, LEVELS, ONE, r"only one class \(0.0\): expected at least two"),
        ({}, LEVELS, np.linspace(0, 1, 60), "Unknown label type: continuous"),
        ({}, LEVELS.reshape(60, 6, 3, 2), HALVES, r"images have 2 channels, \(60, 6, 3, 2\): expected 1, 3 or 4"),
        (
            {},
            LEVELS.reshape(60, 3, 2, 3, 2),
            HALVES,
            r"images are uint8 \(60, 3, 2, 3, 2\): expected uint8 \(n, height",
        ),
        ({}, LEVELS.reshape(60, 36)[:, :30], HALVES, r"n_features = 30, which is not a square: give image_shape=\("),
        ({"image_shape": (5, 7)}, LEVELS.reshape(60, 36), HALVES, r"36, which do not fit image_shape=\(5, 7\)"),
        ({"model": "smal"}, LEVELS, HALVES, "unknown preset 'smal': did you mean 'small'"),
        ({"model": "conv 8 9"}, LEVELS, HALVES, "'conv 8 9' needs feature maps of at least 9x9, got 6x6"),
        ({"recipe": "fats"}, LEVELS, HALVES, "unknown recipe 'fats': did you mean 'fast'"),
        ({"learning_rate": -1}, LEVELS, HALVES, "^learning_rate=-1: expected a number greater than 0$"),
    ],
)
def test_fit_with_wrong_data_or_parameters_raises(
    parameters: dict[str, Any], images: Array, labels: Array, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        clone(QUICK).set_params(**parameters).fit(images, labels)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (DIGITS[:, :49], "X has 49 features, but ConvClassifier is expecting 64 features"),
        (DIGITS.reshape(-1, 16, 4), r"X is images of shape \(16, 4, 1\), but ConvClassifier expects \(8, 8, 1\)"),
        (DIGITS.reshape(-1, 4, 4, 4), r"X is images of shape \(4, 4, 4\)"),
        (DIGITS[:0], "Found array with 0 sample"),
        (DIGITS * np.nan, "Input X contains NaN"),
    ],
)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_predict_methods_with_wrong_images_raise(
    fitted: ConvClassifier, method: str, images: Array, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(fitted, method)(images)


def test_save_before_fit_raises_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError, match="not fitted yet"):
        clone(QUICK).save(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_fit_with_infinite_loss_raises() -> None:
    with pytest.raises(ConvscopeError, match=r"the loss became (nan|inf) in epoch 1"):
        clone(QUICK).set_params(learning_rate=1e38, recipe=RECIPES["default"].override(batch_size=8)).fit(
            LEVELS, HALVES
        )
