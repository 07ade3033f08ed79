"""Models that convscope did not write: networks exported by torch answer as in torch, hostile ones are refused."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from convscope import Predictor
from convscope.api.verify import verify_model
from convscope.errors import DataError, ModelFileError
from convscope.images.read import encode_png
from helpers.command import Command

SHAPE = {"height": 32, "width": 40, "channels": 3}
RECORD: dict[str, Any] = {
    "model": "m.onnx", "classes": [f"c{i}" for i in range(7)], **SHAPE, "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225], "output_kind": "logits",
}  # fmt: skip


class Bottleneck(nn.Module):
    """A block as in MobileNetV2: expansion, depthwise convolution, projection."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.Hardswish(),
            nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x + self.layers(x)
        return result


class Attention(nn.Module):
    """Channels weighted by what the whole image shows (squeeze and excitation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x * self.layers(x)
        return result


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.SiLU(), Bottleneck(16, 48), Attention(16), Bottleneck(16, 48),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 7),
    ).eval()  # fmt: skip


def torch_export(network: nn.Module, path: Path, batch: int | None) -> None:
    axes = {} if batch else {"x": {0: "n"}, "y": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(batch or 1, 3, 32, 40),), str(path), input_names=["x"],
                          output_names=["y"], dynamic_axes=axes, dynamo=False)  # fmt: skip


def write_record(folder: Path, **changes: Any) -> Path:
    (folder / "m.json").write_text(json.dumps({**RECORD, **changes}))
    return folder / "m.json"


def images(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, 32, 40, 3), np.uint8)


def torch_logits(network: nn.Module, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """As torchvision normalizes."""
    mean, std = (torch.tensor(RECORD[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        return np.asarray(network((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std).numpy())


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_predictor_of_a_network_exported_by_torch_answers_as_torch(
    batch: int | None, network: nn.Sequential, tmp_path: Path
) -> None:
    torch_export(network, tmp_path / "m.onnx", batch)
    predictor, pixels = Predictor(write_record(tmp_path)), images(6)
    expected = torch_logits(network, pixels)
    assert np.ptp(expected, axis=0).min() > 0.01  # the answers differ
    np.testing.assert_allclose(predictor.predict_logits(pixels), expected, rtol=0, atol=1e-5)
    softmax = torch.from_numpy(expected).softmax(1).numpy()
    np.testing.assert_allclose(predictor.predict_proba(pixels), softmax, rtol=0, atol=1e-5)


def test_predictor_record_of_another_layout_and_color_order_is_followed(network: nn.Sequential, tmp_path: Path) -> None:
    class Swapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.inner(x.permute(0, 3, 1, 2).flip(1)).softmax(1)
            return result

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Swapped().eval(), (torch.zeros(5, 32, 40, 3),), str(tmp_path / "m.onnx"), dynamo=False)
    swapped = {name: RECORD[name][::-1] for name in ("mean", "std")}
    record = write_record(tmp_path, layout="NHWC", color_order="BGR", output_kind="probabilities", **swapped)
    expected = torch.from_numpy(torch_logits(network, images(5))).softmax(1).numpy()
    np.testing.assert_allclose(Predictor(record).predict_proba(images(5)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, "cropped 40x96 -> 40x32"),
        ({"fit": "letterbox"}, "letterboxed to 40x32"),
        ({"fit": "stretch"}, "resized 40x96 -> 40x32"),
    ],
)
def test_commands_take_a_foreign_model(
    network: nn.Sequential, tmp_path: Path, command: Command, changes: dict[str, str], note: str
) -> None:
    torch_export(network, tmp_path / "m.onnx", None)
    record, photo = write_record(tmp_path, **changes), tmp_path / "a.png"
    photo.write_bytes(encode_png(images(1)[0].repeat(3, axis=0)))
    answer = command("predict", record, photo, "--json")
    assert answer.code == 0
    (prediction,) = json.loads(answer.out)["predictions"]
    assert prediction["label"] == Predictor(record).predict(photo)[0].label
    assert prediction["notes"][-1] == note


def test_predictor_sha256_changes_with_the_model_and_with_its_record(network: nn.Sequential, tmp_path: Path) -> None:
    def digest(batch: int | None, **changes: Any) -> str:
        torch_export(network, tmp_path / "m.onnx", batch)
        return Predictor(write_record(tmp_path, **changes)).sha256

    digests = [digest(None), digest(4), digest(4, mean=[0.5, 0.5, 0.5])]
    assert len(set(digests)) == 3
    assert digest(None) == digests[0]


@pytest.mark.slow
def test_verify_foreign_model_through_the_server(network: nn.Sequential, tmp_path: Path) -> None:
    torch_export(network, tmp_path / "m.onnx", None)
    (tmp_path / "images").mkdir()
    for i, pixels in enumerate(images(5)):
        (tmp_path / "images" / f"{i}.png").write_bytes(encode_png(pixels))
    found, *others = verify_model(write_record(tmp_path), tmp_path / "images", http=True).comparisons
    assert (found.second, found.images, found.passed) == ("HTTP", 5, True)
    assert all(other.passed for other in others)  # the page, if node is there


# What is refused


def model(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[Any]] | None = None, **imports: int) -> bytes:
    """A model from x (n, 3, 32, 40) to y (n, 7), with `start`, (n, 7), the first mean of each image."""
    start = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Reshape", ["mean", "column"], ["flat"]),
        helper.make_node("Expand", ["flat", "seven"], ["start"]),
    ]
    given = {
        "axes": np.array([1, 2, 3]), "column": np.array([-1, 1]), "seven": np.array([1, 7]), **(constants or {}),
    }  # fmt: skip
    graph = helper.make_graph(
        [*start, *nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 32, 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 7])],
        [numpy_helper.from_array(values, name) for name, values in given.items()],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in {"": 20, **imports}.items()]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


def endless() -> bytes:
    """A loop of 2^60 steps."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes"]), helper.make_node("Sin", ["v"], ["w"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("go", 9, []),
         helper.make_tensor_value_info("v", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("goes", 9, []), helper.make_tensor_value_info("w", TensorProto.FLOAT, None)],
    )  # fmt: skip
    constants = {"steps": np.array(2**60), "yes": np.array(True)}
    return model([helper.make_node("Loop", ["steps", "yes", "start"], ["y"], body=body)], constants)


def huge() -> bytes:
    """100 GB from a few bytes."""
    nodes = [
        helper.make_node("Expand", ["start", "size"], ["big"]),
        helper.make_node("ReduceMean", ["big", "last"], ["y"], keepdims=0),
    ]
    return model(nodes, {"size": np.array([25 * 10**8 // 7, 1, 7]), "last": np.array([0])})


def external(content: bytes, inside: bool) -> bytes:
    """Weights, or a constant inside a node, that are in /etc/passwd."""
    found = onnx.load_from_string(content)
    tensor = found.graph.initializer[0]
    if inside:
        found.graph.node.append(helper.make_node("Constant", [], ["more"], value=tensor))
        tensor = found.graph.node[-1].attribute[0].t
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return bytes(found.SerializeToString())


IDENTITY = model([helper.make_node("Identity", ["start"], ["y"])])
SOFTMAX = model([helper.make_node("Softmax", ["start"], ["y"])])
CUSTOM = model([helper.make_node("Evil", ["start"], ["y"], domain="evil")], evil=1)
HOSTILE: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "no ONNX": (b"text", {}, "cannot be used: "),
    "empty": (b"", {}, "cannot be used: onnxruntime cannot load it"),
    "custom operator": (CUSTOM, {}, "it uses operators of 'evil', which are not standard"),
    "unknown operator": (model([helper.make_node("Evil", ["start"], ["y"])]), {}, "onnxruntime cannot load it"),
    "external data": (external(IDENTITY, inside=False), {}, r"its weights are in another file \(external data\)"),
    "external data in a node": (external(IDENTITY, inside=True), {}, r"its weights are in another file \(external"),
    "endless loop": (endless(), {"timeout": 2}, "its process took longer than 2 s, when it was to classify"),
    "100 GB": (huge(), {}, "onnxruntime cannot run it|for lack of memory"),
    "other size": (IDENTITY, {"height": 33}, "its input is tensor.float. .'n', 3, 32, 40., but the record says NCHW"),
    "other classes": (IDENTITY, {"classes": ["a", "b"]}, "its output 'y' is float32 .1, 7., expected float .1, 2."),
    "no probabilities": (IDENTITY, {"output_kind": "probabilities"}, "its outputs are not probabilities: write"),
    "not finite": (model([helper.make_node("Log", ["start"], ["y"])]), {"mean": [9, 9, 9]}, "its output is not finite"),
    "no such input": (IDENTITY, {"input": "z"}, "its inputs are x, and the record names 'z': name one as 'input'"),
    "softmax as logits": (SOFTMAX, {}, 'its outputs are probabilities already: write "output_kind": "probabilities"$'),
    "one number": (IDENTITY, {"std": 0.5}, "classifier .std: expected a list with one number per channel"),
    "several faults": (IDENTITY, {"std": 0, "width": 0}, "classifier .width: .*; std: .*: see docs/foreign-models.md$"),
    "three means": (IDENTITY, {"mean": [0, 0]}, "does not describe a classifier .expected 3 values in mean"),
    "unknown field": (IDENTITY, {"means": 0}, "does not describe a classifier .means: "),
    "no kind of output": (IDENTITY, {"output_kind": "x"}, "does not describe a classifier .output_kind: "),
    "no such file": (IDENTITY, {"model": "other.onnx"}, "other.onnx does not exist"),
    "a device": (IDENTITY, {"model": "/dev/zero"}, "/dev/zero cannot be read"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_predictor_of_a_hostile_model_raises_one_line(name: str, tmp_path: Path) -> None:
    content, changes, message = HOSTILE[name]
    (tmp_path / "m.onnx").write_bytes(content)
    started = time.monotonic()
    with pytest.raises(ModelFileError, match=message) as caught:
        Predictor(write_record(tmp_path, **changes)).predict_proba(images(1))
    assert caught.value.exit_code == 4
    assert len(str(caught.value).splitlines()) == 1
    assert time.monotonic() - started < 20


def test_predictor_of_the_harmless_model_answers(tmp_path: Path) -> None:
    """So what is refused above is the change."""
    (tmp_path / "m.onnx").write_bytes(IDENTITY)
    predictor = Predictor(write_record(tmp_path))
    assert predictor.predict_proba(images(3)).tolist() == pytest.approx(np.full((3, 7), 1 / 7))
    with pytest.raises(ModelFileError, match="it has no output 'features', which only models trained by convscope"):
        predictor.features(images(1))
    with pytest.raises(DataError, match="expected uint8 images"):
        predictor.predict_proba(images(1)[:, :5])
