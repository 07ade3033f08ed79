"""Classic kernels and pooling on pictures, against the textbook in reference.py and the article's examples."""

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
from convscope.images import filters as picture_filter
from convscope.images.filters import (
    KERNELS,
    POOLS,
    as_picture,
    convolve_picture,
    finds_edges,
    named_or_written_kernel,
    parse_matrix,
    pool_picture,
)

SIZES = st.integers(1, 12)


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def textbook(pixels: NDArray[np.uint8], kernel: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    """Each channel by itself: a convolution in as many groups as there are channels."""
    channels = pixels.shape[2]
    weights = np.repeat(kernel[:, :, None, None], channels, axis=3)  # (kh, kw, 1, c)
    maps = reference.convolve(pixels[None].astype(float), weights, stride=stride, groups=channels)
    return np.asarray(maps[0])


@given(st.integers(3, 20), st.integers(3, 20), st.sampled_from([1, 3, 4]), st.integers(1, 4), st.integers(0, 99))
@pytest.mark.parametrize("name", KERNELS)
def test_named_kernels_equal_the_textbook(
    name: str, height: int, width: int, channels: int, stride: int, seed: int
) -> None:
    pixels, kernel = noise(height, width, channels, seed=seed), KERNELS[name].matrix
    result = convolve_picture(pixels, kernel, stride)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, textbook(pixels, kernel, stride))  # integers and sixteenths: exact


@given(SIZES, SIZES, SIZES, SIZES, st.integers(1, 3), st.integers(0, 99))
def test_any_kernel_equals_the_textbook(h: int, w: int, more_h: int, more_w: int, stride: int, seed: int) -> None:
    pixels = noise(h + more_h, w + more_w, 3, seed=seed)
    kernel = np.random.default_rng(seed).normal(size=(h, w))
    result = convolve_picture(pixels, kernel, stride)
    np.testing.assert_allclose(result, textbook(pixels, kernel, stride), rtol=1e-6, atol=1e-3)


@given(SIZES, SIZES, st.integers(1, 5), st.sampled_from(list(POOLS)), st.integers(0, 99))
def test_pooling_equals_the_textbook(more_h: int, more_w: int, size: int, kind: str, seed: int) -> None:
    pixels = noise(size + more_h, size + more_w, 3, seed=seed)
    expected = reference.pool(pixels[None].astype(float), size, kind=kind)[0]
    np.testing.assert_allclose(pool_picture(pixels, kind, size), expected, rtol=1e-7)


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, kernel = noise(37, 23, 3), KERNELS["emboss"].matrix
    whole = convolve_picture(pixels, kernel, 2)
    monkeypatch.setattr(picture_filter, "_BAND", 100)
    np.testing.assert_array_equal(convolve_picture(pixels, kernel, 2), whole)
    np.testing.assert_array_equal(as_picture(whole), np.clip(whole, 0, 255))


def test_article_a3_worked_example() -> None:
    """A3: valid, stride 1, nine shifts, not flipped."""
    image = parse_matrix("11011 / 10101 / 11110 / 00110 / 11000").astype(np.uint8)[..., None]
    result = convolve_picture(image, named_or_written_kernel("101 / 010 / 110"))
    np.testing.assert_array_equal(result[..., 0], parse_matrix("353 / 325 / 442"))


@pytest.mark.parametrize(("kind", "expected"), [("max", "56/45"), ("min", "21/12"), ("average", "34/34")])
def test_article_a5_pooling_example(kind: str, expected: str) -> None:
    """A5: 2x2 blocks, stride 2."""
    image = parse_matrix("3541 / 2256 / 4425 / 1354").astype(np.uint8)[..., None]
    np.testing.assert_array_equal(pool_picture(image, kind, 2)[..., 0], parse_matrix(expected))


def test_article_a16_kernels_do_what_their_names_say() -> None:
    """A16: edge, blur, sharpen and emboss; a flat picture stays as it is or, for edge detectors, goes black."""
    flat = np.full((5, 5, 3), 77, np.uint8)
    sums = {name: convolve_picture(flat, kernel.matrix)[1, 1, 1] for name, kernel in KERNELS.items()}
    assert sums == {"edge": 0, "blur": 77, "sharpen": 77, "emboss": 77, "sobel-x": 0, "sobel-y": 0}
    assert {name for name, kernel in KERNELS.items() if finds_edges(kernel.matrix)} == {"edge", "sobel-x", "sobel-y"}
    step = np.repeat(np.array([10, 10, 30, 30], np.uint8), 4).reshape(4, 4)[..., None]  # darker above, lighter below
    assert (convolve_picture(step, KERNELS["sobel-y"].matrix) == 80).all()
    assert (convolve_picture(step.swapaxes(0, 1), KERNELS["sobel-x"].matrix) == 80).all()
    assert (convolve_picture(step, KERNELS["sobel-x"].matrix) == 0).all()
    assert convolve_picture(step, KERNELS["edge"].matrix)[:, 0, 0].tolist() == [-60, 60]
    assert convolve_picture(step, KERNELS["sharpen"].matrix)[:, 0, 0].tolist() == [-10, 50]
    assert convolve_picture(step, KERNELS["blur"].matrix)[:, 0, 0].tolist() == [15, 25]
    assert (convolve_picture(step, KERNELS["emboss"].matrix) >= 10 + 2 * 20).all()


def test_both_sides_of_an_edge_show_by_magnitude() -> None:
    values = np.array([[-60.0, 60.0, -1020.0, 0.5, 254.49]])
    assert as_picture(values).tolist() == [[0, 60, 0, 1, 254]]
    assert as_picture(values, magnitude=True).tolist() == [[60, 60, 255, 1, 254]]
    assert values[0, 0] == -60
    assert not finds_edges(np.zeros((3, 3)))
    assert finds_edges(np.array([[0.1, 0.2, -0.3]]))


def test_a_25_megapixel_photo_is_filtered_in_little_memory() -> None:
    photo = np.full((4000, 6250, 3), 9, np.uint8)
    tracemalloc.start()
    shown = as_picture(convolve_picture(photo, KERNELS["blur"].matrix))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (shown == 9).all()
    assert peak < (4 + 1) * photo.size + 100e6  # the float32 result, the shown one, and little besides


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
def test_matrices_as_people_write_them(text: str, expected: list[list[float]]) -> None:
    matrix = parse_matrix(text)
    assert matrix.dtype == np.float64
    assert matrix.tolist() == expected
    assert named_or_written_kernel(text).tolist() == expected


def test_names_are_found_whatever_their_case() -> None:
    np.testing.assert_array_equal(named_or_written_kernel(" Edge "), KERNELS["edge"].matrix)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edgy", "unknown kernel 'edgy': expected edge, blur, sharpen, emboss, sobel-x, sobel-y, or a matrix"),
        ("1 0 / 1 0 1", "row 2 of the matrix has 3 numbers where row 1 has 2"),
        ("101 / 01", "row 2 of the matrix has 2 numbers where row 1 has 3"),
        ("1 x / 0 1", "'x' in the matrix row '1 x' is not a number"),
        ("1 nan", "'nan' in the matrix row '1 nan' is not a number"),
        ("1 inf", "'inf' in the matrix row"),
        ("", "an empty matrix ''"),
        (" / ; ", "an empty matrix '/ ;'"),
    ],
)
def test_kernels_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        named_or_written_kernel(text)
    assert "\n" not in str(caught.value)


def test_windows_that_do_not_fit() -> None:
    pixels = noise(4, 6, 1)
    with pytest.raises(UsageError, match="the kernel is 1x5, larger than the picture, which is 6x4"):
        convolve_picture(pixels, np.ones((5, 1)))
    with pytest.raises(UsageError, match="the kernel is 7x1, larger than the picture"):
        convolve_picture(pixels, np.ones((1, 7)))
    with pytest.raises(UsageError, match="the pooling block is 5x5, larger than the picture"):
        pool_picture(pixels, "max", 5)
    with pytest.raises(UsageError, match="the stride is 0: expected 1 or more"):
        convolve_picture(pixels, np.ones((1, 1)), 0)
    with pytest.raises(UsageError, match="the pooling size is 0: expected 1 or more"):
        pool_picture(pixels, "max", 0)
    with pytest.raises(UsageError, match="unknown pooling 'mean': expected max, min, average"):
        pool_picture(pixels, "mean", 2)
