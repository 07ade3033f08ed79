"""Parquet files with images and labels, as Hugging Face's `datasets` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from convscope.data.load import load_data, load_labeled
from convscope.errors import DataError, MissingExtraError
from convscope.images.read import encode_png
from helpers.images import Pixels, animals, noise, write_images
from helpers.reporting import RecordingReporter


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacked and decoded images go into the test's folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def encoded(images: dict[str, Pixels | bytes]) -> list[bytes]:
    return [some if isinstance(some, bytes) else encode_png(some) for some in images.values()]


def write(path: Path, images: list[Any], labels: list[Any], names: list[str] | None = None, **columns: str) -> Path:
    """A Parquet file; `image` and `label` rename the columns, `names` become Hugging Face's metadata."""
    image, label = columns.get("image", "image"), columns.get("label", "label")
    table = pa.table({"id": list(range(len(labels))), image: images, label: labels})
    if names:
        features = {"info": {"features": {label: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
    return path


def structs(images: list[bytes]) -> list[dict[str, Any]]:
    return [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)]


PETS = animals(10)
LABELS = [int(name.startswith("dog")) for name in PETS]


@pytest.mark.parametrize(("image", "label"), [("image", "label"), ("img", "fine_label"), ("Image", "labels")])
def test_load_data_parquet_equals_a_folder_of_the_same_images(tmp_path: Path, image: str, label: str) -> None:
    path = write(tmp_path / "p.parquet", structs(encoded(PETS)), LABELS, ["cat", "dog"], image=image, label=label)
    found, folder = load_data(path), load_data(write_images(tmp_path / "pets", PETS))
    assert (found.name, found.classes) == ("p", ("cat", "dog"))
    assert found.source.startswith(f"{path}; ")
    assert sorted(image.tobytes() for image in found.train.store) == sorted(i.tobytes() for i in folder.train.store)
    assert [found.train.labels.tolist().count(k) for k in (0, 1)] == [8, 8]


@pytest.mark.parametrize(
    ("labels", "classes"), [([7 + k for k in LABELS], ("7", "8")), (["cd"[k] for k in LABELS], ("c", "d"))]
)
def test_load_data_parquet_labels_without_names(tmp_path: Path, labels: list[Any], classes: tuple[str, ...]) -> None:
    assert load_data(write(tmp_path / "p.parquet", encoded(PETS), labels)).classes == classes


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("data/train-0000{}-of-00002.parquet", "data/test-0000{}-of-00002.parquet"),
        ("default/train/000{}.parquet", "default/test/000{}.parquet"),
        ("mnist-train-{}.parquet", "mnist-test-{}.parquet"),
    ],
)
def test_load_data_parquet_folder_has_the_splits_of_its_names(tmp_path: Path, train: str, test: str) -> None:
    for part, pattern in enumerate((train, test)):
        for i in range(2):
            images = structs(encoded(animals(5, 100 * part + 10 * i)))
            write(tmp_path / "set" / pattern.format(i), images, [0] * 5 + [1] * 5, ["cat", "dog"])
    (tmp_path / "set" / "README.md").write_text("x")
    dataset = load_data(tmp_path / "set")
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (20, 20, ("cat", "dog"))


def test_load_data_parquet_rows_without_a_label_are_left_out_with_a_message(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", encoded(PETS | {"x": noise(77)}), [*LABELS, -1], ["cat", "dog"])
    reporter = RecordingReporter()
    dataset = load_data(path, reporter=reporter)
    assert len(dataset.train) + len(dataset.test) == 20
    assert reporter.messages == [f"{path}: 1 row without a label; not used"]


@pytest.mark.parametrize("column", ["split", "partition", "Data Set"])
def test_load_data_parquet_column_of_splits_is_used(tmp_path: Path, column: str) -> None:
    splits = ["test" if i % 10 < 4 else "train" for i in range(20)]
    columns = {"image": structs(encoded(PETS)), "label": LABELS, column: splits, "path": ["x.png"] * 20}
    parquet.write_table(pa.table(columns), tmp_path / "p.parquet")
    dataset = load_data(tmp_path / "p.parquet")
    assert (len(dataset.train), len(dataset.test)) == (12, 8)


@pytest.mark.parametrize("flags", [[True, False] * 10, [1, 0] * 10])
def test_load_data_parquet_flag_that_may_tell_the_split_is_a_warning(tmp_path: Path, flags: list[Any]) -> None:
    columns = {"image": encoded(PETS), "label": LABELS, "is_train": flags, "train_ids": [[1, 2]] * 20}
    parquet.write_table(pa.table(columns), tmp_path / "p.parquet")
    assert "column is_train may tell the split" in [issue.text for issue in load_data(tmp_path / "p.parquet").issues]


def test_load_data_parquet_split_without_labels_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "set" / "data" / "train-00000-of-00001.parquet", encoded(PETS), LABELS, ["cat", "dog"])
    write(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", encoded(animals(10, 500)), [-1] * 20)
    reporter = RecordingReporter()
    dataset = load_data(tmp_path / "set", reporter=reporter)
    assert (len(dataset.train), len(dataset.test)) == (16, 4)
    assert reporter.messages == [f"{tmp_path}/set: 20 rows without a label; not used"]


def test_load_labeled_parquet_test_file_is_measured_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "test.parquet", encoded(PETS), LABELS, ["cat", "dog"])
    labeled = load_labeled(str(path), ("cat", "dog"))
    assert (len(labeled.images), labeled.description) == (20, f"the test split of {path}: 20 images")


BAD: dict[str, tuple[list[Any], list[Any], list[str] | None, str]] = {
    "paths": (
        [{"bytes": None, "path": "a.png"}, {"bytes": b"x", "path": "b"}],
        [0, 1],
        None,
        "a row without the bytes",
    ),
    "text": (["a.png", "b.png"], [0, 1], None, "no column of images: found id, image, label; expected image and label"),
    "names": (
        encoded(PETS),
        [k * 9 for k in LABELS],
        ["cat", "dog"],
        "a label 9, but names of 2 classes: expected 0..1",
    ),
    "no images": ([b"x", b"y"], [0, 1], None, "none of 2 files is an image"),
}


@pytest.mark.parametrize("kind", BAD)
def test_load_data_bad_parquet_raises(tmp_path: Path, kind: str) -> None:
    images, labels, names, message = BAD[kind]
    path = write(tmp_path / "p.parquet", images, labels, names)
    with pytest.raises(DataError, match=message) as raised:
        load_data(path)
    assert str(raised.value).startswith(f"{path}: ")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"words" * 100])
def test_load_data_damaged_parquet_raises(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"p.parquet: damaged \(.*\): download it again"):
        load_data(tmp_path / "p.parquet")


def test_load_data_parquet_with_a_damaged_page_raises_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", encoded(PETS), LABELS)
    content = bytearray(path.read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[4:footer] = b"\xff" * (footer - 4)  # every page, the index of pages and rows stays
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"p.parquet: damaged \(.*\): download it again") as raised:
        load_data(path)
    assert "\n" not in str(raised.value)


def test_load_data_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "p.parquet", encoded(PETS), LABELS)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"reading Parquet files needs the parquet extra: pip install 'convsc"):
        load_data(path)


def test_load_data_parquet_next_to_class_folders_is_not_the_data_set(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "pets", PETS)
    write(folder / "meta.parquet", encoded(PETS), ["x"] * 20)
    assert load_data(folder).classes == ("cat", "dog")
