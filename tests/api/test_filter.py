"""The feature detector on numbers and on image files: results, arithmetic, files and errors."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from convscope import reference
from convscope._records import validate_options
from convscope.api.filter import FilterOptions, FilterResult, filter_image
from convscope.errors import ConvscopeError, DataError, UsageError
from convscope.images.filters import KERNELS
from convscope.images.read import encode_png, read_image

IMAGE, KERNEL = "11011/10101/11110/00110/11000", "101/010/110"
POOLED = "3541/2256/4425/1354"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files with default names are written there."""
    monkeypatch.chdir(tmp_path)


def write_image(path: str = "photo.png", channels: int = 3, height: int = 30, width: int = 40) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(channels).integers(0, 256, (height, width, channels), np.uint8)
    Path(path).write_bytes(encode_png(pixels))
    return pixels


def detect(image: str, kernel: str | None = None, **options: Any) -> FilterResult:
    """Filter with options as a user types them."""
    return filter_image(image, validate_options(FilterOptions, {"kernel": kernel, **options}))


def rows(found: FilterResult) -> str:
    """One feature map of whole numbers in the article's notation."""
    return "/".join("".join(f"{value:g}" for value in row) for row in found.values[:, :, 0])


def test_filter_image_article_a3_example() -> None:
    found = detect(IMAGE, KERNEL)
    assert rows(found) == "353/325/442"
    assert (found.notes, found.arithmetic, found.written) == ((), (), None)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "expected", "line"),
    [
        ("max", "56/45", "[1,0] = max(4, 4, 1, 3) = 4"),
        ("min", "21/12", "[1,0] = min(4, 4, 1, 3) = 1"),
        ("average", "34/34", "[1,0] = average(4, 4, 1, 3) = 3"),
    ],
)
def test_filter_image_article_a5_example(kind: str, expected: str, line: str) -> None:
    found = detect(POOLED, pool=(kind, 2), cell="1,0")
    assert rows(found) == expected
    assert found.arithmetic == (line,)


def test_filter_image_article_a2_arithmetic_of_all_nine_shifts() -> None:
    image, kernel = ([[int(digit) for digit in row] for row in text.split("/")] for text in (IMAGE, KERNEL))
    for (row, column), expected in np.ndenumerate([[3, 5, 3], [3, 2, 5], [4, 4, 2]]):
        products = [f"{image[row + i][column + j]}*{kernel[i][j]}" for i in range(3) for j in range(3)]
        (line,) = detect(IMAGE, KERNEL, cell=f"{row},{column}").arithmetic
        assert line == f"[{row},{column}] = {' + '.join(products)} = {expected}"


def test_filter_image_article_a2_larger_stride_makes_fewer_shifts() -> None:
    found = detect(IMAGE, KERNEL, stride=2, cell=" 1 , 0 ")
    assert rows(found) == "33/42"
    assert found.arithmetic == ("[1,0] = 1*1 + 1*0 + 1*1 + 0*0 + 0*1 + 1*0 + 1*1 + 1*1 + 0*0 = 4",)


def test_filter_image_numbers_with_signs_and_fractions() -> None:
    found = detect("1.5 -2 / 0 4", "-1 .5", cell="0,0")
    assert found.values.tolist() == [[[-2.5]], [[2.0]]]
    assert found.arithmetic == ("[0,0] = 1.5*-1 + -2*0.5 = -2.5",)


def test_filter_image_long_rows_of_numbers_are_not_a_path() -> None:
    found = detect(";".join(["1 2 3"] * 2_000), "1 1")
    assert found.values.shape == (2_000, 2, 1)


def test_filter_image_file_named_like_a_number_is_read() -> None:
    write_image("7")
    assert detect("7", "edge", out=Path("edges.png")).written == Path("edges.png")


@pytest.mark.parametrize("stride", [None, 1, 3])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", ["blur", "edge", "sharpen", KERNEL])
def test_filter_image_article_a16_kernels_equal_reference(name: str, channels: int, stride: int | None) -> None:
    pixels = write_image(channels=channels).astype(float)
    if channels == 4:
        alpha = pixels[..., 3:]
        pixels = np.floor((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) / 255)
    weights = KERNELS[name].matrix if name in KERNELS else np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0]], float)
    maps = [
        reference.convolve(pixels[None, :, :, [k]], weights[:, :, None, None], stride=stride or 1)[0]
        for k in range(pixels.shape[2])
    ]
    expected = np.concatenate(maps, axis=2)
    found = detect("photo.png", name, stride=stride)
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    assert found.written is not None
    shown = np.clip(np.floor(abs(expected) + 0.5) if name == "edge" else np.floor(expected + 0.5), 0, 255)
    np.testing.assert_array_equal(read_image(found.written).pixels, shown)
    assert found.notes[0] == f"40x30 -> {expected.shape[1]}x{expected.shape[0]}"
    assert len(found.notes) == (2 if name == "edge" else 1)


@pytest.mark.parametrize("kind", ["max", "min", "average"])
def test_filter_image_article_a16_pooling_makes_images_smaller(kind: str) -> None:
    pixels = write_image(height=31).astype(float)
    found = detect("photo.png", pool=(kind, 4), cell="6,9")
    expected = reference.pool(pixels[None], 4, kind=kind)[0]
    np.testing.assert_allclose(found.values, expected, rtol=1e-6)
    assert found.notes == ("40x31 -> 10x7",)
    assert found.written == Path(f"photo-{kind}pool-4.png")
    assert [line.split(" = ")[0] for line in found.arithmetic] == ["[6,9,0]", "[6,9,1]", "[6,9,2]"]
    window = pixels[24:28, 36:40, 1].ravel()
    assert found.arithmetic[1] == (
        f"[6,9,1] = {kind}({', '.join(f'{value:g}' for value in window)}) = {expected[6, 9, 1]:g}"
    )


def test_filter_image_article_a2_arithmetic_has_a_line_per_channel() -> None:
    pixels = write_image()
    found = detect("photo.png", "sobel-x", stride=2, cell="5,3")
    window = pixels[10:13, 6:9].astype(int)
    for channel, line in enumerate(found.arithmetic):
        place, products, total = line.split(" = ")
        assert place == f"[5,3,{channel}]"
        factors = [product.split("*") for product in products.split(" + ")]
        assert [int(pixel) for pixel, _ in factors] == window[:, :, channel].ravel().tolist()
        assert [int(weight) for _, weight in factors] == [-1, 0, 1, -2, 0, 2, -1, 0, 1]
        assert sum(int(pixel) * int(weight) for pixel, weight in factors) == int(total) == found.values[5, 3, channel]
    assert len(found.arithmetic) == 3


@pytest.mark.parametrize(
    ("kernel", "out", "written"),
    [
        ("edge", None, "photo-edge.png"),
        ("Sobel-X", None, "photo-Sobel-X.png"),
        ("1 0 -1", None, "photo-kernel.png"),
        ("edge", "deep/new/x.png", "deep/new/x.png"),
    ],
)
def test_filter_image_default_file_name_has_image_and_kernel(kernel: str, out: str | None, written: str) -> None:
    write_image()
    assert detect("photo.png", kernel, out=Path(out) if out else None).written == Path(written)
    assert Path(written).is_file()


def test_filter_image_notes_include_those_of_reading() -> None:
    Image.fromarray(write_image()).quantize(8).save("palette.gif")
    assert detect("palette.gif", "edge").notes == (
        "palette expanded",
        "40x30 -> 38x28",
        "shown as absolute values, because an edge is dark to light or light to dark",
    )


def test_filter_result_as_json() -> None:
    assert detect(IMAGE, KERNEL, cell="2,2").model_dump(mode="json") == {
        "shape": [3, 3, 1],
        "notes": [],
        "arithmetic": ["[2,2] = 1*1 + 1*0 + 0*1 + 1*0 + 1*1 + 0*0 + 0*1 + 0*1 + 0*0 = 2"],
        "written": None,
        "values": [[3, 5, 3], [3, 2, 5], [4, 4, 2]],
    }
    write_image()
    values = detect("photo.png", "blur").model_dump(mode="json")
    assert (values["shape"], values["written"], values["values"]) == ([28, 38, 3], "photo-blur.png", None)


EITHER = "expected either --kernel or --pool: for example --kernel edge, or --pool max 2"

# arguments, error, message
WRONG: dict[str, tuple[dict[str, Any], type[ConvscopeError], str]] = {
    "nothing to do": ({"image": IMAGE}, UsageError, EITHER),
    "two things to do": ({"image": IMAGE, "kernel": KERNEL, "pool": ("max", 2)}, UsageError, EITHER),
    "stride of a pool": (
        {"image": IMAGE, "pool": ("max", 2), "stride": 1}, UsageError,
        "--stride goes with --kernel: the stride of a pooling window is its size",
    ),
    "out for numbers": (
        {"image": IMAGE, "kernel": KERNEL, "out": Path("x.png")}, UsageError,
        "--out goes with an image file: the result of filtering numbers is printed",
    ),
    "ragged image": ({"image": "11/1", "kernel": KERNEL}, UsageError, "row 2 of the matrix has 1 numbers"),
    "ragged kernel": ({"image": IMAGE, "kernel": "11/1"}, UsageError, "row 2 of the matrix has 1 numbers"),
    "unknown kernel": ({"image": IMAGE, "kernel": "edgy"}, UsageError, "unknown kernel 'edgy': expected edge, blur"),
    "kernel of words": ({"image": IMAGE, "kernel": "1 x"}, UsageError, "'x' in the matrix row '1 x' is not a number"),
    "large kernel": ({"image": "11/11", "kernel": KERNEL}, UsageError, "(2, 2) (height, width), got (3, 3)"),
    "stride 0": ({"image": IMAGE, "kernel": KERNEL, "stride": 0}, UsageError, "stride=0: expected a number of at"),
    "pool of 0": ({"image": IMAGE, "pool": ("max", 0)}, UsageError, "expected size a whole number from 1, got 0"),
    "unknown pool": ({"image": IMAGE, "pool": ("mean", 2)}, UsageError, "expected kind max, min, average, got 'mean'"),
    "large pool": ({"image": "11/11", "pool": ("max", 3)}, UsageError, "(2, 2) (height, width), got (3, 3)"),
    "cell outside": (
        {"image": IMAGE, "kernel": KERNEL, "cell": "3,0"}, UsageError,
        "--cell '3,0': expected ROW,COLUMN within 3 rows and 3 columns, from 0",
    ),
    "cell in no column": ({"image": IMAGE, "kernel": KERNEL, "cell": "0,3"}, UsageError, "--cell '0,3': expected"),
    "cell of words": ({"image": IMAGE, "kernel": KERNEL, "cell": "a,b"}, UsageError, "--cell 'a,b': expected"),
    "half a cell": ({"image": POOLED, "pool": ("max", 2), "cell": "1"}, UsageError, "--cell '1': expected"),
    "no such file": ({"image": "no.png", "kernel": "edge"}, DataError, "no.png: no such file"),
    "a folder": ({"image": ".", "kernel": "edge"}, DataError, ".: a folder, expected one image file"),
    "not an image": ({"image": "notes.txt", "kernel": "edge"}, DataError, "notes.txt: not an image"),
    "image too large": (
        {"image": "photo.png", "kernel": "edge", "max_megapixels": 0.001}, DataError,
        "photo.png: 40x30 are 0.0012 megapixels, expected at most 0.001",
    ),
    "image, large kernel": (
        {"image": "photo.png", "kernel": "/".join(["1"] * 31)}, UsageError,
        "the kernel is 1x31, larger than the image, which is 40x30",
    ),
    "image, unknown pool": (
        {"image": "photo.png", "pool": ("mean", 2)}, UsageError, "unknown pooling 'mean': expected max, min, average",
    ),
    "image, large pool": (
        {"image": "photo.png", "pool": ("max", 31)}, UsageError, "the pooling block is 31x31, larger than the image",
    ),
    "image, cell outside": (
        {"image": "photo.png", "kernel": "edge", "cell": "28,0"}, UsageError,
        "--cell '28,0': expected ROW,COLUMN within 28 rows and 38 columns, from 0",
    ),
    "image, cell of a pool outside": (
        {"image": "photo.png", "pool": ("max", 3), "cell": "0,13"}, UsageError, "within 10 rows and 13 columns, from 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_filter_image_wrong_arguments_raise_one_line_and_write_nothing(name: str) -> None:
    write_image()
    Path("notes.txt").write_text("not an image")
    arguments, kind, message = WRONG[name]
    with pytest.raises(kind, match=re.escape(message)) as caught:
        detect(**arguments)
    assert len(str(caught.value).splitlines()) == 1
    assert {path.name for path in Path().iterdir()} == {"photo.png", "notes.txt"}


def test_filter_image_full_disk_keeps_the_old_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write_image()
    Path("edges.png").write_bytes(b"the old one")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConvscopeError, match=r"^cannot write edges\.png: No space left on device; free some space"):
        detect("photo.png", "edge", out=Path("edges.png"), force=True)
    assert Path("edges.png").read_bytes() == b"the old one"
    assert {path.name for path in Path().iterdir()} == {"photo.png", "edges.png"}


def test_filter_image_folder_is_not_overwritten() -> None:
    write_image()
    Path("edges.png").mkdir()
    with pytest.raises(ConvscopeError, match=r"^cannot write edges\.png: it is a folder; choose another name$"):
        detect("photo.png", "edge", out=Path("edges.png"))
    assert list(Path("edges.png").iterdir()) == []
    assert {path.name for path in Path().iterdir()} == {"photo.png", "edges.png"}


def test_filter_image_input_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encode_png(np.zeros((5, 5, 1), np.uint8)))
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is the input image and would overwrite it"):
        detect(str(path), "edge", out=path)
    assert path.read_bytes() == before
