"""load_data: names and paths, which format reads which path, and every bad input of the table."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases.bad_inputs import DATA_ROWS, GOOD_IMAGES, GOOD_LABELS, KERAS, BadInput, images, labels, npz
from convscope.data import load
from convscope.data.formats.idx import read_idx
from convscope.data.formats.image_files import read_image_files
from convscope.data.formats.npz import read_npz
from convscope.data.load import FORMATS, Format, load_data, load_labeled
from convscope.errors import DataError
from helpers.images import animals, write_images
from helpers.reporting import RecordingReporter


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data folder and an empty cache."""
    monkeypatch.delenv("CONVSCOPE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_load_data_name_wins_over_a_folder_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "x-images-idx3-ubyte").write_bytes(GOOD_IMAGES)
    (tmp_path / "digits" / "x-labels-idx1-ubyte").write_bytes(GOOD_LABELS)
    monkeypatch.chdir(tmp_path)
    reporter = RecordingReporter()
    assert load_data("digits", reporter=reporter).shape == (8, 8, 1)
    assert reporter.messages == ["digits is the data set of that name; write ./digits for what is in this folder"]
    assert load_data("./digits").shape == (4, 4, 1)


@pytest.mark.parametrize(
    ("files", "path", "reader"),
    [
        ({"set.npz": npz(**KERAS)}, "set.npz", read_npz),
        ({"SET.NPZ": b""}, "SET.NPZ", read_npz),
        ({"x-images-idx3-ubyte": GOOD_IMAGES}, ".", read_idx),
        ({"x-images-idx3-ubyte": GOOD_IMAGES}, "x-images-idx3-ubyte", read_idx),
        ({"cat/1.png": b"", "dog/2.png": b""}, ".", read_image_files),
        ({"all.csv": b""}, "all.csv", read_image_files),
        ({"all.jsonl": b""}, "all.jsonl", read_image_files),
        ({}, ".", read_image_files),
        ({"cat.jpg": b"\xff\xd8\xff"}, "cat.jpg", None),
    ],
)
def test_formats_first_match_reads_the_path(tmp_path: Path, files: dict[str, bytes], path: str, reader: object) -> None:
    (folder := tmp_path / "set").mkdir()
    write_images(folder, files)
    found = next((row.read for row in FORMATS if row.matches(folder / path)), None)
    assert found is reader


def test_formats_a_new_row_is_all_that_a_format_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numbers.bin").write_bytes(images().tobytes())

    def read(path: Path, context: object) -> object:  # noqa: ARG001
        return load_data((np.fromfile(path, np.uint8).reshape(-1, 4, 4), labels()))

    row = Format(lambda path: path.suffix == ".bin", read)  # type: ignore[arg-type]
    monkeypatch.setattr(load, "FORMATS", (*FORMATS, row))
    assert load_data(tmp_path / "numbers.bin").fingerprint == load_data((images(), labels())).fingerprint


def test_load_data_folder_of_images_is_decoded_into_the_cache(tmp_path: Path) -> None:
    dataset = load_data(write_images(tmp_path / "set", animals()))
    assert (dataset.classes, dataset.shape) == (("cat", "dog"), (12, 12, 3))
    assert len(list((tmp_path / "cache" / "convscope" / "images").iterdir())) == 1


@given(st.data(), st.sampled_from(["gz", "npz"]))
def test_load_data_damaged_file_raises_or_was_not_damaged(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject, kind: str
) -> None:
    """Truncated anywhere, or with any one byte changed: never another exception, never other pixels."""
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "x-labels-idx1-ubyte").write_bytes(GOOD_LABELS)
    path = folder / ("set.npz" if kind == "npz" else "x-images-idx3-ubyte.gz")
    whole = npz(images=images(), labels=labels()) if kind == "npz" else gzip.compress(GOOD_IMAGES, mtime=0)
    at = draw.draw(st.integers(0, len(whole) - 1))
    byte = draw.draw(st.none() | st.integers(0, 255))
    path.write_bytes(whole[:at] + (b"" if byte is None else bytes([byte]) + whole[at + 1 :]))
    try:
        found = load_data(path)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        everything = np.concatenate([found.train.images, found.test.images])
        assert sorted(everything.reshape(20, 16).tolist()) == sorted(images().reshape(20, 16).tolist())


@pytest.mark.parametrize("row", DATA_ROWS, ids=lambda row: row.name)
def test_load_data_bad_input_raises_one_line(row: BadInput, tmp_path: Path) -> None:
    (folder := tmp_path / "set").mkdir()
    with pytest.raises(DataError) as error:
        load_data(row.prepare(folder)[-1])
    assert re.search(row.message, str(error.value))
    assert "\n" not in str(error.value)
    assert error.value.exit_code == row.exit_code


def test_bad_inputs_have_unique_names() -> None:
    assert len({row.name for row in DATA_ROWS}) == len(DATA_ROWS)


@pytest.mark.parametrize(
    ("files", "path", "measured"),
    [
        ({"t10k-images-idx3-ubyte": GOOD_IMAGES, "t10k-labels-idx1-ubyte": GOOD_LABELS}, ".", "all 20 images of {}"),
        (
            {
                "train-images-idx3-ubyte": GOOD_IMAGES,
                "train-labels-idx1-ubyte": GOOD_LABELS,
                "test-images-idx3-ubyte": GOOD_IMAGES,
                "test-labels-idx1-ubyte": GOOD_LABELS,
            },
            ".",
            "the test split of {}: 20 images",
        ),
        ({"a.npz": npz(**KERAS)}, "a.npz", "the test split of {}: 4 images"),
        ({"a.npz": npz(x_test=images(4), y_test=labels(4))}, "a.npz", "the test split of {}: 4 images"),
        ({"a.npz": npz(X=images(6), y=labels(6))}, "a.npz", "all 6 images of {}"),
    ],
)
def test_load_labeled_arrays_are_measured_whole(
    tmp_path: Path, files: dict[str, bytes], path: str, measured: str
) -> None:
    (folder := tmp_path / "set").mkdir()
    write_images(folder, files)
    labeled = load_labeled(str(folder / path), ("0", "1"))
    assert labeled.classes == ("0", "1")
    assert labeled.description == measured.format(folder / path)
    assert f"{len(labeled.images)} images" in labeled.description


@pytest.mark.parametrize("years", [("2019", "2020"), ("2019",), ("images", "masks")])
def test_load_labeled_folders_inside_the_networks_classes(tmp_path: Path, years: tuple[str, ...]) -> None:
    files = {name.replace("/", f"/{year}/"): pixels for year in years for name, pixels in animals(2).items()}
    path = str(write_images(tmp_path / "set", files))
    labeled = load_labeled(path, ("cat", "dog"), reporter=RecordingReporter())
    assert labeled.classes == ("cat", "dog")
    each = 2 * len({*years} - {"masks"})
    assert sorted(labeled.images.labels.tolist()) == each * [0] + each * [1]


def test_load_labeled_named_set_is_its_test_split() -> None:
    labeled = load_labeled("digits", tuple("0123456789"))
    assert (len(labeled.images), labeled.description) == (359, "the test split of digits: 359 of 1,797 images")


def test_load_data_folder_that_cannot_be_listed_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("convscope.data.formats.parquet.os.scandir", refuse)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}: cannot be read (Permission denied)")):
        load_data(tmp_path)
