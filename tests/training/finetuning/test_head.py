"""The classifier on frozen features against scikit-learn, and on data with few images or odd features."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from convscope.training.finetuning import head as module
from convscope.training.finetuning.head import MIN_VALIDATION_IMAGES, STRENGTHS, Head, fit_head

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


def blobs(n: int, classes: int = 3, noise: float = 1.5, seed: int = 0) -> tuple[Floats, Labels]:
    """Features of overlapping classes, each feature with a scale and mean of its own; labels repeat 0, 1, ..."""
    centers, features = np.random.default_rng(99).normal(size=(classes, 6)), 6
    random, labels = np.random.default_rng(seed), np.arange(n) % classes
    found = centers[labels] + random.normal(0, noise, (n, features))
    return (found * np.geomspace(0.01, 50, features) + np.linspace(-3, 40, features)).astype(np.float32), labels


def sklearn_logits(strength: float, train: tuple[Floats, Labels], images: Floats) -> NDArray[np.float64]:
    """Of scikit-learn's optimum; for two classes, its one column is their difference."""
    scaler = StandardScaler().fit(train[0].astype(np.float64))
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(scaler.transform(train[0]), train[1])
    logits: NDArray[np.float64] = scaler.transform(images) @ model.coef_.T + model.intercept_
    return logits


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    exponents = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    found: NDArray[np.float64] = exponents / exponents.sum(1, keepdims=True)
    return found


def cross_entropy(logits: NDArray[np.floating], labels: Labels) -> float:
    return float(-np.log(softmax(logits)[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("strength", [0.001, 0.1, 10])
def test_fit_head_equals_scikit_learn(monkeypatch: pytest.MonkeyPatch, strength: float) -> None:
    monkeypatch.setattr(module, "STRENGTHS", (strength,))
    train, validation = blobs(300), blobs(120, seed=1)
    head = fit_head([train[0]], train[1], 3, validation)
    assert head.strength == strength
    assert head.weight.shape == (3, 6)
    assert head.bias.shape == (3,)
    assert head.weight.dtype == head.bias.dtype == np.float32
    expected = softmax(sklearn_logits(strength, train, validation[0]))
    np.testing.assert_allclose(softmax(head.logits(validation[0])), expected, atol=2e-3)


def test_fit_head_two_classes_is_softmax_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two columns of weights share a penalty that one column, scikit-learn's, pays in half: C is twice as large."""
    monkeypatch.setattr(module, "STRENGTHS", (0.05,))
    train, validation = blobs(200, classes=2), blobs(120, classes=2, seed=1)
    logits = fit_head([train[0]], train[1], 2, validation).logits(validation[0])
    assert logits.shape == (120, 2)
    difference = sklearn_logits(2 * 0.05, train, validation[0])[:, 0]
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], difference, atol=5e-3)


@pytest.mark.parametrize(("noise", "strength"), [(1.5, 0.1), (4, 0.03), (40, 0.01)])
def test_fit_head_chooses_the_strength_with_the_lowest_validation_cross_entropy(noise: float, strength: float) -> None:
    train, validation = blobs(100, noise=noise), blobs(300, noise=noise, seed=1)
    losses = [cross_entropy(sklearn_logits(c, train, validation[0]), validation[1]) for c in STRENGTHS]
    assert fit_head([train[0]], train[1], 3, validation).strength == STRENGTHS[int(np.argmin(losses))] == strength


def test_fit_head_few_validation_images_choose_nothing() -> None:
    """With all labels wrong they would choose the weakest head; cross-validation does not see them."""
    train, (features, labels) = blobs(300), blobs(MIN_VALIDATION_IMAGES, seed=1)
    wrong = (labels + 1) % 3
    assert fit_head([train[0]], train[1], 3, (features, wrong)).strength == STRENGTHS[0]
    few = fit_head([train[0]], train[1], 3, (features[:-1], wrong[:-1]))
    assert few.strength > STRENGTHS[0]
    other = fit_head([train[0]], train[1], 3, (features[:1], labels[:1]))
    np.testing.assert_array_equal(few.weight, other.weight)


@pytest.mark.parametrize(("noise", "strength"), [(1.5, 0.1), (4, 0.03), (9, 0.01)])
def test_fit_head_cross_validation_has_five_folds_with_a_fifth_of_each_class(noise: float, strength: float) -> None:
    features, labels = blobs(150, 5, noise)
    fold = np.arange(150) // 5 % 5  # of each class, every fifth image
    losses = []
    for c in STRENGTHS:
        parts = []
        for number in range(5):
            rest, held_out = fold != number, fold == number
            logits = sklearn_logits(c, (features[rest], labels[rest]), features[held_out])
            parts.append(cross_entropy(logits, labels[held_out]))
        losses.append(np.mean(parts))
    head = fit_head([features], labels, 5, (features[:1], labels[:1]))
    assert head.strength == STRENGTHS[int(np.argmin(losses))] == strength


def test_fit_head_held_out_logits_are_of_heads_that_did_not_see_the_image() -> None:
    """Noise cannot be learned: the head knows its own images by heart, and no others."""
    features, labels = np.random.default_rng(0).normal(size=(60, 200)).astype(np.float32), np.arange(60) % 3
    head = fit_head([features], labels, 3, (features[:1], labels[:1]))
    assert head.held_out is not None
    assert head.held_out.shape == (60, 3)
    assert (head.logits(features).argmax(1) == labels).mean() > 0.9
    assert (head.held_out.argmax(1) == labels).mean() < 0.6
    validation = blobs(MIN_VALIDATION_IMAGES, seed=1)
    assert fit_head([blobs(60)[0]], blobs(60)[1], 3, validation).held_out is None


def test_fit_head_a_view_twice_changes_nothing() -> None:
    """The rows of all views add up, so each counts for less."""
    train, validation = blobs(200), blobs(120, seed=1)
    once, twice = (fit_head([train[0]] * count, train[1], 3, validation) for count in (1, 2))
    assert twice.strength == pytest.approx(once.strength / 2)
    np.testing.assert_allclose(softmax(twice.logits(train[0])), softmax(once.logits(train[0])), atol=2e-3)


def test_fit_head_learns_from_all_views_but_at_most_max_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    (first, labels), (second, _), validation = blobs(60), blobs(60, seed=2), blobs(120, seed=1)
    alone, both = fit_head([first], labels, 3, validation), fit_head([first, second], labels, 3, validation)
    assert not np.allclose(both.weight, alone.weight)
    monkeypatch.setattr(module, "MAX_ROWS", 119)
    np.testing.assert_array_equal(fit_head([first, second], labels, 3, validation).weight, alone.weight)
    monkeypatch.setattr(module, "MAX_ROWS", 10)  # fewer than one view has
    np.testing.assert_array_equal(fit_head([first, second], labels, 3, validation).weight, alone.weight)


def is_finite(head: Head) -> bool:
    return bool(np.isfinite(head.weight).all() and np.isfinite(head.bias).all())


def test_fit_head_class_without_validation_images() -> None:
    train, (features, labels) = blobs(300), blobs(300, seed=1)
    seen = labels != 2
    head = fit_head([train[0]], train[1], 3, (features[seen], labels[seen]))
    assert is_finite(head)
    assert (head.logits(train[0]).argmax(1) == 2).any()


@pytest.mark.parametrize("counts", [(1, 1), (1, 1, 1), (2, 1, 1), (1, 5), (4, 4, 4, 4, 4)], ids=str)
def test_fit_head_few_images_of_a_class(counts: tuple[int, ...]) -> None:
    """Some of the five folds hold no image out, or train without one of the classes."""
    labels = np.repeat(np.arange(len(counts)), counts)
    features = (np.eye(len(counts))[labels] + np.random.default_rng(0).normal(0, 0.1, (len(labels), len(counts)))) * 9
    views = features.astype(np.float32)
    head = fit_head([views], labels, len(counts), (views[:1], labels[:1]))
    assert is_finite(head)
    assert head.strength in STRENGTHS
    if len(set(counts)) == 1:
        assert head.logits(views).argmax(1).tolist() == labels.tolist()


@pytest.mark.parametrize("value", [0, 0.1, -3e4, 1e-8])
@pytest.mark.parametrize("images", [30, 3000])
def test_fit_head_constant_feature_counts_for_nothing(value: float, images: int) -> None:
    """Not even if it has another value in other images."""
    train, validation = blobs(images), blobs(120, seed=1)
    constant = np.full((images, 1), value, np.float32)
    held_out = np.hstack([validation[0], np.full((120, 1), value, np.float32)])
    head = fit_head([np.hstack([train[0], constant])], train[1], 3, (held_out, validation[1]))
    plain = fit_head([train[0]], train[1], 3, validation)
    for other in (value, value + 1):
        logits = head.logits(np.hstack([validation[0], np.full((120, 1), other, np.float32)]))
        np.testing.assert_allclose(softmax(logits), softmax(plain.logits(validation[0])), atol=2e-2)


def test_fit_head_is_deterministic() -> None:
    train, validation = blobs(200), blobs(120, seed=1)
    first, second = (fit_head([train[0]], train[1], 3, validation) for _ in range(2))
    assert first.weight.tobytes() + first.bias.tobytes() == second.weight.tobytes() + second.bias.tobytes()
