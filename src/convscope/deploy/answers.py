"""A file of answers that survives a kill: every image is in it exactly once.

While images are classified, the answers are lines of JSON in FILE.part. Its first line, the header, says with which
model and options. A call with the same ones goes on after the last complete line. In the end FILE is written from them,
and FILE.part is removed: an incomplete FILE never exists.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from pydantic import ValidationError

from convscope._files import check_replaceable, lock_file, open_regular, remove, replace_file, write_atomically
from convscope._records import Record
from convscope.deploy.prediction import Answer, Prediction, to_answer
from convscope.deploy.sources.items import plain_name
from convscope.deploy.tables import TableWriter, writer_for
from convscope.errors import ConvscopeError, DataError, ImageError, UsageError
from convscope.images.files.source import STANDARD_INPUT

PART_SUFFIX = ".part"
FLUSH_S = 0.1  # seconds of work that a kill may cost
MAX_HEADER = 2**16  # bytes


class PartHeader(Record):
    """What the answers in FILE.part depend on; its first line.

    Attributes:
        format: Version of the file.
        model: SHA-256 of the model file.
        top_k: Number of classes per image.
        max_megapixels: Larger images are errors.
        folder: The working folder, to which the paths of the images are relative.
    """

    format: Literal["convscope predict 1"] = "convscope predict 1"
    model: str
    top_k: int
    max_megapixels: float
    folder: str


class AnswerSummary(Record):
    """What `convscope predict --out` has written, as it prints it with --json.

    Attributes:
        path: The file of answers.
        images: Number of images in it, errors included.
        statuses: Number of images by status: "answered", "unsure", "unlike" or "error".
        resumed: Number of these that an earlier call has classified.
        left_out: Number of answers of an earlier call that are not in the file, as nothing names their images anymore.
        passed_over: Number of files in folders and archives that are not images.
    """

    path: str
    images: int
    statuses: dict[str, int]
    resumed: int
    left_out: int
    passed_over: int


class AnswerFile:
    """A file of answers while it is written; `open_answers` returns it.

    Args:
        path: The file.
        header: What the answers depend on.
        write_table: How the file is written in the end.

    Attributes:
        path: The file.
        part: The file of the answers so far.
        done: `plain_name`s of the images that earlier calls have classified.
    """

    def __init__(self, path: Path, header: PartHeader, table: type[TableWriter]) -> None:
        self.path, self.part = path, _part_of(path)
        self.done: Set[str] = frozenset()
        self._header, self._table = header, table
        self._file: IO[bytes] | None = None
        self._flushed = 0.0

    def add(self, outcome: Prediction | ImageError) -> None:
        """Append the answer for an image; it is safe from a kill a moment later."""
        line = to_answer(outcome, self._header.top_k).model_dump_json()
        with _writing(self.part):
            self._file = self._file or self.part.open("ab")
            self._file.write(f"{line}\n".encode())
            if time.monotonic() > self._flushed + FLUSH_S:
                self._file.flush()
                self._flushed = time.monotonic()

    def finish(self, wanted: Set[str]) -> dict[str, int]:
        """Write the file, with the answers for these images only, and remove the partial one.

        Args:
            wanted: `plain_name`s.

        Returns:
            The number of images by status.
        """
        self.close()
        counts: Counter[str] = Counter()
        with open_regular(self.part) as part, replace_file(self.path) as file:
            table = self._table(file, self._header.top_k)
            part.readline()
            for _, answer in _complete_lines(part):
                if plain_name(answer.image) in wanted:
                    table.write(answer)
                    counts[answer.status] += 1
            table.close()
        remove(self.part)
        return dict(counts)

    def close(self) -> None:
        """Write what is buffered."""
        if self._file:
            with _writing(self.part):
                self._file.close()
            self._file = None

    def resume(self, restart: bool) -> None:
        """Read the answers so far, and cut off an incomplete line; without any, or to restart, write the header."""
        if restart or not os.path.lexists(self.part):
            write_atomically(self.part, f"{self._header.model_dump_json()}\n")
            return
        with _open_part(self.part) as part:
            end = len(part.readline())
            names = set()
            for size, answer in _complete_lines(part):
                end += size
                names.add(plain_name(answer.image))
        with _writing(self.part):
            os.truncate(self.part, end)
        self.done = names


@contextmanager
def open_answers(path: Path, header: PartHeader, force: bool = False, restart: bool = False) -> Iterator[AnswerFile]:
    """Start or resume a file of answers, and keep other processes from it.

    Args:
        path: The file, a .csv, .jsonl or .parquet.
        header: What the answers depend on.
        force: Overwrite the file, and start again if earlier answers were made with another model or other options.
        restart: Start again in any case.

    Raises:
        UsageError: The file exists, another process writes it, earlier answers were made with another model or other
            options, or there is no such format.
        ConvscopeError: It cannot be written.
    """
    table = writer_for(path)
    check_replaceable(path)
    with lock_file(path):
        if os.path.lexists(path) and not force:
            raise UsageError(f"{path} exists: choose another name with --out, or add --force")
        answers = AnswerFile(path, header, table)
        problem = _difference(answers.part, header)
        if problem and not force:
            raise UsageError(f"{answers.part} {problem}, or add --force to start again")
        answers.resume(restart or bool(problem) or _is_left_over(answers.part, path))
        try:
            yield answers
        finally:
            answers.close()


def is_stream(source: object) -> bool:
    """Whether an image is on standard input or in a pipe, so that its name does not tell what it is next time."""
    return isinstance(source, str | Path) and (source == STANDARD_INPUT or str(source).startswith(("/dev/", "/proc/")))


def _part_of(path: Path) -> Path:
    return path.with_name(path.name + PART_SUFFIX)


def _difference(part: Path, header: PartHeader) -> str:
    """Why answers in a partial file cannot be used; empty if they can, or if there is no such file."""
    if not os.path.lexists(part):
        return ""
    try:
        with _open_part(part) as file:
            found = PartHeader.model_validate_json(file.readline(MAX_HEADER))
    except (ValidationError, DataError):
        return "was not written by this version of convscope predict: remove it"
    return header_difference(found, header)


def header_difference(found: PartHeader, header: PartHeader) -> str:
    """Why answers with one header cannot be resumed with another; empty if they can."""
    if found.model != header.model:
        return "holds answers of another model: use that one to resume"
    for name in ("top_k", "max_megapixels"):
        if getattr(found, name) != getattr(header, name):
            option = f"--{name.replace('_', '-')}"
            return f"was started with {option} {getattr(found, name):g}, not {getattr(header, name):g}: use that"
    return "" if found.folder == header.folder else f"was started in {found.folder}: resume it there"


def _is_left_over(part: Path, path: Path) -> bool:
    """Whether a partial file is older than the complete one: the process was killed before it removed it."""
    return part.exists() and path.exists() and path.stat().st_mtime_ns >= part.stat().st_mtime_ns


def _complete_lines(part: IO[bytes]) -> Iterator[tuple[int, Answer]]:
    """The size in bytes and the content of every line up to the first that is not complete."""
    for line in part:
        try:
            answer = Answer.model_validate_json(line)
        except ValidationError:
            return
        if not line.endswith(b"\n"):
            return
        yield len(line), answer


def _open_part(part: Path) -> IO[bytes]:
    try:
        return open_regular(part)
    except OSError as error:
        raise ConvscopeError(f"{part} cannot be read: {error.strerror}") from error


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = "free some space, and run the same command again to resume"
        raise ConvscopeError(f"cannot write {part}: {error.strerror}; {advice}") from error
