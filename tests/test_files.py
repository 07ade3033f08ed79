"""Files are written whole or not at all, whatever fails and wherever."""

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

from convscope._files import alone, remove, remove_temporary, sha256, write_atomically
from convscope.errors import ConvscopeError, UsageError


def full(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


class FullFile(io.BytesIO):
    """A file that takes nothing."""

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
def test_where_a_step_fails_the_old_file_stays_and_nothing_else(
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


def test_an_interruption_leaves_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.txt", "new content")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file/a.txt", "file/deep/a.txt", "folder", "a" * 300])
def test_a_place_that_cannot_be_written_is_named_in_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        ConvscopeError, match=f"^cannot write {tmp_path / place}: [A-Z][a-z ]+; free some space or"
    ) as e:
        write_atomically(tmp_path / place, "content")
    assert "\n" not in str(e.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = tmp_path / "a.txt", []
    path.write_text("old")
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        calls.append(("fsync", os.fstat(descriptor).st_ino, path.read_text()))
        fsync(descriptor)

    def note_replace(source: Path, target: Path) -> Path:
        calls.append(("replace", source.stat().st_ino, source.read_text()))
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_atomically(path, "new")
    file, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert calls == [("fsync", file, "old"), ("replace", file, "new"), ("fsync", folder, "new")]


def test_where_even_the_temporary_file_cannot_be_removed_the_first_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it goes when the next process cleans up."""
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


def test_removing_a_file_is_told_where_it_fails(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("content")
    remove(tmp_path / "a.txt")
    remove(tmp_path / "a.txt")
    (tmp_path / "full" / "a").mkdir(parents=True)
    with pytest.raises(ConvscopeError, match=f"^cannot remove {tmp_path}/full: [A-Z][a-z ]+; see who may write there$"):
        remove(tmp_path / "full")


def test_who_reads_the_old_file_goes_on_reading_it(tmp_path: Path) -> None:
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
def test_permissions_follow_the_umask(tmp_path: Path, mask: int, expected: int) -> None:
    with umask(mask):
        write_atomically(tmp_path / "a.txt", "content")
        assert os.umask(mask) == mask
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == expected


def test_text_is_written_as_utf_8_and_line_ends_stay(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "folder" / "a.txt", "Größe 28×28\r\n")
    assert (tmp_path / "new" / "folder" / "a.txt").read_bytes() == "Größe 28×28\r\n".encode()


def test_the_checksum_is_the_standards(tmp_path: Path) -> None:
    """FIPS 180-2, appendix B.1."""
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_folder_is_one_process_s_at_a_time_and_free_when_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    code = (
        "import sys, pathlib, convscope._files as f\n"
        "with f.alone(pathlib.Path(sys.argv[1])): print(1); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-uc", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "1\n"
        message = f"^{folder} is being trained by another process: wait for its end, or stop it$"
        with pytest.raises(UsageError, match=message), alone(folder):
            pass
        with alone(tmp_path / "new"):
            pass
        other.kill()
    for _ in range(2):
        with alone(folder):
            assert not list(folder.iterdir())


def test_where_a_folder_cannot_be_held_its_first_file_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in ("mkdir", "open", "flock"):
        with monkeypatch.context() as patched:
            patched.setattr(*{"mkdir": (Path, "mkdir"), "open": (os, "open"), "flock": (fcntl, "flock")}[step], full)
            with alone(tmp_path / step):
                pass
    with alone(tmp_path / "flock"):
        pass
