"""A folder of Parquet files, on a disk that all nodes share or at an address: each holds the answers of one part.

The name of a file tells what is in it (see `plan.Part`), and it is written whole. So a part may be scored twice, by
two nodes at the same time even, and is in the folder once. `_convscope.json` says with which model and options;
`_SUCCESS` is written in the end. Readers of Parquet data sets ignore both.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from pydantic import ValidationError

from convscope._extras import require_package
from convscope._files import lock_folder, remove, write_atomically
from convscope._storage import is_address, list_folder, open_file, remove_file, write_file
from convscope.deploy.answers import AnswerSummary, PartHeader, header_difference
from convscope.deploy.prediction import Answer
from convscope.deploy.tables import ParquetWriter
from convscope.errors import UsageError

HEADER, FINISHED = "_convscope.json", "_SUCCESS"
PART_FILE = re.compile(r"part-\d{8}-[0-9a-f]{16}\.parquet")


class ScoringSummary(AnswerSummary):
    """What `convscope predict --ray` has written.

    Attributes:
        parts: Number of Parquet files.
        nodes: Number of images by the address of the node that scored them in this call.
    """

    parts: int
    nodes: dict[str, int]


class OutputFolder:
    """The folder of the answers, named by its absolute path or its address."""

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/")

    def names(self) -> set[str]:
        """The names of the files in it; none if it does not exist."""
        try:
            if is_address(self.place):
                return {entry.name for entry in list_folder(self.place)}
            return {name for name in os.listdir(self.place) if not name.startswith(".")}  # noqa: PTH208  names
        except FileNotFoundError:
            return set()
        except NotADirectoryError as error:
            raise UsageError(f"{self.place} is a file: choose another name with --out") from error

    def read(self, name: str) -> bytes:
        """The content of a file."""
        path = f"{self.place}/{name}"
        if not is_address(path):
            return Path(path).read_bytes()
        with open_file(path) as file:
            return bytes(file.read())

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file."""
        path = f"{self.place}/{name}"
        if is_address(path):
            write_file(path, content)
        else:
            write_atomically(Path(path), content)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files."""
        for name in names:
            path = f"{self.place}/{name}"
            if is_address(path):
                remove_file(path)
            else:
                remove(Path(path))

    def statuses(self, name: str) -> Counter[str]:
        """How many answers in a part have which status."""
        from pyarrow import parquet

        table = parquet.read_table(io.BytesIO(self.read(name)), columns=["status"])
        return Counter(table.column("status").to_pylist())


def encode_answers(answers: Iterable[Answer], top_k: int) -> tuple[bytes, Counter[str]]:
    """A Parquet file of answers, and how many have which status.

    Args:
        answers: In order.
        top_k: The number of classes.
    """
    file, statuses = io.BytesIO(), Counter[str]()
    writer = ParquetWriter(file, top_k)
    for answer in answers:
        writer.write(answer)
        statuses[answer.status] += 1
    writer.close()
    return file.getvalue(), statuses


@contextmanager
def open_output(out: str, header: PartHeader, force: bool) -> Iterator[tuple[OutputFolder, set[str]]]:
    """Start or resume a folder of answers; yields the files of parts that earlier calls have written.

    Args:
        out: Its path or address.
        header: What the answers depend on.
        force: Start again if it is complete, or if earlier answers were made with another model or other options.

    Raises:
        UsageError: It is complete, holds something else, or answers of another model or with other options; or another
            process on this machine writes it.
    """
    require_package("pyarrow", "writing Parquet")
    folder = OutputFolder(out if is_address(out) else os.path.abspath(out))  # noqa: PTH100  keeps links
    names = folder.names()
    with nullcontext() if is_address(out) else lock_folder(Path(folder.place)):
        parts = {name for name in names if PART_FILE.fullmatch(name)}
        problem = _problem(folder, names, header)
        if problem and (not force or HEADER not in names):
            raise UsageError(f"{out} {problem}")
        if problem:
            folder.remove([FINISHED, *parts, HEADER])
            parts = set()
        folder.write(HEADER, f"{header.model_dump_json()}\n".encode())
        yield folder, parts


def _problem(folder: OutputFolder, names: set[str], header: PartHeader) -> str:
    """Why a folder cannot be resumed or started; empty if it can."""
    if HEADER not in names:
        return "holds other files: choose another name with --out" if names else ""
    if FINISHED in names:
        return "is complete: choose another name with --out, or add --force"
    try:
        found = PartHeader.model_validate_json(folder.read(HEADER))
    except ValidationError:
        return "was not written by this version of convscope predict: remove it"
    problem = header_difference(found, header)
    return f"{problem}, or add --force to start again" if problem else ""
