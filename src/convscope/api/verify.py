"""Verification of a model file: all runtimes at hand answer the same image files, and have to agree."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np

from convscope._files import kind_of
from convscope.backends.onnx.metadata import TemperatureScaling
from convscope.deploy.predictor import Predictor
from convscope.deploy.sources.folders import images_in_folder
from convscope.deploy.sources.items import ParquetFile, PassedOver
from convscope.deploy.verify import (
    Probabilities,
    Runtime,
    Verification,
    compare_golden,
    compare_images,
    predictor_runtime,
)
from convscope.errors import ConvscopeError, DataError, ImageError, ModelFileError, UsageError
from convscope.images.read import read_image
from convscope.lab.runtime import is_png, node_page, node_problem
from convscope.runs.folder import Run, open_run

SERVER_TIMEOUT_S = 60
SERVER_LIMITS = ("--max-megapixels", "25", "--max-body-mb", "100")


def verify_model(
    model: str | Path, images: str | Path | None = None, int8: str | Path | None = None, http: bool = False
) -> Verification:
    """Compare the answers of all runtimes at hand to the golden inputs of a model file, and to image files.

    The runtimes are PyTorch with the trained weights, if the model is a run folder and PyTorch is installed; ONNX
    Runtime; a server; and the lab's page, if node is installed, for PNG files. Those that compute in float32 have to
    agree within 1e-4, with the same most likely class. int8 may name another class than float32 for 0.5 % of
    the images, and for as many more as chance explains.

    Args:
        model: A run folder or a model file.
        images: A folder of images, searched with its subfolders.
        int8: The int8 model file made from the same network.
        http: Start `convscope serve` on this machine, if it is installed, and compare its answers, too.

    Raises:
        ModelFileError: A model file cannot be used.
        DataError: The folder has no image that can be read.
        UsageError: There is nothing to compare.
        ConvscopeError: The server does not start, or the lab's page cannot open a model of convscope.
    """
    run = open_run(model) if kind_of(Path(model), ModelFileError) == "folder" else None
    path = run.model_file if run else Path(model)
    paths = image_files(Path(images)) if images is not None else []
    with ExitStack() as stack:
        runtimes, skipped = _runtimes(path, run, int8)
        if http and find_spec("fastapi") is None:
            skipped.append("HTTP: the extra 'serve' is not installed")
        elif http:
            runtimes.append(stack.enter_context(served_runtime(path)))
        problem = node_problem()
        try:
            page = None if problem else stack.enter_context(node_page(path))
        except ConvscopeError as error:
            if path.suffix != ".json":
                raise
            page, problem = None, str(error)  # a foreign model may have operators that the page does not know
        if page is None:
            skipped.append(f"the lab's page: {problem}")
        else:
            runtimes.append(Runtime("page (PNG)", page.classify, runtimes[0].precision, is_png))
        return verify_runtimes(path, runtimes, paths).model_copy(update={"skipped": tuple(skipped)})


def verify_runtimes(path: Path, runtimes: Sequence[Runtime], images: Sequence[Path] = ()) -> Verification:
    """Compare runtimes on the golden inputs of a model file and on image files; see `verify_model`."""
    metadata = Predictor(path).metadata
    comparisons = compare_golden(metadata.golden, metadata.precision, runtimes)
    more, unreadable = compare_images(images, runtimes) if images else ([], [])
    if images and len(unreadable) == len(images):
        raise DataError(f"none of the {len(images)} images can be read: {unreadable[0]}")
    if images and not more:
        raise UsageError(f"nothing to compare {path} with on images: name its run folder, or the int8 file with --int8")
    if not comparisons and not more:
        raise UsageError(f"{path} has no golden inputs: name a folder of images with --images")
    return Verification(model=path, comparisons=(*comparisons, *more), unreadable=tuple(unreadable))


def trainer_runtime(run: Run, calibration: TemperatureScaling) -> Runtime:
    """PyTorch with the trained weights of a run."""
    from convscope.evaluation.calibration import softmax
    from convscope.training.loop import predict_logits

    model, preprocessing = run.model(), run.config.preprocessing

    def classify(files: Sequence[bytes]) -> Probabilities:
        pixels = np.stack([preprocessing.transform(read_image(file))[0] for file in files])
        return softmax(predict_logits(model, pixels, preprocessing), calibration)

    return Runtime("PyTorch", classify)


def image_files(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, in natural order. Raises DataError if it has none."""
    kind = kind_of(folder, DataError)
    if kind != "folder":
        problem = "does not exist" if kind == "missing" else "is a file"
        raise DataError(f"expected a folder of images, but {folder} {problem}")
    found = []
    for one in images_in_folder(str(folder), PassedOver()):
        if isinstance(one, ImageError):
            raise one
        if isinstance(one, ParquetFile):
            raise DataError(f"{folder}: no images in this folder, but Parquet files; name another one")
        found.append(Path(one))
    return found


def _runtimes(path: Path, run: Run | None, int8: str | Path | None) -> tuple[list[Runtime], list[str]]:
    """What can be compared in this process, and what cannot, with the reason."""
    predictor = Predictor(path)
    runtimes, skipped = [predictor_runtime(predictor, _onnx_name(predictor))], []
    if run is None:
        skipped.append("PyTorch: the model is a file, not a run folder")
    elif find_spec("torch") is None:
        skipped.append("PyTorch: it is not installed")
    else:
        runtimes.insert(0, trainer_runtime(run, predictor.metadata.calibration))
    if int8 is not None:
        other = Predictor(int8)
        _require_int8_of(predictor, other)
        runtimes.append(predictor_runtime(other, _onnx_name(other)))
    return runtimes, skipped


def _require_int8_of(predictor: Predictor, other: Predictor) -> None:
    """Raise ModelFileError if the other file is not an int8 file of the same network."""
    ours, theirs = predictor.metadata, other.metadata
    if theirs.precision != "int8":
        raise ModelFileError(f"--int8: expected an int8 file, got {other.path} in {theirs.precision}")
    for name in ("classes", "architecture", "preprocessing", "training"):
        if getattr(ours, name) != getattr(theirs, name):
            raise ModelFileError(
                f"--int8: expected a file of the same network, but {other.path} has another {name} than "
                f"{predictor.path}: name one that `convscope export --int8` made from it"
            )


def _onnx_name(predictor: Predictor) -> str:
    return "ONNX Runtime" if predictor.metadata.precision == "float32" else "ONNX Runtime int8"


@contextmanager
def served_runtime(path: Path) -> Iterator[Runtime]:
    """A server process that runs while the context does."""
    command = [sys.executable, "-m", "convscope", "serve", str(path), "--port", "0", "--json", *SERVER_LIMITS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield _http_runtime(_read_object(process)["url"], Predictor(path))
        finally:
            process.terminate()
            process.communicate()


def _read_object(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON object that the server prints once it answers; one that prints nothing for too long is killed."""
    assert process.stdout and process.stderr
    text, timer = "", Timer(SERVER_TIMEOUT_S, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            text += line
            if line == "}\n":
                found: dict[str, Any] = json.loads(text)
                return found
    finally:
        timer.cancel()
    reason = process.stderr.read().strip().splitlines()
    raise ConvscopeError(f"the server for verification did not start: {reason[-1] if reason else 'it said nothing'}")


def _http_runtime(url: str, predictor: Predictor) -> Runtime:
    def classify(files: Sequence[bytes]) -> Probabilities:
        found = []
        for file in files:
            request = Request(f"{url}/v1/predict", file, {"Content-Type": "application/octet-stream"})
            try:
                with urlopen(request, timeout=SERVER_TIMEOUT_S) as response:
                    found.append(json.load(response)["predictions"][0]["probabilities"])
            except HTTPError as error:
                raise ConvscopeError(f"the server refused an image: {json.load(error)['detail']}") from error
        return np.array([[one[name] for name in predictor.classes] for one in found])

    return Runtime("HTTP", classify, predictor.metadata.precision)
