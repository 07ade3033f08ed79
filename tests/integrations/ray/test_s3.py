"""Files in S3, over a line that throttles and breaks: as in a folder on a disk, and no credentials anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import convscope
from convscope.data import load
from convscope.errors import ConvscopeError
from helpers.command import Command
from helpers.s3 import s3_server, unreliable_line

KEY, SECRET = "AKIACONVSCOPETEST", "a-secret-that-nobody-may-print"
IMAGES, BROKEN = 40, 7


class Bucket(NamedTuple):
    """A bucket named photos, and how many requests were throttled and broken."""

    system: Any
    failures: list[int]


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with s3_server(tmp_path) as endpoint, unreliable_line(endpoint, throttled=7, broken=11) as (line, failures):
        monkeypatch.setenv("AWS_ENDPOINT_URL", line)
        system = fsspec.filesystem("s3")
        system.mkdir("photos")
        yield Bucket(system, failures)


def write_digits(folder: Path) -> None:
    """Digits as PNGs in two folders; one file is damaged."""
    digits = convscope.load_data("digits").test.images
    for i in range(IMAGES):
        path = folder / f"{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[i][..., 0]).save(path)
    (folder / "1" / f"{BROKEN}.png").write_bytes(b"broken")


def answers(path: Path | str) -> pa.Table:
    return parquet.read_table(path)


@pytest.mark.slow
def test_predict_from_s3_to_s3_has_the_answers_of_a_disk(
    bucket: Bucket, digits_run: convscope.Run, command: Command
) -> None:
    write_digits(Path("digits"))
    bucket.system.put("digits", "photos", recursive=True)
    printed = [
        command("predict", digits_run.path, "digits", "--out", "disk.parquet"),
        command("predict", digits_run.path, "s3://photos/digits", "--out", "one.parquet"),
        command("predict", digits_run.path, "s3://photos/digits", "--out", "s3://photos/answers", "--ray", "local"),
    ]
    assert [answer.code for answer in printed] == [3, 3, 3]
    bucket.system.get("photos/answers", "many", recursive=True)
    disk, one, many = (answers(path) for path in ("disk.parquet", "one.parquet", "many"))
    assert many.equals(one)
    assert one.drop(["image", "error"]).equals(disk.drop(["image", "error"]))
    assert one.column("image").to_pylist() == [f"s3://photos/{name}" for name in disk.column("image").to_pylist()]
    assert min(bucket.failures) > 2
    everything = "".join(answer.out + answer.err for answer in printed) + str(many.to_pydict())
    everything += "".join(path.read_text() for path in Path("many").glob("_*"))
    assert KEY not in everything
    assert SECRET not in everything


@pytest.mark.slow
def test_load_data_from_s3_is_the_folder_on_a_disk(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "cache_folder", lambda: tmp_path / "cache")
    write_digits(Path("digits"))
    Path("digits", "1", f"{BROKEN}.png").unlink()
    bucket.system.put("digits", "photos", recursive=True)
    local, remote = convscope.load_data("digits/"), convscope.load_data("s3://photos/digits")
    assert len(remote.train) + len(remote.test) == IMAGES - 1
    for one, other in ((remote.train, local.train), (remote.test, local.test)):
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.labels, other.labels)
    assert bucket.failures[1] > 0


def test_predict_from_s3_that_cannot_be_reached_is_one_line(
    digits_run: convscope.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convscope._storage.WAITS_S", (0.0,))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(ConvscopeError, match=r"s3://photos/1\.png cannot be reached \(.*127\.0\.0\.1:9") as refusal:
        convscope.Predictor(digits_run.path).predict("s3://photos/1.png")
    assert SECRET not in str(refusal.value)
