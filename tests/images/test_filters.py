"""Classic kernels and pooling on images, against the textbook in reference.py and the article's examples."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from convscope import reference
from convscope.errors import UsageError
from convscope.images import filters
from convscope.images.filters import (
    KERNELS,
    convolve_image,
    is_edge_kernel,
    parse_kernel,
    parse_matrix,
    pool_image,
    to_pixels,
)
from convscope.reference import POOL_FUNCTIONS

SIZES = st.integers(1, 12)


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def textbook(pixels: NDArray[np.uint8], kernel: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    """Each channel on its own: a convolution with one group per channel."""
    channels = pixels.shape[2]
    weights = np.repeat(kernel[:, :, None, None], channels, axis=3)  # (kh, kw, 1, c)
    maps = reference.convolve(pixels[None].astype(float), weights, stride=stride, groups=channels)
    return np.asarray(maps[0])


@given(st.integers(3, 20), st.integers(3, 20), st.sampled_from([1, 3, 4]), st.integers(1, 4), st.integers(0, 99))
@pytest.mark.parametrize("name", KERNELS)
def test_convolve_image_named_kernels_equal_reference(
    name: str, height: int, width: int, channels: int, stride: int, seed: int
) -> None:
    pixels, kernel = noise(height, width, channels, seed=seed), KERNELS[name].matrix
    result = convolve_image(pixels, kernel, stride)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, textbook(pixels, kernel, stride))  # integers and sixteenths: exact


@given(SIZES, SIZES, SIZES, SIZES, st.integers(1, 3), st.integers(0, 99))
def test_convolve_image_any_kernel_equals_reference(
    h: int, w: int, more_h: int, more_w: int, stride: int, seed: int
) -> None:
    pixels = noise(h + more_h, w + more_w, 3, seed=seed)
    kernel = np.random.default_rng(seed).normal(size=(h, w))
    result = convolve_image(pixels, kernel, stride)
    np.testing.assert_allclose(result, textbook(pixels, kernel, stride), rtol=1e-6, atol=1e-3)


@given(SIZES, SIZES, st.integers(1, 5), st.sampled_from(list(POOL_FUNCTIONS)), st.integers(0, 99))
def test_pool_image_equals_reference(more_h: int, more_w: int, size: int, kind: str, seed: int) -> None:
    pixels = noise(size + more_h, size + more_w, 3, seed=seed)
    expected = reference.pool(pixels[None].astype(float), size, kind=kind)[0]
    np.testing.assert_allclose(pool_image(pixels, kind, size), expected, rtol=1e-7)


def test_convolve_image_in_bands_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, kernel = noise(37, 23, 3), KERNELS["emboss"].matrix
    whole = convolve_image(pixels, kernel, 2)
    monkeypatch.setattr(filters, "BAND_VALUES", 100)
    np.testing.assert_array_equal(convolve_image(pixels, kernel, 2), whole)
    np.testing.assert_array_equal(to_pixels(whole), np.clip(whole, 0, 255))


def test_convolve_image_article_a3_example() -> None:
    """A3: valid, stride 1, nine shifts, not flipped."""
    image = parse_matrix("11011 / 10101 / 11110 / 00110 / 11000").astype(np.uint8)[..., None]
    result = convolve_image(image, parse_kernel("101 / 010 / 110"))
    np.testing.assert_array_equal(result[..., 0], parse_matrix("353 / 325 / 442"))


@pytest.mark.parametrize(("kind", "expected"), [("max", "56/45"), ("min", "21/12"), ("average", "34/34")])
def test_pool_image_article_a5_example(kind: str, expected: str) -> None:
    """A5: 2x2 blocks, stride 2."""
    image = parse_matrix("3541 / 2256 / 4425 / 1354").astype(np.uint8)[..., None]
    np.testing.assert_array_equal(pool_image(image, kind, 2)[..., 0], parse_matrix(expected))


def test_kernels_article_a16_do_what_their_names_say() -> None:
    """A16: edge, blur, sharpen and emboss; a flat image is unchanged, or black after an edge detector."""
    flat = np.full((5, 5, 3), 77, np.uint8)
    sums = {name: convolve_image(flat, kernel.matrix)[1, 1, 1] for name, kernel in KERNELS.items()}
    assert sums == {"edge": 0, "blur": 77, "sharpen": 77, "emboss": 77, "sobel-x": 0, "sobel-y": 0}
    assert {name for name, kernel in KERNELS.items() if is_edge_kernel(kernel.matrix)} == {"edge", "sobel-x", "sobel-y"}
    step = np.repeat(np.array([10, 10, 30, 30], np.uint8), 4).reshape(4, 4)[..., None]  # dark above, light below
    assert (convolve_image(step, KERNELS["sobel-y"].matrix) == 80).all()
    assert (convolve_image(step.swapaxes(0, 1), KERNELS["sobel-x"].matrix) == 80).all()
    assert (convolve_image(step, KERNELS["sobel-x"].matrix) == 0).all()
    assert convolve_image(step, KERNELS["edge"].matrix)[:, 0, 0].tolist() == [-60, 60]
    assert convolve_image(step, KERNELS["sharpen"].matrix)[:, 0, 0].tolist() == [-10, 50]
    assert convolve_image(step, KERNELS["blur"].matrix)[:, 0, 0].tolist() == [15, 25]
    assert (convolve_image(step, KERNELS["emboss"].matrix) >= 10 + 2 * 20).all()


def test_to_pixels_magnitude_shows_both_sides_of_an_edge() -> None:
    values = np.array([[-60.0, 60.0, -1020.0, 0.5, 254.49]])
    assert to_pixels(values).tolist() == [[0, 60, 0, 1, 254]]
    assert to_pixels(values, magnitude=True).tolist() == [[60, 60, 255, 1, 254]]
    assert values[0, 0] == -60
    assert not is_edge_kernel(np.zeros((3, 3)))
    assert is_edge_kernel(np.array([[0.1, 0.2, -0.3]]))


@pytest.mark.slow
def test_convolve_image_25_megapixels_needs_little_memory() -> None:
    image = np.full((4000, 6250, 3), 9, np.uint8)
    tracemalloc.start()
    shown = to_pixels(convolve_image(image, KERNELS["blur"].matrix))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (shown == 9).all()
    assert peak < (4 + 1) * image.size + 100e6  # the float32 result, its pixels, and little else


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 0 1 / 0 1 0 / 1 1 0", [[1, 0, 1], [0, 1, 0], [1, 1, 0]]),
        ("101/010/110", [[1, 0, 1], [0, 1, 0], [1, 1, 0]]),
        ("1,2;3,4", [[1, 2], [3, 4]]),
        ("  1, 2 \n 3 ,4\n", [[1, 2], [3, 4]]),
        ("1 2 /\n3 4 /", [[1, 2], [3, 4]]),
        ("-1 .5 / 1e2 12", [[-1, 0.5], [100, 12]]),
        ("7", [[7]]),
        ("12", [[1, 2]]),
    ],
)
def test_parse_matrix_accepts_common_notations(text: str, expected: list[list[float]]) -> None:
    matrix = parse_matrix(text)
    assert matrix.dtype == np.float64
    assert matrix.tolist() == expected
    assert parse_kernel(text).tolist() == expected


def test_parse_kernel_ignores_case() -> None:
    np.testing.assert_array_equal(parse_kernel(" Edge "), KERNELS["edge"].matrix)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edgy", "unknown kernel 'edgy': expected edge, blur, sharpen, emboss, sobel-x, sobel-y, or a matrix"),
        ("1 0 / 1 0 1", "row 2 of the matrix has 3 numbers, row 1 has 2"),
        ("101 / 01", "row 2 of the matrix has 2 numbers, row 1 has 3"),
        ("1 x / 0 1", "'x' in the matrix row '1 x' is not a number"),
        ("1 nan", "'nan' in the matrix row '1 nan' is not a number"),
        ("1 inf", "'inf' in the matrix row"),
        ("", "empty matrix ''"),
        (" / ; ", "empty matrix '/ ;'"),
    ],
)
def test_parse_kernel_bad_text_raises(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        parse_kernel(text)
    assert "\n" not in str(caught.value)


def test_convolve_and_pool_windows_that_do_not_fit_raise() -> None:
    pixels = noise(4, 6, 1)
    with pytest.raises(UsageError, match="the kernel is 1x5, larger than the image, which is 6x4"):
        convolve_image(pixels, np.ones((5, 1)))
    with pytest.raises(UsageError, match="the kernel is 7x1, larger than the image"):
        convolve_image(pixels, np.ones((1, 7)))
    with pytest.raises(UsageError, match="the pooling block is 5x5, larger than the image"):
        pool_image(pixels, "max", 5)
    with pytest.raises(UsageError, match="stride 0: expected 1 or more"):
        convolve_image(pixels, np.ones((1, 1)), 0)
    with pytest.raises(UsageError, match="pooling size 0: expected 1 or more"):
        pool_image(pixels, "max", 0)
    with pytest.raises(UsageError, match="unknown pooling 'mean': expected max, min, average"):
        pool_image(pixels, "mean", 2)
