"""The page's code in Node, to compare its answers with those of other runtimes."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convscope.errors import ConvscopeError
from convscope.lab.bundle import PAGE
from convscope.lab.model import read_page_model

MIN_NODE = 20
PNG_START = b"\x89PNG\r\n\x1a\n"
_RUNNER = Path(__file__).parent / "node" / "classify.mjs"


def node_problem() -> str:
    """Why the page's code cannot run in Node on this machine; empty if it can."""
    node = shutil.which("node")
    if node is None:
        return "node is not installed"
    found = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    major = found.removeprefix("v").partition(".")[0]
    return "" if major.isdigit() and int(major) >= MIN_NODE else f"it needs node {MIN_NODE}, found {found or 'none'}"


def is_png(file: bytes) -> bool:
    """Whether the page decodes a file itself; other formats are the browser's."""
    return file.startswith(PNG_START)


class NodePage:
    """A process that classifies PNG files with the page's code.

    Args:
        process: `classify.mjs`.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def classify(self, files: Sequence[bytes]) -> NDArray[np.float64]:
        """Probabilities, (n, classes), of the contents of PNG files.

        Raises:
            ConvscopeError: The page cannot read a file; the message says why.
        """
        return np.array([self._ask(file) for file in files])

    def _ask(self, file: bytes) -> list[float]:
        process = self._process
        assert process.stdin and process.stdout
        process.stdin.write(b64encode(file).decode() + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        if "error" in answer:
            raise ConvscopeError(f"the lab's page cannot classify an image: {answer['error']}")
        found: list[float] = answer["probabilities"]
        return found


@contextmanager
def node_page(path: Path) -> Iterator[NodePage]:
    """The page with a model, as long as the context lasts; see `node_problem` and `read_page_model`.

    Raises:
        ConvscopeError: The page cannot open the model; the message says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.onnx")
        model.write_bytes(read_page_model(path))
        command = [str(shutil.which("node")), str(_RUNNER), str(PAGE), str(model)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout and process.stderr
            try:
                if not process.stdout.readline():
                    reasons = [text for text in process.stderr.read().splitlines() if "Error: " in text]
                    raise ConvscopeError(f"the page cannot open the model: {reasons[0] if reasons else 'node ended'}")
                yield NodePage(process)
            finally:
                process.kill()
