"""Serve the lab's page with a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from convscope._files import kind_of
from convscope._records import Record
from convscope.errors import ModelFileError
from convscope.lab.server import serve_page


class LabInfo(Record):
    """A page that can be opened, as `convscope lab --json` prints it.

    Attributes:
        url: Where.
        model: The model file; null if the user opens one in the page.
    """

    url: str
    model: Path | None


def open_lab(source: str | Path | None, port: int, started: Callable[[LabInfo], None]) -> None:
    """Serve the lab on this machine until Ctrl-C.

    Args:
        source: A run folder, a model file of convscope, or an ONNX file of another program, which only the page reads;
            None if the user opens one in the page.
        port: 0 takes a free one.
        started: Called as soon as the page can be opened.

    Raises:
        ModelFileError: The file or folder does not exist, or the run is damaged.
        UsageError: The port is in use.
    """
    path = _model_file(Path(source)) if source is not None else None
    serve_page(port, path, path.read_bytes() if path else None, lambda url: started(LabInfo(url=url, model=path)))


def _model_file(path: Path) -> Path:
    kind = kind_of(path, ModelFileError)
    if kind == "folder":
        from convscope.runs.folder import open_run  # here, because a model file does not need it

        return open_run(path).model_file
    if kind != "file":
        problem = "does not exist" if kind == "missing" else "is not a file"
        raise ModelFileError(f"expected a run folder or a model.onnx, but {path} {problem}")
    return path
