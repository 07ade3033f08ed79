"""Damaged model files and run folders are rejected in one line, or answer with finite probabilities."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import convscope
from convscope.backends.onnx.metadata import DIGEST_KEY, digest_entry
from convscope.backends.onnx.read import read_model_file
from convscope.deploy.int8 import to_int8
from convscope.deploy.predictor import Predictor
from convscope.runs.folder import open_run
from fuzz.inputs import inputs
from fuzz.mutations import damaged, damaged_json
from fuzz.outcome import refused_or_accepted

pytestmark = pytest.mark.slow

IMAGE = np.zeros((8, 8), np.uint8)


def answer(source: Path) -> None:
    """Predict; what is accepted has to answer with probabilities."""
    with refused_or_accepted():
        (prediction,) = Predictor(source).predict(IMAGE)
        assert all(0 <= probability <= 1 for probability in prediction.probabilities.values())
        assert math.isclose(sum(prediction.probabilities.values()), 1, abs_tol=1e-3)


def answer_of(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(content)
        answer(path)


@pytest.fixture(scope="module", params=["float32", "int8"])
def model(request: pytest.FixtureRequest, digits_run: convscope.Run) -> bytes:
    if request.param == "float32":
        return digits_run.model_file.read_bytes()
    images = convscope.load_data("digits").train.subsample(100).images
    return to_int8(read_model_file(digits_run.model_file), images)


def one_bit_flipped(content: bytes) -> st.SearchStrategy[bytes]:
    """The content with one bit changed, most often one of a weight."""

    def flip(bit: int) -> bytes:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)

    return st.integers(0, 8 * len(content) - 1).map(flip)


@inputs(200)
@given(st.data())
def test_predictor_damaged_model_file_is_rejected(model: bytes, data: st.DataObject) -> None:
    content, loaded = data.draw(damaged([model]) | one_bit_flipped(model)), False
    with tempfile.TemporaryDirectory() as folder, refused_or_accepted():
        Path(folder, "model.onnx").write_bytes(content)
        Predictor(Path(folder, "model.onnx"))
        loaded = True
    assert loaded == (content == model)


NUMBERS = st.integers(0, 2**20)  # they choose by remainder, so that nothing that is drawn depends on the model


def _edit(model: onnx.ModelProto, part: str, which: int, value: int) -> None:
    """Change one part of a graph, as a program could that writes valid files.

    Args:
        model: the message.
        part: what to change.
        which: chooses the weights, the node or the dimension.
        value: chooses the new value.
    """
    graph = model.graph
    weights, node = graph.initializer[which % len(graph.initializer)], graph.node[which % len(graph.node)]
    if part == "weights":
        bad = (np.nan, np.inf, -np.inf, 1e38)[value % 4]
        values = onnx.numpy_helper.to_array(weights).copy()
        values.flat[value // 4 % values.size] = bad if values.dtype.kind == "f" else 7
        weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    elif part == "dims":
        weights.dims[:] = [(0, 1, 3, 2**31, 2**40)[value // 5**i % 5] for i in range(value % 5)]
    elif part == "external":
        weights.data_location = onnx.TensorProto.EXTERNAL
        target = ("/dev/zero", "../../etc/passwd", "model.onnx", "/etc/hostname", "")[value % 5]
        weights.external_data.add(key="location", value=target)
        weights.ClearField("raw_data")
    elif part == "operator":
        node.op_type = ("Relu", "Identity", "If", "Loop", "Nothing", "Softmax", "Conv", "")[value % 8]
    elif part == "shape":
        dimensions = graph.input[0].type.tensor_type.shape.dim
        dimensions[which % len(dimensions)].dim_value = (0, 1, 2, 7, 2**31, 2**62)[value % 6]
    elif part == "version":
        model.opset_import[0].version = (0, 1, 7, 99, 2**31)[value % 5]
        model.ir_version = (0, 1, 8, 99)[which % 4]
    else:
        node.output[0] = ("", node.input[0], "logits", "x" * 70_000)[value % 4]


def _unsigned(model: bytes) -> onnx.ModelProto:
    """The message without its checksum, or that would be all that is checked."""
    message = onnx.load_model_from_string(model)
    for entry in [entry for entry in message.metadata_props if entry.key == DIGEST_KEY]:
        message.metadata_props.remove(entry)
    return message


def _answer_signed(message: onnx.ModelProto) -> None:
    content = message.SerializeToString()
    answer_of(content + digest_entry(content))


@inputs(60)
@given(
    st.sampled_from(["weights", "dims", "external", "operator", "shape", "version", "name"]),
    NUMBERS,
    NUMBERS,
)
def test_predictor_edited_model_answers_or_is_rejected(model: bytes, part: str, which: int, value: int) -> None:
    message = _unsigned(model)
    _edit(message, part, which, value)
    _answer_signed(message)


@inputs(20)
@given(st.data())
def test_predictor_edited_metadata_answers_or_is_rejected(model: bytes, data: st.DataObject) -> None:
    message = _unsigned(model)
    (entry,) = message.metadata_props
    entry.value = data.draw(damaged_json(entry.value))
    _answer_signed(message)


NAMES = ["config.json", "manifest.json", "metrics.jsonl", "evaluation.json", "best.safetensors", "model.onnx"]


def _sign(folder: Path, name: str) -> None:
    """Enter a changed file into the manifest, so that its checksum hides nothing."""
    manifest: dict[str, Any] = json.loads(Path(folder, "manifest.json").read_text())
    content = Path(folder, name).read_bytes()
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    Path(folder, "manifest.json").write_text(json.dumps(manifest))


@inputs(100)
@given(st.sampled_from(NAMES), st.booleans(), st.data())
def test_open_run_damaged_folder_opens_or_is_rejected(
    digits_run: convscope.Run, name: str, signed: bool, data: st.DataObject
) -> None:
    whole = (digits_run.path / name).read_bytes()
    edits = damaged([whole])
    if name.endswith(".json"):
        edits |= damaged_json(whole.decode()).map(str.encode)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "run")
        shutil.copytree(digits_run.path, folder, ignore=shutil.ignore_patterns("plots", "tensorboard"))
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"] = {key: value for key, value in manifest["files"].items() if (folder / key).exists()}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / name).write_bytes(data.draw(edits))
        if signed and name != "manifest.json":
            _sign(folder, name)
        with refused_or_accepted():
            run = open_run(folder)
            run.model()
            run.summary().model_dump_json()
        answer(folder)
