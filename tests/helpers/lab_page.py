"""The page's code in Node: a process that answers requests."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import convscope
from convscope.images.preprocessing import Preprocessing
from convscope.images.read import DecodedImage

PAGE = Path(convscope.__file__).parent / "lab" / "page"
HARNESS = Path(__file__).parents[1] / "lab" / "harness.mjs"
DTYPES = {
    "Uint8Array": "u1", "Int8Array": "i1", "Int32Array": "<i4", "Float32Array": "<f4", "Float64Array": "<f8",
}  # fmt: skip


class PageError(Exception):
    """What the page answers to something it refuses; the first argument is its message, the second its class."""


class NodePage:
    """The page's modules in a Node process."""

    def __init__(self) -> None:
        command = [str(shutil.which("node")), str(HARNESS), str(PAGE)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def ask(self, action: str, **request: Any) -> Any:
        """The answer to a request; raises PageError."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"action": action, **request}).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise PageError(answer["error"], answer["kind"], answer["stack"])
        return answer

    def load(self, model: bytes) -> Any:
        """Open a model file."""
        return self.ask("load", model=encode(model))

    def run(self, images: NDArray[Any], *names: str) -> dict[str, NDArray[Any]]:
        """Values of the opened model by name; all if none is named."""
        kind = "uint8" if images.dtype == np.uint8 else "float32"
        found = self.ask("run", shape=images.shape, data=encode(images.tobytes()), type=kind, names=names or None)
        return {name: decode(value).reshape(value["shape"]) for name, value in found["values"].items()}

    def preprocess(self, image: DecodedImage, record: Preprocessing) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        """What `Preprocessing.transform` returns, from the page."""
        height, width, channels = image.pixels.shape
        found = self.ask(
            "pixels", record=record.model_dump(mode="json"), height=height, width=width, channels=channels,
            data=encode(np.ascontiguousarray(image.pixels).tobytes()), notes=image.notes,
            deep=None if image.deep is None else encode(np.ascontiguousarray(image.deep).tobytes()),
        )  # fmt: skip
        return to_image(found["pixels"]), tuple(found["notes"])

    def read(self, file: bytes) -> DecodedImage:
        """What `read_image` returns, from the page."""
        found = self.ask("file", file=encode(file))
        pixels = to_image(found["pixels"])
        deep = None
        if found.get("deep"):
            deep = np.frombuffer(base64.b64decode(found["deep"]), "<u2").reshape(pixels.shape[:2])
        return DecodedImage(pixels, tuple(found["notes"]), deep=deep)


def encode(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


def decode(value: dict[str, Any]) -> NDArray[Any]:
    """A flat array of the page."""
    return np.frombuffer(base64.b64decode(value["data"]), DTYPES[value["dtype"]])


def to_image(value: dict[str, Any]) -> NDArray[np.uint8]:
    """An image of the page, uint8 (height, width, channels)."""
    return decode(value).reshape(value["height"], value["width"], value["channels"])
