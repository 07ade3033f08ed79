"""Serve the lab's page with a model, or at its lessons with a small network that is trained at their first use."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from convscope._files import kind_of, lock_folder
from convscope._records import Record
from convscope._reporting import Reporter
from convscope.data.options import cache_folder
from convscope.errors import ModelFileError
from convscope.lab.model import read_page_model
from convscope.lab.server import More, serve_page

MODEL, RECIPE = "article", "fast"  # the recipe `article` reads drawings worse: 74 instead of 93 % of 250
NEEDED = ("torch", "sklearn", "onnx")  # to train it


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
        source: A run folder; a model file of convscope; a JSON file that describes a model of another program; or an
            ONNX file, which only the page reads. None if the user opens one in the page.
        port: 0 takes a free one.
        started: Called as soon as the page can be opened.

    Raises:
        ModelFileError: The file or folder does not exist, or the run is damaged.
        UsageError: The port is in use.
    """
    path, samples = _open(Path(source)) if source is not None else (None, None)
    content = read_page_model(path) if path else None
    serve_page(port, path, content, lambda url: started(LabInfo(url=url, model=path)), samples)


def _open(path: Path) -> tuple[Path, More | None]:
    """The model file of a run or a path, and what the server answers about a run's data set."""
    kind = kind_of(path, ModelFileError)
    if kind == "folder":
        from convscope.lab.samples import RunImages  # here, because a model file does not need them
        from convscope.runs.folder import open_run

        run = open_run(path)
        return run.model_file, RunImages(run).answer
    if kind != "file":
        problem = "does not exist" if kind == "missing" else "is not a file"
        raise ModelFileError(f"expected a run folder or a model.onnx, but {path} {problem}")
    return path, None


def open_lessons(port: int, started: Callable[[LabInfo], None], reporter: Reporter | None = None) -> None:
    """Serve the lab's page at its lessons on this machine until Ctrl-C.

    Without the training extra, and without a network from an earlier use, the lessons come without one.

    Args:
        port: 0 takes a free one.
        started: Called as soon as the page can be opened.
        reporter: Hears that a network is trained, or why there is none.

    Raises:
        UsageError: The port is in use.
    """
    run = lesson_run(reporter or Reporter())
    path, samples = _open(run) if run else (None, None)
    content = read_page_model(path) if path else None
    serve_page(port, path, content, lambda url: started(LabInfo(url=f"{url}#learn", model=path)), samples)


def lesson_run(reporter: Reporter) -> Path | None:
    """The run folder of a network for scikit-learn's digits, in the user's cache; None if it cannot be trained.

    It is the article's network, which is trained in a few seconds.
    """
    path = cache_folder() / "learn" / "digits"
    with lock_folder(path.parent, wait=True):
        if _is_usable(path):
            return path
        if not all(map(find_spec, NEEDED)):
            reporter.message("the lessons come without a network: pip install 'convscope[train]' trains a small one")
            return None
        reporter.message("training a small network on the built-in digits, once; it takes a few seconds")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            _train(Path(folder, "digits"))
            shutil.rmtree(path, ignore_errors=True)
            Path(folder, "digits").rename(path)
    return path


def _is_usable(run: Path) -> bool:
    try:
        _open(run)
    except ModelFileError:  # there is none, or it is damaged, or that of another version
        return False
    return True


def _train(run: Path) -> None:
    from convscope.api.train import train_model  # here, because it takes seconds to import

    train_model("digits", model=MODEL, recipe=RECIPE, run=run)
