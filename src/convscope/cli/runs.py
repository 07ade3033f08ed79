"""Run folders that are named on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convscope._files import kind_of
from convscope.cli.console import print_message
from convscope.errors import ModelFileError

if TYPE_CHECKING:
    from convscope.runs.folder import Run


def opened_run(path: Path) -> Run:
    """The run in a folder; a message says if its training was interrupted."""
    from convscope.runs.folder import open_run

    run = open_run(path)
    if run.warning:
        print_message(run.warning)
    return run


def model_file(path: Path) -> Path:
    """The model file in a run folder, or the path itself if it is not a folder."""
    return opened_run(path).model_file if kind_of(path, ModelFileError) == "folder" else path
