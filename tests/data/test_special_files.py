"""Pipes, devices and sockets are left out or refused with the reason; nothing waits or fills the memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from convscope import Run
from convscope.data.load import load_data
from convscope.errors import DataError, ModelFileError
from convscope.images.read import read_image
from convscope.runs.folder import open_run
from helpers.files import make_special
from helpers.images import animals, write_images

KINDS = ["a named pipe", "a device", "a socket"]


@pytest.mark.parametrize("where", ["cat", "cat/deep/er"])
@pytest.mark.parametrize("kind", KINDS)
def test_load_data_special_file_in_a_class_is_left_out(kind: str, where: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set", animals())
    (folder / where).mkdir(parents=True, exist_ok=True)
    make_special(kind, folder / where / "x.png")
    dataset = load_data(folder)
    (issue,) = (issue for issue in dataset.issues if issue.kind == "unreadable")
    assert issue.files == ((f"{where}/x.png",),)
    assert f"1 file cannot be read: {kind}, expected a regular file" in issue.text
    assert len(dataset.train) + len(dataset.test) == 12


@pytest.mark.parametrize("name", ["all.csv", "all.jsonl", "x.npz", "train-images-idx3-ubyte", "folder"])
@pytest.mark.parametrize("kind", KINDS)
def test_load_data_special_file_as_a_data_set_raises(kind: str, name: str, tmp_path: Path) -> None:
    path = make_special(kind, tmp_path / name)
    with pytest.raises(DataError, match=f"{name}: {kind}, expected a regular file: name one, or copy the content"):
        load_data(path)


@pytest.mark.parametrize("kind", KINDS)
def test_load_data_special_file_of_labels_raises(kind: str, tmp_path: Path) -> None:
    make_special(kind, tmp_path / "x-labels-idx1-ubyte")
    (tmp_path / "x-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7]))
    with pytest.raises(DataError, match=f"{kind}|no labels"):
        load_data(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_read_image_special_file_raises(kind: str, tmp_path: Path) -> None:
    path = make_special(kind, tmp_path / "x.png")
    with pytest.raises(DataError, match=rf"x\.png: {kind}, expected a regular file"):
        read_image(path)


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="needs Linux")
def test_read_image_of_the_system_is_empty() -> None:
    with pytest.raises(DataError, match="/proc/kmsg: an empty file"):
        read_image("/proc/kmsg")


@pytest.mark.parametrize("kind", KINDS)
def test_load_data_special_file_in_a_table_is_left_out(kind: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path, animals())
    make_special(kind, folder / "x.png")
    rows = "".join(f"{name},{name[:3]}\n" for name in animals())
    (folder / "all.csv").write_text(f"file,label\n{rows}x.png,cat\n")
    (issue,) = (issue for issue in load_data(folder / "all.csv").issues if issue.kind == "unreadable")
    assert kind in issue.text


def test_load_data_loop_of_links_in_a_class_is_left_out(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set", animals())
    (folder / "cat" / "x.png").symlink_to("x.png")
    (folder / "dog" / "y.png").symlink_to(folder / "gone")
    issues = [issue for issue in load_data(folder).issues if issue.kind == "unreadable"]
    assert sorted(name for issue in issues for files in issue.files for name in files) == ["cat/x.png", "dog/y.png"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["manifest.json", "config.json", "model.onnx", "best.safetensors"])
def test_open_run_special_file_raises(kind: str, name: str, digits_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(digits_run.path, folder)
    (folder / name).unlink()
    make_special(kind, folder / name)
    with pytest.raises(ModelFileError, match=name):
        open_run(folder)
