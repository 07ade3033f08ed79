"""Every bad input of the tables: one clear line on stderr, the right exit code, no traceback, nothing written."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from cases.bad_commands import COMMAND_ROWS, LINE_ROWS
from cases.bad_folders import FOLDER_ROWS
from cases.bad_images import IMAGE_ROWS
from cases.bad_inputs import DATA_ROWS, BadInput
from helpers.command import Answer, Command

ONE_LINE = [*DATA_ROWS, *FOLDER_ROWS, *IMAGE_ROWS, *COMMAND_ROWS]


def refused(row: BadInput, command: Command, folder: Path) -> Answer:
    """The answer, after checking all but the lines on stderr."""
    words = row.prepare(folder)
    before = contents(folder)
    answer = command(*words)
    assert answer.out == ""
    assert answer.code == row.exit_code
    assert contents(folder) == before
    return answer


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and no data elsewhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("CONVSCOPE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_row_has_its_own_name() -> None:
    names = Counter(row.name for row in (*ONE_LINE, *LINE_ROWS))
    assert {name for name, times in names.items() if times > 1} == set()


@pytest.mark.parametrize("row", ONE_LINE, ids=lambda row: row.name)
def test_a_bad_input_is_answered_in_one_line(row: BadInput, command: Command, folder: Path) -> None:
    (line,) = refused(row, command, folder).err.splitlines()
    assert line.startswith("convscope: ")
    assert re.search(row.message, line.removeprefix("convscope: "))


@pytest.mark.parametrize("row", LINE_ROWS, ids=lambda row: row.name)
def test_a_wrong_line_is_shown_with_a_pointer_below_it(row: BadInput, command: Command, folder: Path) -> None:
    line, text, pointer = refused(row, command, folder).err.splitlines()
    assert line.startswith("convscope: ")
    assert re.search(row.message, line.removeprefix("convscope: "))
    assert re.fullmatch(r" *\^+", pointer)
    assert len(pointer) <= max(1, len(text) + 1)
