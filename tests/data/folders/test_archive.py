"""Archives: unpacked once into the cache and read like a folder; damaged and hostile ones are refused."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cases.bad_inputs import GOOD_IMAGES, GOOD_LABELS
from convscope.data.audit.report import audit_images
from convscope.data.folders import archive
from convscope.data.load import load_data, load_labeled
from convscope.data.options import LoadOptions
from convscope.errors import ConvscopeError, DataError
from helpers.images import animals, write_images
from helpers.reporting import FailingReporter, RecordingReporter


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder of unpacked archives."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "convscope" / "unpacked"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in files.items():
            written.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as written:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            written.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


Pack = Callable[[dict[str, bytes]], bytes]
PACKERS: dict[str, Pack] = {
    "pets.zip": zipped,
    "pets.tar": tarred,
    "pets.tar.gz": lambda files: tarred(files, "w:gz"),
    "pets.TGZ": lambda files: tarred(files, "w:gz"),
    "pets.tar.xz": lambda files: tarred(files, "w:xz"),
    "pets.tar.bz2": lambda files: tarred(files, "w:bz2"),
    "wrongly-named.zip": tarred,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("wrapper", ["", "pets-main/", "./"])
def test_load_data_archive_equals_its_folder(tmp_path: Path, name: str, wrapper: str) -> None:
    folder = write_images(tmp_path / "pets", animals())
    files = {f"{wrapper}{inner}": content for inner, content in contents(folder).items()}
    (tmp_path / name).write_bytes(PACKERS[name](files | {"__MACOSX/._x": b"x", f"{wrapper}.DS_Store": b"x"}))
    packed, plain = load_data(tmp_path / name), load_data(folder)
    assert packed.fingerprint == plain.fingerprint
    assert (packed.name, packed.files) == (name.split(".")[0], plain.files)
    assert packed.source == plain.source.replace(str(folder), str(tmp_path / name))


def test_load_data_archive_is_unpacked_once_and_again_after_a_change(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "pets.zip"
    path.write_bytes(zipped(contents(write_images(tmp_path / "pets", animals()))))
    before = load_data(path).fingerprint
    (first,) = cache.iterdir()
    times = os.stat(first).st_mtime_ns  # noqa: PTH116
    assert load_data(path).fingerprint == before
    assert os.stat(first).st_mtime_ns == times  # noqa: PTH116
    next((first / "pets" / "cat").iterdir()).unlink()
    assert load_data(path).fingerprint == before
    path.write_bytes(zipped(contents(write_images(tmp_path / "pets", animals(9)))))
    assert load_data(path).fingerprint != before


def test_load_data_path_into_an_archive_is_read(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "pets", animals(10))
    rows = "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(animals(10)))
    (folder / "labels.csv").write_text("file,label\n" + rows)
    (tmp_path / "pets.zip").write_bytes(zipped({f"top/{name}": some for name, some in contents(folder).items()}))
    assert load_data(tmp_path / "pets.zip" / "top" / "labels.csv").classes == ("a", "b")
    assert load_data(tmp_path / "pets.zip").classes == ("cat", "dog")


def test_load_data_archive_with_colons_in_its_names_is_read(tmp_path: Path) -> None:
    files = contents(write_images(tmp_path / "pets", animals()))
    (tmp_path / "pets.zip").write_bytes(zipped({f"set: v1/{name}": some for name, some in files.items()}))
    assert load_data(tmp_path / "pets.zip").classes == ("cat", "dog")


def test_load_data_archives_in_an_archive_are_splits(tmp_path: Path) -> None:
    train, test = (zipped(contents(write_images(tmp_path / str(i), animals(start=i)))) for i in (0, 500))
    (tmp_path / "all.zip").write_bytes(zipped({"train.zip": train, "test.zip": test}))
    dataset = load_data(tmp_path / "all.zip")
    assert (dataset.classes, len(dataset.train), len(dataset.test)) == (("cat", "dog"), 12, 12)


def test_load_data_archive_of_idx_files(tmp_path: Path) -> None:
    files = {"mnist/x-images-idx3-ubyte": GOOD_IMAGES, "mnist/x-labels-idx1-ubyte": GOOD_LABELS}
    (tmp_path / "x.zip").write_bytes(zipped(files))
    assert load_data(tmp_path / "x.zip").shape == (4, 4, 1)


def test_load_labeled_archive_says_what_it_measures(tmp_path: Path) -> None:
    (tmp_path / "new.tar").write_bytes(tarred(contents(write_images(tmp_path / "new", animals(3)))))
    labeled = load_labeled(str(tmp_path / "new.tar"), ("cat", "dog"), reporter=FailingReporter())
    assert labeled.description == f"all 6 images of {tmp_path}/new.tar"
    assert audit_images(tmp_path / "new.tar", LoadOptions(), FailingReporter()).path == f"{tmp_path}/new.tar"


GOOD = zipped({"cat/1.png": bytes(1000), "dog/1.png": bytes(1000)})
BAD: dict[str, tuple[str, bytes, str]] = {
    "parent": ("x.zip", zipped({"../../evil.png": b"x"}), r"it contains '../../evil.png', which leads out"),
    "absolute": ("x.tar", tarred({"/etc/evil.png": b"x"}), "it contains '/etc/evil.png', which leads out"),
    "backslash": ("x.zip", zipped({"a\\..\\..\\evil.png": b"x"}), "which leads out of the archive's folder"),
    "drive": ("x.zip", zipped({"C:/evil.png": b"x"}), "which leads out"),
    "twice": ("x.tar", tarred({"a/1.png": b"x", "./a/1.png": b"y"}), "it contains .* twice"),
    "file as folder": ("x.tar", tarred({"a": b"x", "a/1.png": b"y"}), "it contains 'a/1.png', and a file in place of"),
    "no archive": ("x.zip", b"words", r"x.zip: the archive is damaged or truncated \("),
    "empty": ("x.tar", b"", "x.tar: the archive is damaged or truncated"),
    "truncated": ("x.tar.gz", tarred({"a/1.png": os.urandom(9000)}, "w:gz")[:5000], "is damaged or truncated"),
    "three bytes": ("x.tgz", b"\x1f\x8b\x08", "is damaged or truncated"),
    "flipped": ("x.zip", GOOD.replace(GOOD[40:44], b"\xff\xff\xff\xff", 1), "x.zip: the archive is damaged"),
    "no images": ("x.zip", zipped({"readme.txt": b"x"}), "x.zip: no class folders, 1 file:"),
    "nothing": ("x.zip", zipped({}), "x.zip: no class folders, 0 files"),
}


@pytest.mark.parametrize("kind", BAD)
def test_load_data_bad_archive_raises_and_leaves_nothing(tmp_path: Path, cache: Path, kind: str) -> None:
    name, content, message = BAD[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        load_data(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))
    assert not list(tmp_path.rglob("evil.png"))
    assert not list(cache.glob(".unfinished*"))


def test_load_data_archive_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "FREE_BYTES", 1000)
    for name, content in (("b.zip", zipped({"a/1.png": bytes(10**7)})), ("b.tgz", tarred({"a": bytes(10**7)}, "w:gz"))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: more than 100 times its size or the free space"):
            load_data(tmp_path / name)


def link_zip(folder: Path) -> bytes:
    """A .zip that keeps symbolic links, as `zip --symlinks` writes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                info = zipfile.ZipInfo(name)
                info.create_system, info.external_attr = 3, 0o120777 << 16
                written.writestr(info, os.readlink(path))  # noqa: PTH115
            elif path.is_file():
                written.write(path, name)
    return buffer.getvalue()


def link_tar(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as written:
        written.add(folder, ".")
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "pack"), [("pets.tar", link_tar), ("pets.zip", link_zip)])
@pytest.mark.parametrize("kind", ["files", "folders", "links to links"])
def test_load_data_symbolic_links_in_an_archive_are_followed(
    tmp_path: Path, name: str, pack: Callable[[Path], bytes], kind: str
) -> None:
    plain = write_images(tmp_path / "plain" / "pets", animals())
    folder = write_images(tmp_path / "links", {f"zoo/{file}": image for file, image in animals().items()})
    if kind == "folders":
        for animal in ("cat", "dog"):
            (folder / "pets").mkdir(exist_ok=True)
            (folder / "pets" / animal).symlink_to(f"../zoo/{animal}")
    for file in animals() if kind != "folders" else ():
        (folder / "pets" / file).parent.mkdir(parents=True, exist_ok=True)
        target = f"../../zoo/{file}"
        if kind == "links to links":
            (folder / "a").mkdir(exist_ok=True)
            (folder / "a" / file.replace("/", "-")).symlink_to(f"../zoo/{file}")
            target = f"../../a/{file.replace('/', '-')}"
        (folder / "pets" / file).symlink_to(target)
    (tmp_path / name).write_bytes(pack(folder))
    dataset = load_data(tmp_path / name / "pets", reporter=FailingReporter())
    assert dataset.fingerprint == load_data(plain).fingerprint


def test_load_data_hard_links_in_a_tar_are_followed(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "pets", {f"all/{file}": image for file, image in animals().items()})
    for file in animals():
        (folder / file).parent.mkdir(exist_ok=True)
        os.link(folder / "all" / file, folder / file)
    (tmp_path / "pets.tar").write_bytes(link_tar(folder))
    with tarfile.open(tmp_path / "pets.tar") as tar:
        assert sum(entry.islnk() for entry in tar) == len(animals())
    listed = audit_images(tmp_path / "pets.tar", LoadOptions(class_level=1), FailingReporter())
    assert {one.name: one.files for one in listed.classes}["cat"] == len(animals()) // 2


def test_load_data_links_out_of_an_archive_are_left_out_with_a_message(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "pets", animals())
    (folder / "cat" / "link.png").symlink_to("/etc/hostname")
    (folder / "cat" / "up.png").symlink_to("../../../../etc/hostname")
    (folder / "cat" / "none.png").symlink_to("missing.png")
    (folder / "cat" / "loop").symlink_to("..")
    (folder / "cat" / "too long.png").symlink_to("x" * 2000 + ".png")
    (tmp_path / "pets.tar").write_bytes(link_tar(folder))
    for _ in range(2):  # unpacked, and from the cache
        reporter = RecordingReporter()
        assert set(load_data(tmp_path / "pets.tar", reporter=reporter).files) == set(animals())
        expected = "cat/link.png, cat/loop, cat/none.png, cat/too long.png, cat/up.png"
        assert reporter.messages == [f"{tmp_path}/pets.tar: 5 links to nothing in the archive: {expected}; not used"]


def test_load_data_links_that_multiply_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "FREE_BYTES", 10**6)
    folder = write_images(tmp_path / "pets", {"0/a.png": bytes(1000)})
    for level in range(1, 40):
        (folder / str(level)).mkdir()
        for side in "lr":
            (folder / str(level) / side).symlink_to(f"../{level - 1}")
    with tarfile.open(tmp_path / "pets.tgz", "w:gz") as tar:
        tar.add(folder, "pets")
    with pytest.raises(DataError, match="more than 100 times its size or the free space"):
        load_data(tmp_path / "pets.tgz")


def test_load_data_archive_with_an_unwritable_cache_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pets.zip").write_bytes(GOOD)
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        ConvscopeError, match=r"cannot unpack .*pets.zip into .*: free some space, or set XDG_CACHE_HOME"
    ):
        load_data(tmp_path / "pets.zip")


def test_load_data_trashnet_archive_has_its_classes(data_folder: Path) -> None:
    dataset = load_data(data_folder / "trashnet" / "trashnet.tar", LoadOptions(image_size=8))
    assert dataset.classes == ("cardboard", "glass", "metal", "paper", "plastic", "trash")
    assert len(dataset.files) == 2527
    table = load_data(
        data_folder / "trashnet" / "trashnet.tar" / "trashnet" / "trashnet.csv", LoadOptions(image_size=8)
    )
    assert table.validation is not None
    assert len(table.files) == 2527
    assert np.bincount(table.test.labels).min() > 0
