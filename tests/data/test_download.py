"""Downloads from local HTTP servers that fail in every way a mirror can."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from cases.bad_inputs import idx
from convscope._reporting import Reporter
from convscope.data import download
from convscope.data.archives import File, Package
from convscope.data.download import fetch
from convscope.data.formats.cifar import decode_cifar10, decode_cifar10_images
from convscope.data.formats.idx import decode_idx_images, decode_idx_pairs
from convscope.data.load import load_data
from convscope.data.registry import SETS, NamedSet
from convscope.errors import DataError
from helpers.reporting import RecordingReporter

NOISE = np.random.default_rng(0).integers(
    0, 256, (200, 28, 28), np.uint8
)  # does not compress, so half of the bytes is half of the images
CONTENTS = {
    "train-images-idx3-ubyte": idx(NOISE),
    "train-labels-idx1-ubyte": idx(np.arange(200) % 2),
    "t10k-images-idx3-ubyte": idx(NOISE[:20]),
    "t10k-labels-idx1-ubyte": idx(np.arange(20) % 2),
}
FIRST = "train-images-idx3-ubyte"
PACKED = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in CONTENTS.items()}
SIZE = len(PACKED[f"{FIRST}.gz"])


def file(name: str, content: bytes) -> File:
    return File(name, len(content), hashlib.sha256(content).hexdigest())


def tiny(*mirrors: str) -> NamedSet:
    packages = tuple(Package(f"{name}.gz", (file(name, content),)) for name, content in CONTENTS.items())
    return NamedSet(
        "tiny", ("even", "odd"), ("tiny",), mirrors, packages, False, decode_idx_pairs, FIRST, decode_idx_images
    )


class Mirror(ThreadingHTTPServer):
    """Serves `files`; each request takes the next of `faults` and is kept in `log` with its Range."""

    def __init__(self, files: dict[str, bytes], faults: tuple[str, ...] = (), resumes: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.resumes = files, list(faults), resumes
        self.log: list[tuple[str, str | None]] = []
        self.go_on, self.closing = threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/data/"

    def handle_error(self, *_: object) -> None:
        """Ignore clients that hang up; some tests do."""


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name, wanted = self.path.removeprefix("/data/"), self.headers["Range"]
        fault = self.server.faults.pop(0) if self.server.faults else ""
        self.server.log.append((name, wanted))
        content = self.server.files.get(name)
        if fault == "hang up":
            return
        if content is None or fault.isdigit():
            self.send_error(int(fault or 404))
            return
        if fault == "wrong":
            content = b"\x1f\x8b" + bytes(len(content) - 2)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.resumes else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if fault != "no length":
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        half = start + (len(content) - start) // 2
        self.wfile.write(content[start:half])
        if fault == "hold":
            self.server.go_on.wait(30)
        if fault not in ("cut", "stall"):
            self.wfile.write(content[half:])
        if fault in ("stall", "linger"):
            self.server.closing.wait(30)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(download, "CHUNK_BYTES", 4096)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("CONVSCOPE_DATA", raising=False)


@pytest.fixture
def serve() -> Iterator[Callable[..., Mirror]]:
    mirrors: list[Mirror] = []

    def start(files: dict[str, bytes] = PACKED, *faults: str, resumes: bool = True) -> Mirror:
        mirrors.append(Mirror(files, faults, resumes))
        threading.Thread(target=mirrors[-1].serve_forever, kwargs={"poll_interval": 0.01}).start()
        return mirrors[-1]

    yield start
    for mirror in mirrors:
        mirror.go_on.set()
        mirror.closing.set()
        mirror.shutdown()
        mirror.server_close()


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_fetch_downloads_once_then_reads_the_cache(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    mirror, reporter = serve(), RecordingReporter()
    wanted = tiny(mirror.url)
    assert fetch(wanted, tmp_path / "a" / "b", reporter) == CONTENTS
    assert left_in(tmp_path / "a" / "b") == sorted(CONTENTS)
    assert mirror.log == [(name, None) for name in PACKED]
    assert [step for step in reporter.tasks if step[1] == step[2]] == [
        (name, len(packed), len(packed)) for name, packed in PACKED.items()
    ]
    sizes = [done for name, done, _ in reporter.tasks if name == f"{FIRST}.gz"]
    assert sizes == sorted(set(sizes)) and len(sizes) > 10
    assert fetch(wanted, tmp_path / "a" / "b") == CONTENTS
    assert len(mirror.log) == 4


def test_fetch_complete_cache_is_only_read(tmp_path: Path) -> None:
    for name, content in CONTENTS.items():
        (tmp_path / name).write_bytes(content)
    assert fetch(tiny(), tmp_path) == CONTENTS
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(CONTENTS)  # not even a lock


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("404", "HTTP 404"),
        ("503", "HTTP 503"),
        ("416", "HTTP 416"),
        ("wrong", "not the official content, by its SHA-256"),
        ("hang up", "Remote end closed connection without response"),
        ("stall", "no answer within 0.3 s"),
    ],
)
def test_fetch_failing_mirror_is_replaced_by_the_next(
    serve: Callable[..., Mirror], tmp_path: Path, fault: str, reason: str
) -> None:
    faulty, working = serve(PACKED, *[fault] * 9), serve()
    assert fetch(tiny(faulty.url, working.url), tmp_path / "two") == CONTENTS
    assert left_in(tmp_path / "two") == sorted(CONTENTS)
    assert {name for name, _ in faulty.log} == {f"{FIRST}.gz"}
    faulty.faults = [fault] * 9
    with pytest.raises(DataError) as error:
        fetch(tiny(faulty.url), tmp_path / "one")
    assert str(error.value) == f"no mirror delivered it: {faulty.url}{FIRST}.gz ({reason})"


def test_fetch_unknown_host_and_refused_connection_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as bound:  # bound but not listening, so it refuses connections
        bound.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        monkeypatch.setitem(SETS, "mnist", dataclasses.replace(SETS["mnist"], mirrors=("http://no.invalid/", closed)))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        with pytest.raises(DataError) as error:
            load_data("mnist")
    assert (
        f"nor in the cache {tmp_path}/convscope/mnist; no mirror delivered it: http://no.invalid/{FIRST}.gz ("
        in str(error.value)
    )
    assert f"{closed}{FIRST}.gz (Connection refused); put {FIRST}.gz, " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_fetch_cut_connection_is_resumed(serve: Callable[..., Mirror], tmp_path: Path, fault: str) -> None:
    mirror = serve(PACKED, fault, fault)
    assert fetch(tiny(mirror.url), tmp_path) == CONTENTS
    half, three_quarters = SIZE // 2, SIZE // 2 + (SIZE - SIZE // 2) // 2
    starts = [wanted for name, wanted in mirror.log if name == f"{FIRST}.gz"]
    assert starts == [None, f"bytes={half}-", f"bytes={three_quarters}-"]


def test_fetch_mirror_that_always_cuts_is_given_up_and_the_next_resumes(
    serve: Callable[..., Mirror], tmp_path: Path
) -> None:
    cutting, working = serve(PACKED, *["cut"] * 99), serve()
    assert fetch(tiny(cutting.url, working.url), tmp_path) == CONTENTS
    assert len(cutting.log) == download.MAX_ATTEMPTS
    assert str(working.log[0][1]) > f"bytes={SIZE * 9 // 10}-"


class Interrupting(Reporter):
    """Ctrl-C after a third of a file."""

    def progress(self, task: str, done: int, total: int | None) -> None:  # noqa: ARG002
        if total and done > total // 3:
            raise KeyboardInterrupt


def test_fetch_interrupted_download_is_resumed_next_time(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    mirror = serve()
    with pytest.raises(KeyboardInterrupt):
        fetch(tiny(mirror.url), tmp_path, Interrupting())
    assert left_in(tmp_path) == [f"{FIRST}.gz.part"]
    done = (tmp_path / f"{FIRST}.gz.part").stat().st_size
    assert SIZE // 3 < done < SIZE
    reporter = RecordingReporter()
    assert fetch(tiny(mirror.url), tmp_path, reporter) == CONTENTS
    assert mirror.log[1] == (f"{FIRST}.gz", f"bytes={done}-")
    assert reporter.tasks[0][1] > done and reporter.tasks[0][2] == SIZE
    assert left_in(tmp_path) == sorted(CONTENTS)


def test_fetch_does_not_wait_for_a_server_that_keeps_the_connection(
    serve: Callable[..., Mirror], tmp_path: Path
) -> None:
    mirror = serve(PACKED, "linger", "linger")
    assert fetch(tiny(mirror.url), tmp_path) == CONTENTS
    assert mirror.log == [(name, None) for name in PACKED]


def test_fetch_server_without_ranges_sends_the_whole_file_again(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    mirror = serve(PACKED, "cut", resumes=False)
    assert fetch(tiny(mirror.url), tmp_path) == CONTENTS
    assert [wanted for _, wanted in mirror.log[:2]] == [None, f"bytes={SIZE // 2}-"]


def test_fetch_part_from_a_mirror_that_compresses_differently_is_discarded(
    serve: Callable[..., Mirror], tmp_path: Path
) -> None:
    (tmp_path / f"{FIRST}.gz.part").write_bytes(gzip.compress(CONTENTS[FIRST], 0)[: SIZE // 2])
    mirror = serve()
    assert fetch(tiny(mirror.url), tmp_path) == CONTENTS
    assert [wanted for _, wanted in mirror.log[:2]] == [f"bytes={SIZE // 2}-", None]


def test_fetch_complete_part_is_only_verified(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    (tmp_path / f"{FIRST}.gz.part").write_bytes(PACKED[f"{FIRST}.gz"])
    mirror = serve()
    assert fetch(tiny(mirror.url), tmp_path) == CONTENTS
    assert [wanted for _, wanted in mirror.log[:2]] == [f"bytes={SIZE}-", None]
    assert mirror.log[1][0] != f"{FIRST}.gz"


@pytest.mark.parametrize(
    "pack", [lambda content: gzip.compress(content, 0), lambda content: content], ids=["gz", "plain"]
)
def test_fetch_verifies_the_uncompressed_content(
    serve: Callable[..., Mirror], tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    mirror = serve({f"{name}.gz": pack(content) for name, content in CONTENTS.items()}, "no length")
    assert fetch(tiny(mirror.url), tmp_path) == CONTENTS


def test_fetch_damaged_or_deleted_cache_file_is_downloaded_again(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    mirror = serve()
    fetch(tiny(mirror.url), tmp_path)
    (tmp_path / FIRST).write_bytes(CONTENTS[FIRST][:-1] + b"!")
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert fetch(tiny(mirror.url), tmp_path) == CONTENTS
    assert [name for name, _ in mirror.log[4:]] == [f"{FIRST}.gz", "t10k-labels-idx1-ubyte.gz"]
    assert (tmp_path / FIRST).read_bytes() == CONTENTS[FIRST]


def test_fetch_cache_that_cannot_be_created_raises_one_line(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        DataError, match=r"^cannot write to the cache .*file/tiny \(Not a directory\): free some space or"
    ):
        fetch(tiny(serve().url), tmp_path / "file" / "tiny")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes")
@pytest.mark.parametrize("limit", [SIZE // 2, SIZE + 1000], ids=["the part", "the file"])
def test_fetch_full_disk_raises_one_line_and_keeps_the_part(
    serve: Callable[..., Mirror], tmp_path: Path, limit: int
) -> None:
    """A limit on file sizes simulates the disk: the first file does not fit, packed or unpacked."""
    import resource

    zeros = CONTENTS | {FIRST: bytes(2 * SIZE)}
    content = zeros[FIRST] if limit > SIZE else CONTENTS[FIRST]
    package = Package(f"{FIRST}.gz", (file(FIRST, content),))
    mirror = serve({f"{FIRST}.gz": gzip.compress(content)})
    wanted = dataclasses.replace(tiny(mirror.url), packages=(package,))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DataError, match=r"^cannot write .*File too large") as error:
            fetch(wanted, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert left_in(tmp_path) == [f"{FIRST}.gz.part"]
    assert fetch(wanted, tmp_path) == {FIRST: content}
    assert str(mirror.log[-1][1]).startswith("bytes=")


CHILD = """
import sys
from pathlib import Path
sys.path[:0] = {folders!r}
from test_download import CONTENTS, tiny
from convscope.data.download import fetch
print("ready", flush=True)
sys.stdin.readline()
assert fetch(tiny({url!r}), Path({folder!r})) == CONTENTS
"""


def start_downloads(url: str, folder: Path, count: int) -> list[subprocess.Popen[bytes]]:
    """Processes that download the tiny set, all at the same time."""
    code = CHILD.format(
        folders=[str(Path(__file__).parent), str(Path(__file__).parents[1])], url=url, folder=str(folder)
    )
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(count)]
    for process in processes:
        assert process.stdout
        with process.stdout as stdout:
            assert stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin
        with process.stdin as stdin:
            stdin.write(b"go\n")
    return processes


@pytest.mark.slow
def test_fetch_in_several_processes_downloads_once(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    mirror = serve(PACKED, "hold")
    processes = start_downloads(mirror.url, tmp_path, 3)
    time.sleep(0.5)  # without a lock, the others would request the file meanwhile
    assert mirror.log == [(f"{FIRST}.gz", None)]
    mirror.go_on.set()
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert mirror.log == [(name, None) for name in PACKED]
    assert left_in(tmp_path) == sorted(CONTENTS)


@pytest.mark.slow
def test_fetch_after_a_kill_resumes(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    mirror = serve(PACKED, "stall")
    (process,) = start_downloads(mirror.url, tmp_path, 1)
    part = tmp_path / f"{FIRST}.gz.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait(10)
    done = part.stat().st_size
    assert 0 < done <= SIZE // 2
    assert fetch(tiny(mirror.url), tmp_path) == CONTENTS
    assert mirror.log[1] == (f"{FIRST}.gz", f"bytes={done}-")


# Archives


BATCHES = {
    f"batches/{name}.bin": np.random.default_rng(i).integers(0, 2, (4, 3073), np.uint8).tobytes()
    for i, name in enumerate(("one", "two", "test"))
}


def archive(*members: tuple[tarfile.TarInfo | str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def batches(*mirrors: str) -> NamedSet:
    files = tuple(file(name, content) for name, content in BATCHES.items())
    packages = (Package("b.tar.gz", files),)
    last = files[-1].name
    return NamedSet("batches", ("a", "b"), ("",), mirrors, packages, True, decode_cifar10, last, decode_cifar10_images)


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def test_fetch_archive_is_unpacked_into_the_cache_only(serve: Callable[..., Mirror], tmp_path: Path) -> None:
    evil = [(name, b"evil") for name in ("../evil", f"{tmp_path}/evil", "batches/../../evil", "batches/evil")]
    mirror = serve({"b.tar.gz": archive(*evil, (link("batches/x", "../.."), b""), *reversed(BATCHES.items()))})
    assert fetch(batches(mirror.url), tmp_path / "cache") == BATCHES
    assert left_in(tmp_path) == sorted(f"cache/{name}" for name in BATCHES)
    assert fetch(batches(mirror.url), tmp_path / "cache") == BATCHES
    assert len(mirror.log) == 1


WHOLE = archive(*BATCHES.items())


@pytest.mark.parametrize(
    "content",
    [
        WHOLE[:-200],
        WHOLE[: len(WHOLE) // 2] + b"\0\0\0\0" + WHOLE[len(WHOLE) // 2 + 4 :],
        b"<html>not here any more</html>",
        archive(*list(BATCHES.items())[:2]),
        archive(*[(name, content[:-1]) for name, content in BATCHES.items()]),
        archive(*list(BATCHES.items())[:2], (link("batches/test.bin", "/etc/hostname"), b"")),
        archive(*list(BATCHES.items())[:2], (link("batches/test.bin", "batches/one.bin"), b"")),
    ],
    ids=["truncated", "damaged", "HTML page", "missing file", "other files", "link out", "link in"],
)
def test_fetch_unofficial_archive_raises(serve: Callable[..., Mirror], tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"b.tar.gz \(not the official content, by its SHA-256\)$"):
        fetch(batches(serve({"b.tar.gz": content}).url), tmp_path)
    assert left_in(tmp_path) == []
    assert fetch(batches(serve({"b.tar.gz": content}).url, serve({"b.tar.gz": WHOLE}).url), tmp_path) == BATCHES


# The table


@pytest.mark.parametrize("wanted", SETS.values(), ids=list(SETS))
def test_named_sets_have_two_or_more_mirrors(wanted: NamedSet) -> None:
    assert len(set(wanted.mirrors)) == len(wanted.mirrors) >= 2
    assert all(mirror.startswith(("http://", "https://")) and mirror.endswith("/") for mirror in wanted.mirrors)
    files = [one for package in wanted.packages for one in package.files]
    assert len({one.sha256 for one in files}) == len(files)
    assert len(wanted.classes) == len(set(wanted.classes)) == 10


def test_load_data_mnist_recompressed_is_downloaded_and_cached(
    data_folder: Path, serve: Callable[..., Mirror], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        path.name: gzip.compress(gzip.decompress(path.read_bytes()), 1) for path in (data_folder / "mnist").glob("*.gz")
    }
    mirror = serve(files)
    monkeypatch.setattr(download, "CHUNK_BYTES", 1 << 18)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(SETS, "mnist", dataclasses.replace(SETS["mnist"], mirrors=(mirror.url,)))
    downloaded = load_data("mnist")
    assert downloaded.source == str(tmp_path / "convscope" / "mnist")
    assert downloaded.fingerprint == load_data("mnist").fingerprint
    assert len(mirror.log) == 4
    monkeypatch.setenv("CONVSCOPE_DATA", str(data_folder))
    assert load_data("mnist").fingerprint == downloaded.fingerprint
    assert load_data("mnist").source == str(data_folder / "mnist")
