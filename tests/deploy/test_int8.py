"""int8 model files against the float32 ones that they come from, and against integer arithmetic worked out here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from convscope import Predictor
from convscope.backends.onnx.metadata import ModelMetadata
from convscope.backends.onnx.quantize import MAX_WEIGHT
from convscope.backends.onnx.read import read_model_file
from convscope.backends.onnx.session import open_session
from convscope.backends.pytorch.models import get_weights
from convscope.deploy.int8 import to_int8
from convscope.errors import ModelFileError
from convscope.images.preprocessing import Preprocessing
from convscope.network.folding import fold_batch_norm
from helpers.model_files import Edit, edited, export, float_file
from helpers.networks import ALL_CASES, NetworkCase, random_images, random_preprocessing, trained_model

RESIDUAL = NetworkCase(
    "conv 4 3 pad same, residual(conv 4 3 pad same, batchnorm, relu, conv 4 3 pad same, batchnorm), relu, maxpool 2, "
    "residual(conv 6 3 stride 2 pad same, batchnorm), relu, conv 5 1, batchnorm, gelu, globalavg, dense 6, relu",
    (9, 8, 3),
    5,
)
SHORTCUT = NetworkCase(
    "conv 4 3, batchnorm, relu, residual(conv 6 3 stride 2 pad 1, batchnorm, relu, conv 6 3 pad 1, batchnorm, "
    "shortcut(conv 6 1 stride 2, batchnorm)), relu, globalavg",
    (9, 8, 3),
    5,
)
CASES = {**ALL_CASES, "residual blocks": RESIDUAL, "shortcut": SHORTCUT}


def int8_content(case: NetworkCase, folder: Path) -> bytes:
    return to_int8(read_model_file(float_file(case, folder / "float32.onnx")), random_images(case, 40))


@pytest.mark.parametrize("name", CASES)
def test_to_int8_every_layer_and_preset_answers_nearly_as_float32(name: str, tmp_path: Path) -> None:
    case, path = CASES[name], tmp_path / "int8.onnx"
    path.write_bytes(int8_content(case, tmp_path))
    small, large = Predictor(path), Predictor(tmp_path / "float32.onnx")
    assert small.metadata == large.metadata.model_copy(update={"precision": "int8"})
    images = random_images(case, 20, seed=1)
    expected = large.predict_logits(images)
    spread = np.ptp(expected, axis=0).max() + np.abs(expected).max()
    np.testing.assert_allclose(small.predict_logits(images), expected, rtol=0, atol=0.06 * spread)


def test_to_int8_equal_arguments_give_equal_bytes(tmp_path: Path) -> None:
    assert int8_content(RESIDUAL, tmp_path) == int8_content(RESIDUAL, tmp_path)


def test_to_int8_runs_with_integer_kernels(tmp_path: Path) -> None:
    """ONNX Runtime replaces every group of nodes by an integer kernel, but for the first convolution."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    case = NetworkCase("conv 8 3, relu, conv 8 3, relu6, residual(conv 8 1), relu, maxpool 2, flatten, dense 9",
                       (12, 12, 1), 3)  # fmt: skip
    onnxruntime.InferenceSession(int8_content(case, tmp_path), options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert operators.count("QLinearConv") == 2
    assert operators.count("QGemm") == 2
    assert operators.count("QLinearAdd") == 1
    assert {"Gemm", "Add"}.isdisjoint(operators)
    assert operators.count("QuantizeLinear") == 1  # of the first convolution, which computes in float32
    assert sum(operator in ("Conv", "FusedConv") for operator in operators) == 1


def test_to_int8_dense_layer_equals_integer_arithmetic_worked_out_here(tmp_path: Path) -> None:
    case = NetworkCase("flatten", (1, 2, 1), 2)
    plain = Preprocessing.plain(np.array([[[[0], [255]]]], np.uint8))  # the input is 0..1, so that q = pixel
    weights = {
        "classifier.weight": np.array([[1.0, -0.4], [0.25, 2.0]], np.float32),
        "classifier.bias": np.array([0.1, -3.0], np.float32),
    }
    path = tmp_path / "float32.onnx"
    path.write_bytes(export(case.network, weights, plain, "ab"))
    images = np.array([[[[0], [255]]], [[[255], [0]]], [[[40], [100]]]], np.uint8)
    path.write_bytes(to_int8(read_model_file(path), images))
    scale, unit = np.array([1.0, 2.0]) / 63, 1 / 255
    integers = np.rint(weights["classifier.weight"] / scale[:, None])  # [[63, -25], [8, 63]]
    assert integers.tolist() == [[63, -25], [8, 63]]
    bias = np.rint(weights["classifier.bias"] / (unit * scale))
    expected = (images.reshape(3, 2) @ integers.T + bias) * unit * scale
    np.testing.assert_allclose(Predictor(path).predict_logits(images), expected, rtol=0, atol=2e-4)


def test_to_int8_two_products_fit_16_bits() -> None:
    """Without VNNI, processors add the products of two neighbors in 16 bits, and saturate."""
    assert 2 * 255 * MAX_WEIGHT <= 2**15 - 1 < 2 * 255 * 127


def test_to_int8_filter_of_zeros_with_a_bias_keeps_the_bias(tmp_path: Path) -> None:
    case = NetworkCase("flatten, dense 3", (2, 2, 1), 2)
    weights = dict(get_weights(trained_model(case)))
    weights["dense1.weight"] = np.zeros((3, 4), np.float32)
    weights["dense1.bias"] = np.array([5.0, -7.0, 0.0], np.float32)
    path = tmp_path / "m.onnx"
    path.write_bytes(export(case.network, weights, random_preprocessing(case), "ab"))
    expected = Predictor(path).features(random_images(case, 2))
    path.write_bytes(to_int8(read_model_file(path), random_images(case, 9)))
    np.testing.assert_allclose(Predictor(path).features(random_images(case, 2)), expected, atol=12 / 255)


@pytest.mark.parametrize("architecture", [
    "conv 4 3, batchnorm, relu, conv 5 1, batchnorm eps 0.3, batchnorm, residual(conv 5 1, batchnorm), globalavg",
    "flatten, dense 7, dropout 0.2, batchnorm, relu",
])  # fmt: skip
def test_fold_batch_norm_leaves_none_and_changes_no_logit(architecture: str, tmp_path: Path) -> None:
    case = NetworkCase(architecture, (7, 8, 2 + 1), 4)
    file = read_model_file(float_file(case, tmp_path / "m.onnx"))
    folded = fold_batch_norm(case.network, file.constants)
    assert [name for name in folded if "running" in name or "batchnorm" in name] == []
    images = random_images(case, 5)
    expected = Predictor(tmp_path / "m.onnx").predict_logits(images)
    np.testing.assert_allclose(run_folded(case, folded, file.metadata, images), expected, rtol=0, atol=1e-4)


def run_folded(
    case: NetworkCase, folded: dict[str, NDArray[np.float32]], metadata: ModelMetadata, images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Logits of a float32 graph with folded weights."""
    from convscope.backends.onnx.export import to_calibration_onnx

    content = onnx.load_from_string(to_calibration_onnx(case.network, folded, metadata).content)
    content.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None))
    session = open_session(content.SerializeToString(), Path("folded"))
    (logits,) = session.run(["logits"], {"images": images})
    return np.asarray(logits)


def test_fold_batch_norm_after_a_pool_stays(tmp_path: Path) -> None:
    case = NetworkCase("conv 4 3, maxpool 2, batchnorm, relu, flatten", (8, 8, 1), 3)
    file = read_model_file(float_file(case, tmp_path / "m.onnx"))
    assert "batchnorm1.running_mean" in fold_batch_norm(case.network, file.constants)


# What is refused


def constant(name: str, values: NDArray[np.generic]) -> Edit:
    """Replace a constant."""

    def edit(model: onnx.ModelProto) -> None:
        (found,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
        found.CopyFrom(onnx.numpy_helper.from_array(values, name))

    return edit


def precision(value: str) -> Edit:
    """Replace the precision in the metadata."""

    def edit(model: onnx.ModelProto) -> None:
        entry = model.metadata_props[0]
        entry.value = entry.value.replace('"precision":"int8"', f'"precision":"{value}"')

    return edit


EDITS: dict[str, tuple[Edit, str]] = {
    "scale 0": (constant("relu1.scale", np.zeros((), np.float32)), "'relu1.scale' is not one positive number"),
    "scale nan": (constant("relu1.scale", np.full((), np.nan, np.float32)), "'relu1.scale' is not one positive"),
    "scale inf": (constant("relu1.scale", np.full((), np.inf, np.float32)), "'relu1.scale' are not all finite"),
    "two scales": (constant("relu1.scale", np.ones(2, np.float32)), "'relu1.scale' is not one positive number"),
    "scale of another type": (constant("relu1.scale", np.ones((), np.uint8)), "'relu1.scale' are uint8, expected"),
    "two zero points": (constant("relu1.zero", np.zeros(2, np.uint8)), "'relu1.zero' is not one number"),
    "zero point int8": (constant("relu1.zero", np.zeros((), np.int8)), "'relu1.zero' are int8, expected"),
    "negative scale of weights": (
        constant("conv2.weight_scale", np.array([1, -1, 1], np.float32)),
        "'conv2.weight_scale' is not one positive number per filter",
    ),
    "too few scales": (constant("conv2.weight_scale", np.ones(2, np.float32)), "'conv2.weight_scale' is not one"),
    "weights without dimensions": (constant("conv2.weight", np.ones((), np.int8)), "'conv2.weight_scale' is not one"),
    "float weights": (constant("conv2.weight", np.ones((3, 4, 3, 3), np.float32)), "'conv2.weight' are float32"),
    "scale of the bias": (constant("conv2.bias_scale", np.ones(3, np.float32)), "'conv2.bias_scale' is not the one"),
    "zero point of weights": (
        constant("classifier.weight_zero", np.ones(2, np.int8)), "'classifier.weight_zero' is not the one",
    ),
    "another precision": (precision("float32"), "its node .* is not the one|expected float32"),
    "unknown precision": (precision("int4"), "has metadata that this version"),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_predictor_of_int8_file_changed_and_signed_again_raises(name: str, tmp_path: Path) -> None:
    case = NetworkCase("conv 4 3, relu, conv 3 3, relu, flatten", (8, 8, 1), 2)
    edit, message = EDITS[name]
    path = tmp_path / "m.onnx"
    path.write_bytes(edited(int8_content(case, tmp_path), edit))
    with pytest.raises(ModelFileError, match=message) as caught:
        Predictor(path)
    assert len(str(caught.value).splitlines()) == 1
