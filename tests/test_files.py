"""Atomic writes under every failure, removal, checksums and locks."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from convscope._files import (
    LOCK_FILE,
    lock_folder,
    open_regular,
    remove,
    remove_temporary,
    sha256,
    write_atomically,
    write_results,
)
from convscope.errors import ConvscopeError, DataError, UsageError
from helpers.files import make_special


def full(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


class FullFile(io.BytesIO):
    """A file that refuses every write."""

    write = full


def open_full(descriptor: int, _: str) -> FullFile:
    os.close(descriptor)
    return FullFile()


FAILURES: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "make the folder": (Path, "mkdir", full),
    "make the file": (tempfile, "mkstemp", full),
    "write": (os, "fdopen", open_full),
    "fsync": (os, "fsync", full),
    "permissions": (Path, "chmod", full),
    "rename": (Path, "replace", full),
}


@pytest.mark.parametrize("step", FAILURES)
@pytest.mark.parametrize("old", ["old content", None])
def test_write_atomically_failing_step_leaves_the_old_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, old: str | None
) -> None:
    path = tmp_path / "a.txt"
    if old is not None:
        path.write_text(old)
    before = list(tmp_path.iterdir())
    message = f"^cannot write {path}: No space left on device; free some space or choose another folder$"
    with monkeypatch.context() as patched:
        patched.setattr(*FAILURES[step])
        with pytest.raises(ConvscopeError, match=message) as error:
            write_atomically(path, "new content")
    assert error.value.exit_code == 1
    assert list(tmp_path.iterdir()) == before
    assert old is None or path.read_text() == old


def test_write_atomically_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.txt", "new content")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file/a.txt", "file/deep/a.txt", "a" * 300])
def test_write_atomically_unwritable_path_is_named_in_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("no folder")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        ConvscopeError, match=f"^cannot write {tmp_path / place}: [A-Z][a-z ]+; free some space or"
    ) as e:
        write_atomically(tmp_path / place, "content")
    assert "\n" not in str(e.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_write_atomically_syncs_the_content_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = tmp_path / "a.txt", []
    path.write_text("old")
    fsync, replace = os.fsync, Path.replace

    def record_fsync(descriptor: int) -> None:
        calls.append(("fsync", os.fstat(descriptor).st_ino, path.read_text()))
        fsync(descriptor)

    def record_replace(source: Path, target: Path) -> Path:
        calls.append(("replace", source.stat().st_ino, source.read_text()))
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    write_atomically(path, "new")
    file, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert calls == [("fsync", file, "old"), ("replace", file, "new"), ("fsync", folder, "new")]


def test_write_atomically_failing_cleanup_reports_the_first_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """remove_temporary removes the file later."""
    (tmp_path / ".a.txt").write_text("mine")
    (tmp_path / "b.tmp").write_text("mine")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        patched.setattr(Path, "unlink", full)
        with pytest.raises(ConvscopeError, match=r"^cannot write .*a.txt: No space left on device; "):
            write_atomically(tmp_path / "deep" / "a.txt", "content")
    assert len(list((tmp_path / "deep").iterdir())) == 1
    remove_temporary(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".a.txt", "b.tmp", "deep"]


def test_remove_failure_raises_with_path_and_reason(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("content")
    remove(tmp_path / "a.txt")
    remove(tmp_path / "a.txt")
    (tmp_path / "full" / "a").mkdir(parents=True)
    with pytest.raises(
        ConvscopeError, match=f"^cannot remove {tmp_path}/full: [A-Z][a-z ]+; check the permissions of its folder$"
    ):
        remove(tmp_path / "full")


def test_write_atomically_open_reader_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"the new content")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"the new content"


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0, 0o666)])
def test_write_atomically_permissions_follow_the_umask(tmp_path: Path, mask: int, expected: int) -> None:
    with umask(mask):
        write_atomically(tmp_path / "a.txt", "content")
        assert os.umask(mask) == mask
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == expected


def test_write_atomically_text_is_utf_8_with_its_line_ends(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "folder" / "a.txt", "Größe 28×28\r\n")
    assert (tmp_path / "new" / "folder" / "a.txt").read_bytes() == "Größe 28×28\r\n".encode()


def test_sha256_of_abc_equals_the_standard(tmp_path: Path) -> None:
    """FIPS 180-2, appendix B.1."""
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


HOLD = (
    "import sys, pathlib, convscope._files as f\n"
    "with f.lock_folder(pathlib.Path(sys.argv[1])): print(1); sys.stdin.read()"
)
COUNT = """
import sys, pathlib, convscope._files as f
folder = pathlib.Path(sys.argv[1])
for _ in range(20):
    with f.lock_folder(folder, wait=True):
        counter = folder / "counter"
        counter.write_text(str(int(counter.read_text()) + 1))
"""


def test_lock_folder_held_by_another_process_raises_until_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with subprocess.Popen(
        [sys.executable, "-uc", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "1\n"
        message = f"^{folder} is in use by another process: wait until it ends, or stop it$"
        with pytest.raises(UsageError, match=message), lock_folder(folder):
            pass
        with lock_folder(tmp_path / "new"):
            pass
        other.kill()
    assert [path.name for path in folder.iterdir()] == [LOCK_FILE]
    for _ in range(2):
        with lock_folder(folder):
            assert [path.name for path in folder.iterdir()] == [LOCK_FILE]
        assert not list(folder.iterdir())


def test_lock_folder_twice_in_one_process_raises(tmp_path: Path) -> None:
    with lock_folder(tmp_path), pytest.raises(UsageError, match="is in use by another process"), lock_folder(tmp_path):
        pass
    with pytest.raises(ZeroDivisionError), lock_folder(tmp_path):
        _ = 1 / 0
    with lock_folder(tmp_path):
        pass


def test_lock_folder_with_wait_lets_one_process_in_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", COUNT, tmp_path]) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert (tmp_path / "counter").read_text() == "80"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"]


@pytest.mark.parametrize(("owner", "function"), [(Path, "mkdir"), (os, "open"), (fcntl, "flock")])
def test_lock_folder_that_cannot_be_locked_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, function: str
) -> None:
    """The first file written to the folder reports the reason."""
    with monkeypatch.context() as patched:
        patched.setattr(owner, function, full)
        with lock_folder(tmp_path / "run"):
            pass
    with lock_folder(tmp_path / "run"):
        pass


@pytest.mark.parametrize("kind", ["a named pipe", "a device", "a socket", "a folder"])
def test_open_regular_other_kinds_raise(kind: str, tmp_path: Path) -> None:
    path = make_special(kind, tmp_path / "x")
    with pytest.raises(DataError, match=f"^{kind}, expected a regular file: "):
        open_regular(path)


def test_open_regular_reads_a_file_and_a_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"pixels")
    (tmp_path / "b").symlink_to("a")
    for name in "ab":
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"pixels"


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="needs Linux")
def test_open_regular_file_without_a_size_is_empty() -> None:
    with open_regular(Path("/proc/kmsg")) as file:  # reading it waits for the kernel's next message
        assert file.read() == b""


def test_open_regular_missing_file_or_loop_of_links_raises(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name, number in (("missing", errno.ENOENT), ("loop", errno.ELOOP)):
        with pytest.raises(OSError, match=rf"^\[Errno {number}\]"):
            open_regular(tmp_path / name)


@pytest.mark.parametrize("kind", ["a folder", "a named pipe", "a socket", "a device"])
def test_write_atomically_special_path_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)  # for the name of a socket
    path = make_special(kind, tmp_path / "a.png")
    before = path.lstat()
    message = f"^cannot write {path}: it is {kind}; choose another name$"
    with pytest.raises(ConvscopeError, match=message):
        write_atomically(path, b"new")
    with pytest.raises(ConvscopeError, match=message):
        write_results({tmp_path / "b.png": b"new", path: b"new"}, force=True)
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    assert list(tmp_path.iterdir()) == [path]


def test_write_results_one_other_content_keeps_every_file(tmp_path: Path) -> None:
    first, second = tmp_path / "1.png", tmp_path / "2.png"
    second.write_bytes(b"my own")
    message = f"^{second} exists and has another content: choose another place with --out, or add --force$"
    with pytest.raises(UsageError, match=message):
        write_results({first: b"one", second: b"two"}, force=False)
    assert (first.exists(), second.read_bytes()) == (False, b"my own")
    write_results({first: b"one", second: b"two"}, force=True)
    write_results({first: b"one", second: b"two"}, force=False)  # the same again
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")


def test_write_results_link_to_nothing_is_kept(tmp_path: Path) -> None:
    link = tmp_path / "1.png"
    link.symlink_to("nowhere")
    with pytest.raises(UsageError, match="exists and has another content"):
        write_results({link: b"one"}, force=False)
    assert link.is_symlink()
