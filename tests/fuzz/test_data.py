"""Damaged data sets and tables are rejected in one line or read."""

from __future__ import annotations

import gzip
import json
import struct
import tempfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convscope.data.load import load_data
from convscope.data.options import LoadOptions
from fuzz.inputs import inputs
from fuzz.mutations import HOSTILE_TOKENS, damaged, damaged_json
from fuzz.outcome import refused_or_accepted

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (12, 8, 8), np.uint8)
LABELS = (np.arange(12) % 2).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def npz(**arrays: np.ndarray) -> bytes:
    file = BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def load(files: Mapping[str, bytes], source: str = "") -> None:
    """Write the files and load what they contain, which has to be whole or be rejected."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        with refused_or_accepted(UserWarning):
            dataset = load_data(Path(folder, source), LoadOptions(image_size=8))
            for split in (dataset.train, dataset.test):
                assert len(split.images) == len(split.labels)
                assert len(split.labels) == 0 or 0 <= split.labels.min() <= split.labels.max() < len(dataset.classes)


IDX_FILES = {
    "train-images-idx3-ubyte": idx(IMAGES),
    "train-labels-idx1-ubyte": idx(LABELS),
    "t10k-images-idx3-ubyte": idx(IMAGES),
    "t10k-labels-idx1-ubyte": idx(LABELS),
}


@inputs(200)
@given(st.sampled_from(sorted(IDX_FILES)), st.booleans(), st.data())
def test_load_data_damaged_idx_is_read_or_rejected(name: str, compressed: bool, data: st.DataObject) -> None:
    content = data.draw(damaged([IDX_FILES[name]]))
    files = {other: whole for other, whole in IDX_FILES.items() if other != name}
    if compressed:
        files[f"{name}.gz"] = data.draw(damaged([gzip.compress(content, mtime=0)]) | st.just(gzip.compress(content)))
    else:
        files[name] = content
    load(files)


@inputs(200)
@given(
    damaged(
        [
            npz(x_train=IMAGES, y_train=LABELS, x_test=IMAGES, y_test=LABELS),
            npz(images=IMAGES, labels=LABELS),
            npz(images=IMAGES.astype(np.float32) / 255, labels=np.eye(2, dtype=np.float32)[LABELS]),
            npz(images=IMAGES, labels=np.array([["cat", "dog"][label] for label in LABELS])),
        ]
    )
)
def test_load_data_damaged_npz_is_read_or_rejected(content: bytes) -> None:
    load({"set.npz": content}, "set.npz")


def png(number: int) -> bytes:
    file = BytesIO()
    Image.fromarray(IMAGES[number]).save(file, "PNG")
    return file.getvalue()


FILES = {f"{number}.png": png(number) for number in range(len(IMAGES))}
ROWS = [{"file": name, "label": ["cat", "dog"][LABELS[number]]} for number, name in enumerate(FILES)]
CSV = "file,label\n" + "".join(f"{row['file']},{row['label']}\n" for row in ROWS)
SPLIT_CSV = "file,label,split\n" + "".join(
    f"{row['file']},{row['label']},{'test' if number > 7 else 'train'}\n" for number, row in enumerate(ROWS)
)
SPELLINGS = [CSV, SPLIT_CSV, CSV.replace(",", ";"), CSV.replace(",", "\t"), "\ufeff" + CSV, CSV.replace("\n", "\r\n")]


@inputs(250)
@given(damaged([text.encode() for text in SPELLINGS], HOSTILE_TOKENS))
def test_load_data_damaged_csv_is_read_or_rejected(content: bytes) -> None:
    load({**FILES, "set.csv": content}, "set.csv")


@inputs(250)
@given(
    st.lists(st.sampled_from(ROWS).flatmap(lambda row: damaged_json(json.dumps(row))), min_size=1, max_size=12),
    st.booleans(),
    st.data(),
)
def test_load_data_damaged_jsonl_is_read_or_rejected(rows: list[str], edit: bool, data: st.DataObject) -> None:
    whole = "\n".join([*(json.dumps(row) for row in ROWS), *rows]).encode()
    load({**FILES, "set.jsonl": data.draw(damaged([whole], HOSTILE_TOKENS)) if edit else whole}, "set.jsonl")
