"""An opened model in the page: what it says about itself, its answers, and the arithmetic of its cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import convscope
from convscope.backends.onnx.metadata import OodStatistics
from convscope.backends.pytorch.models import get_weights
from convscope.deploy.predictor import Predictor
from convscope.images.read import encode_png, read_image
from convscope.network.build import parse_network
from convscope.reference import flatten_source
from helpers.lab_page import NodePage, PageError, encode, to_image
from helpers.model_files import edited, export, with_metadata, with_ood_score
from helpers.networks import NetworkCase, random_images, random_preprocessing, trained_model


@pytest.fixture(scope="module")
def content(digits_run: convscope.Run) -> bytes:
    return digits_run.model_file.read_bytes()


def test_session_describes_a_run_as_python_does(node: NodePage, content: bytes, digits_run: convscope.Run) -> None:
    found = node.ask("open", model=encode(content))
    metadata = Predictor(digits_run.model_file).metadata
    network = parse_network(metadata.architecture, metadata.input_shape, len(metadata.classes))
    assert found["classes"] == list(metadata.classes)
    assert found["architecture"] == metadata.architecture
    assert found["preprocessing"] == metadata.model_dump(mode="json")["preprocessing"]
    assert [sample["name"] for sample in found["samples"]] == [golden.name for golden in metadata.golden]
    names = ["input", *(layer.name for layer in network.layers)]
    assert [stage["name"] for stage in found["stages"]] == names
    assert sum(stage["parameters"] for stage in found["stages"]) == network.parameters
    by_name = {stage["name"]: stage for stage in found["stages"]}
    for layer in network.layers:
        stage, (*sides, channels) = by_name[layer.name], layer.output_shape
        assert stage["shape"] == [channels, *sides], layer.name
        if stage["operator"] in ("Conv", "Gemm"):
            assert stage["macs"] == layer.multiply_adds, layer.name


def test_session_answers_golden_files_as_the_model_file_says(
    node: NodePage, content: bytes, digits_run: convscope.Run
) -> None:
    node.ask("open", model=encode(content))
    predictor = Predictor(digits_run.model_file)
    files = [golden for golden in predictor.metadata.golden if golden.name.endswith(".png")]
    assert len(files) == 3
    for golden in files:
        found, (expected,) = node.ask("classify", file=encode(golden.file)), predictor.predict(golden.file)
        np.testing.assert_allclose(found["probabilities"], golden.probabilities, rtol=0, atol=1e-4)
        assert found["status"] == expected.status
        pixels, _ = predictor.preprocessing.transform(read_image(golden.file))
        np.testing.assert_array_equal(to_image(found["pixels"]), pixels)
        assert found["notes"] == list(expected.notes)


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({"min_probability": 1.0, "max_ood_score": 1e9}, "unsure"),
        ({"min_probability": 0.0, "max_ood_score": -1e9}, "unlike"),
        ({"min_probability": 1.0, "max_ood_score": -1e9}, "unlike"),
        ({"min_probability": 0.0, "max_ood_score": 1e9}, "answered"),
    ],
)
def test_session_status_follows_the_limits_of_the_file(
    node: NodePage, content: bytes, limits: dict[str, float], status: str
) -> None:
    metadata = json.loads(onnx.load_from_string(content).metadata_props[0].value)
    changed = with_metadata(content, json.dumps({**metadata, "rejection": limits}))
    found = node.ask("open", model=encode(changed))
    assert node.ask("classify", file=found["samples"][0]["file"])["status"] == status


EVERY_LAYER = NetworkCase(
    "conv 6 3 pad same, batchnorm, gelu, maxpool 2 pad same, conv 6 3 stride 2 pad 1 groups 2, relu, "
    "residual(conv 4 3 pad same, leakyrelu), minpool 2, avgpool 2 stride 1, flatten, dense 8, tanh",
    (24, 21, 3), 4,
)  # fmt: skip


@pytest.fixture(scope="module")
def cells(node: NodePage) -> list[dict[str, Any]]:
    weights, record = get_weights(trained_model(EVERY_LAYER)), random_preprocessing(EVERY_LAYER)
    node.ask("open", model=encode(export(EVERY_LAYER.network, weights, record, list("abcd"))))
    node.ask("classify", file=encode(encode_png(random_images(EVERY_LAYER, 1)[0])))
    found: list[dict[str, Any]] = node.ask("cells", count=40)
    return found


def of(cells: list[dict[str, Any]], operator: str) -> list[dict[str, Any]]:
    found = [cell for cell in cells if cell["operator"] == operator]
    assert found, operator
    return found


@pytest.mark.parametrize("operator", ["Conv", "Gemm"])
def test_cell_products_and_bias_add_up_to_the_value(cells: list[dict[str, Any]], operator: str) -> None:
    for cell in of(cells, operator):
        total = sum(term["x"] * term["weight"] for term in cell["terms"])
        assert total == pytest.approx(cell["sum"], abs=1e-12)
        assert np.float32(cell["sum"] + cell["bias"]) == pytest.approx(cell["value"], rel=1e-6, abs=1e-6)
        assert all(term["x"] == 0 for term in cell["terms"] if not term["inside"])


def test_cell_of_pools_names_the_winner_or_the_mean(cells: list[dict[str, Any]]) -> None:
    for operator, choose in (("MaxPool", max), ("Neg", min)):
        for cell in of(cells, operator):
            inside = [term["x"] for term in cell["terms"] if term["inside"]]
            assert cell["value"] == choose(inside) == cell["terms"][cell["argmax"]]["x"]
    for cell in of(cells, "AveragePool"):
        assert np.mean([term["x"] for term in cell["terms"]]) == pytest.approx(cell["value"], rel=1e-6)


def test_cell_of_formulas_has_their_numbers(cells: list[dict[str, Any]]) -> None:
    for cell in of(cells, "BatchNormalization"):
        x, mean, variance, epsilon, normalized, scale = (number for _, number in cell["parts"])
        assert normalized == pytest.approx((x - mean) / np.sqrt(variance + epsilon))
        (_, product), (_, shift) = cell["summands"]
        assert product == pytest.approx(normalized * scale)
        assert product + shift == pytest.approx(cell["value"], rel=1e-5, abs=1e-6)
    for cell in of(cells, "Softmax"):
        parts, (_, power, _sign, total) = dict(cell["parts"]), cell["operation"]
        x, largest = parts["input"], parts["largest input"]
        assert parts["logit"] * parts["times (calibration)"] == pytest.approx(x, rel=1e-6)
        assert np.exp(x - largest) == pytest.approx(power)
        assert power / total == pytest.approx(cell["value"], rel=1e-6)
    for cell in of(cells, "Relu"):
        assert max(0.0, cell["parts"][0][1]) == cell["value"]
    for cell in of(cells, "Add"):
        assert np.float32(cell["summands"][0][1] + cell["summands"][1][1]) == pytest.approx(cell["value"], rel=1e-6)


def test_cell_of_flatten_tells_where_the_entry_came_from(cells: list[dict[str, Any]]) -> None:
    height, width, channels = EVERY_LAYER.network.layers[-5].input_shape
    assert min(height, width) > 1
    for cell in of(cells, "Flatten"):
        parts = dict(cell["parts"])
        source = flatten_source(cell["cell"][0], (height, width, channels))
        assert (parts["row"], parts["column"], parts["map"]) == source


def test_file_with_another_checksum_is_refused(node: NodePage, content: bytes) -> None:
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    with pytest.raises(PageError, match="damaged"):
        node.ask("open", model=encode(bytes(damaged)))


def test_foreign_file_without_metadata_says_what_is_assumed(node: NodePage, content: bytes) -> None:
    def strip(model: onnx.ModelProto) -> None:
        del model.metadata_props[:]

    foreign = edited(content, strip)
    found = node.ask("open", model=encode(foreign[:-86]))
    assert found["classes"][:2] == ["class 0", "class 1"]
    assert "does not say how images are prepared" in found["note"]


@pytest.mark.parametrize(
    ("fit", "notes"),
    [
        ("crop", ["cropped 16x32 -> 16x16", "resized 16x16 -> 8x8"]),
        ("letterbox", ["resized 16x32 -> 4x8", "letterboxed to 8x8"]),
        ("stretch", ["resized 16x32 -> 8x8"]),
    ],
)
def test_foreign_file_images_fit_in_as_its_record_says(
    node: NodePage, content: bytes, fit: str, notes: list[str]
) -> None:
    def strip(model: onnx.ModelProto) -> None:
        del model.metadata_props[:]

    record = {
        "classes": [*"0123456789"], "height": 8, "width": 8, "channels": 1, "mean": [0], "std": [1], "fit": fit,
        "output_kind": "probabilities",
    }  # fmt: skip
    node.ask("open", model=encode(edited(content, strip)[:-86]), record=json.dumps(record))
    assert node.ask("classify", file=encode(encode_png(np.zeros((32, 16, 1), np.uint8))))["notes"] == notes


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ("no JSON", "expected a JSON file that describes a model, got no JSON"),
        ("{}", "lacks 'classes', or it is wrong"),
        (
            '{"classes": ["a", "b"], "height": 8, "width": 8, "channels": 1, "mean": [0, 0]}',
            "lacks 'mean', or it is wrong",
        ),
        (
            '{"classes": ["a", "b"], "height": 8, "width": 8, "channels": 1, "mean": [0], "std": [1], "fit": "wide"}',
            "lacks 'fit', or it is wrong",
        ),
    ],
)
def test_foreign_file_with_a_wrong_record_is_refused(node: NodePage, content: bytes, record: str, problem: str) -> None:
    def strip(model: onnx.ModelProto) -> None:
        del model.metadata_props[:]

    with pytest.raises(PageError, match=problem):
        node.ask("open", model=encode(edited(content, strip)[:-86]), record=record)


@pytest.mark.parametrize("kind", ["activations", "features"])
def test_page_computes_the_ood_score_as_onnxruntime_does(node: NodePage, kind: OodStatistics, tmp_path: Path) -> None:
    case = NetworkCase("conv 3 3, relu, maxpool 2, flatten, dense 90, relu", (12, 11, 3), 4)
    path, images = tmp_path / "model.onnx", random_images(case, 60)
    path.write_bytes(with_ood_score(case, images, kind))
    node.load(path.read_bytes())
    found, expected = node.run(images, "ood_score")["ood_score"], Predictor(path).ood_scores(images)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-3, atol=1e-3)
