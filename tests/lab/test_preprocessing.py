"""The page's preprocessing is, bit for bit, that of Python: pixels, notes, and what it refuses."""

from __future__ import annotations

import os
import re
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from convscope.data.load import load_data
from convscope.errors import DataError
from convscope.images.comparison import TypicalImages
from convscope.images.golden import golden_files
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage, read_image
from helpers.command import required
from helpers.lab_page import NodePage, PageError, encode

Pixels = NDArray[np.uint8]


def framed_record(polarity: str) -> Preprocessing:
    """The record of images that share a frame, as MNIST's do."""
    images = np.zeros((200, 28, 28, 1), np.uint8)
    images[:100, 4:24, 12:16] = 255
    images[100:, 12:16, 4:24] = 230
    return Preprocessing.plain(images if polarity == "dark" else 255 - images)


def background_record(polarity: str, fills: bool = True) -> Preprocessing:
    """The record of images whose subjects lie on a plain background, without a frame."""
    random = np.random.default_rng(7)
    images = np.zeros((200, 28, 28, 1), np.uint8)
    for image in images:
        top, left = random.integers(0, 2 if fills else 9, 2)
        image[top : top + 26 if fills else top + 15, left : left + 12] = random.integers(100, 256)
    return Preprocessing.plain(images if polarity == "dark" else 255 - images)


def color_record(channels: int, fit: str = "letterbox") -> Preprocessing:
    """The record of images with mixed backgrounds."""
    images = np.random.default_rng(3).integers(0, 256, (20, 24, 32, channels), np.uint8)
    return Preprocessing.plain(images).model_copy(update={"fit": fit, "uint16_range": (100, 9000)})


RECORDS = {
    "framed dark": framed_record("dark"),
    "framed light": framed_record("light"),
    "filling dark": background_record("dark"),
    "filling light": background_record("light"),
    "background": background_record("dark", fills=False),
    "gray": color_record(1),
    "rgb": color_record(3),
    "rgb cropped": color_record(3, "crop"),
    "rgba": color_record(4),
    "gray cropped": color_record(1, "crop"),
    "gray stretched": color_record(1, "stretch"),
    "rgb stretched": color_record(3, "stretch"),
    "rgba stretched": color_record(4, "stretch"),
    "dark stretched": background_record("dark").model_copy(update={"background": None, "fit": "stretch"}),
}


def test_records_of_these_tests_have_a_frame_or_a_background() -> None:
    assert {name for name, record in RECORDS.items() if record.frame} == {"framed dark", "framed light"}
    fills = {name: record.background.fills for name, record in RECORDS.items() if record.background}
    assert fills == {"filling dark": True, "filling light": True, "background": False}


@st.composite
def drawings(draw: st.DrawFn) -> DecodedImage:
    """Strokes on paper on a table, with noise, light from one side, and any channels."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    height, width = draw(st.tuples(st.integers(1, 200), st.integers(1, 200)))
    image = np.full((height, width), draw(st.integers(0, 255)), np.float64)
    for _ in range(draw(st.integers(0, 3))):
        top, bottom = sorted(random.integers(0, height + 1, 2))
        left, right = sorted(random.integers(0, width + 1, 2))
        image[top:bottom, left:right] = random.integers(0, 256)
    image += np.linspace(0, draw(st.integers(0, 60)), width)
    image += random.normal(0, draw(st.sampled_from([0, 1, 20])), image.shape)
    pixels = image.clip(0, 255).astype(np.uint8)[..., None]
    channels = draw(st.sampled_from([1, 3, 4]))
    if channels > 1:
        pixels = np.repeat(pixels, 3, axis=2)
        pixels[..., 1] = pixels[..., 1] // draw(st.integers(1, 3))
    if channels == 4:
        alpha = random.integers(0, 256, (height, width, 1), np.uint8) if draw(st.booleans()) else pixels[..., :1]
        pixels = np.concatenate([pixels, alpha], axis=2)
    deep = None
    if channels == 1 and draw(st.booleans()):
        deep = pixels[..., 0].astype(np.uint16) * np.uint16(256) + np.uint16(17)
    return DecodedImage(pixels, ("16 bit reduced to 8",) if deep is not None else (), deep=deep)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(image=drawings(), name=st.sampled_from(sorted(RECORDS)))
def test_preprocess_any_drawing_equals_python_to_the_bit(node: NodePage, image: DecodedImage, name: str) -> None:
    assert_same(node, image, RECORDS[name])


def assert_same(node: NodePage, image: DecodedImage, record: Preprocessing) -> None:
    expected, notes = record.transform(image)
    found, found_notes = node.preprocess(image, record)
    np.testing.assert_array_equal(found, expected)
    assert found_notes == notes


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    sides=st.tuples(st.one_of(st.just(1), st.integers(1, 90)), st.one_of(st.just(1), st.integers(1, 90))),
    channels=st.sampled_from([1, 3, 4]),
    name=st.sampled_from([name for name in RECORDS if "stretched" in name]),
)
def test_preprocess_stretched_noise_equals_python_to_the_bit(
    node: NodePage, sides: tuple[int, int], channels: int, name: str
) -> None:
    pixels = np.random.default_rng(sides).integers(0, 256, (*sides, channels), np.uint8)
    assert_same(node, DecodedImage(pixels), RECORDS[name])


@pytest.mark.parametrize("name", RECORDS)
def test_preprocess_golden_files_equals_python_to_the_bit(node: NodePage, name: str) -> None:
    for file in (*golden_files(1).values(), *golden_files(3).values()):
        assert_same(node, read_image(file), RECORDS[name])


def data_folder() -> Path:
    folder = Path(os.environ.get("CONVSCOPE_DATA", "missing"))
    if not folder.is_dir():
        required("needs the folder of data sets, $CONVSCOPE_DATA")
    return folder


def test_preprocess_redrawn_mnist_digits_equals_python_to_the_bit(node: NodePage) -> None:
    data_folder()
    images = load_data("mnist").test.images[:40]
    record = Preprocessing.plain(load_data("mnist").train.images[:2000])
    assert record.frame
    random = np.random.default_rng(0)
    for i, digit in enumerate(images[..., 0]):
        side = int(random.integers(20, 300))
        resized = np.asarray(Image.fromarray(255 - digit if i % 2 else digit).resize((side, side)))
        pixels = np.pad(resized, random.integers(0, 40, (2, 2)), mode="edge") // 2 + 60
        assert_same(node, DecodedImage(pixels[..., None].astype(np.uint8)), record)


# Decoding


def pngs() -> dict[str, bytes]:
    """PNG files of every color type and depth, interlaced and with transparency, as Pillow writes them."""
    random = np.random.default_rng(1)
    gray, color = random.integers(0, 256, (13, 17), np.uint8), random.integers(0, 256, (13, 17, 4), np.uint8)
    images: dict[str, Any] = {
        "gray": Image.fromarray(gray),
        "one bit": Image.fromarray(gray).convert("1"),
        "deep": Image.fromarray(gray.astype(np.uint16) * 256 + 3),
        "rgb": Image.fromarray(color[..., :3]),
        "rgba": Image.fromarray(color),
        "gray alpha": Image.fromarray(color).convert("LA"),
        "palette": Image.fromarray(color[..., :3]).quantize(11),
    }
    files = {name: saved(image) for name, image in images.items()}
    files["palette with transparency"] = saved(images["palette"], transparency=3)
    files["transparent gray"] = saved(images["gray"], transparency=int(gray[0, 0]))
    files["transparent rgb"] = saved(images["rgb"], transparency=tuple(color[0, 0, :3].tolist()))
    files["transparent deep"] = saved(images["deep"], transparency=int(gray[0, 0]) * 256 + 3)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        files[f"orientation {orientation}"] = saved(images["rgb"], exif=exif)
        files[f"deep, orientation {orientation}"] = saved(images["deep"], exif=exif)
    return files


def saved(image: Image.Image, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


def assert_reads_alike(node: NodePage, file: bytes, name: str) -> None:
    """The page reads a file as Python does, or both refuse it."""
    try:
        expected = read_image(file)
    except DataError:
        with pytest.raises(PageError) as refused:
            node.read(file)
        assert refused.value.args[1] == "ImageError", refused.value.args
        return
    found = node.read(file)
    np.testing.assert_array_equal(found.pixels, expected.pixels, name)
    assert found.notes == expected.notes, name
    assert (found.deep is None) == (expected.deep is None), name
    if expected.deep is not None:
        np.testing.assert_array_equal(found.deep, expected.deep)


@pytest.mark.parametrize("name", pngs())
def test_decode_png_equals_python_to_the_bit(node: NodePage, name: str) -> None:
    assert_reads_alike(node, pngs()[name], name)


def test_decode_png_suite_equals_python_or_is_refused_by_both(node: NodePage) -> None:
    with tarfile.open(data_folder() / "pngsuite" / "pngsuite.tar.gz") as archive:
        files = [member for member in archive.getmembers() if member.name.endswith(".png")]
        assert len(files) > 100
        for member in files:
            file = archive.extractfile(member)
            assert file
            assert_reads_alike(node, file.read(), member.name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: b"", "the file is empty"),
        (lambda file: file[:-20], "the file is truncated"),
        (lambda file: file[:60] + bytes([file[60] ^ 1]) + file[61:], "wrong checksum in chunk 'IDAT'"),
    ],
)
def test_decode_damaged_png_is_refused(node: NodePage, change: Any, message: str) -> None:
    with pytest.raises(PageError, match=re.escape(message)):
        node.read(change(pngs()["rgb"]))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_notes_on_images_unlike_the_training_images_equal_python(node: NodePage, channels: int) -> None:
    random = np.random.default_rng(channels)
    shape = (9, 14, channels)
    typical = TypicalImages.measure(random.integers(90, 150, (60, *shape), np.uint8))
    seen: set[str] = set()
    for low, high in [(90, 150), (0, 20), (200, 256), (0, 256), (120, 122), (86, 158), (60, 160)]:
        pixels = random.integers(low, high, shape, np.uint8)
        (expected,) = typical.warn_each(pixels[None])
        found = node.ask(
            "unlike", typical=typical.model_dump(mode="json"), height=9, width=14, channels=channels,
            data=encode(pixels.tobytes()),
        )  # fmt: skip
        assert tuple(found["notes"]) == expected
        seen.update(expected)
    assert len(seen) > 3
