"""Model files from anyone: whatever convscope did not write is refused before onnxruntime sees it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from convscope import Predictor
from convscope.backends.onnx.metadata import ModelMetadata, digest_entry
from convscope.backends.onnx.read import read_model_file
from convscope.backends.pytorch.models import get_weights
from convscope.errors import ModelFileError
from helpers.model_files import Edit, edited, export, with_metadata
from helpers.networks import (
    ALL_CASES,
    NetworkCase,
    many_examples,
    network_cases,
    random_images,
    random_preprocessing,
    trained_model,
)

CASE = NetworkCase(
    "conv 4 3 pad same, leakyrelu, residual(conv 4 3 pad same, batchnorm), minpool 2, flatten", (6, 8, 3), 5
)
NAMES = ["ape", "bee", "cat", "dog", "eel"]


def model_file(case: NetworkCase, names: list[str]) -> bytes:
    return export(case.network, get_weights(trained_model(case, 0)), random_preprocessing(case, 0), names)


GOOD = model_file(CASE, NAMES)


def metadata(**values: Any) -> str:
    fields = ModelMetadata(
        classes=tuple(NAMES), preprocessing=random_preprocessing(CASE, 0), architecture=CASE.architecture
    ).model_dump(mode="json")
    return json.dumps(fields | values)


def preprocessing(**values: Any) -> str:
    return metadata(preprocessing={**random_preprocessing(CASE, 0).model_dump(mode="json"), **values})


# What is accepted


@pytest.mark.slow
@many_examples
@given(network_cases())
def test_read_model_file_any_exported_network_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, case: NetworkCase
) -> None:
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    path.write_bytes(model_file(case, [str(i) for i in range(case.classes)]))
    assert read_model_file(path).metadata.architecture == case.architecture


@pytest.mark.parametrize("name", ALL_CASES)
def test_read_model_file_every_layer_and_preset_is_accepted(name: str, tmp_path: Path) -> None:
    case, path = ALL_CASES[name], tmp_path / "m.onnx"
    path.write_bytes(model_file(case, [str(i) for i in range(case.classes)]))
    assert read_model_file(path).metadata.input_shape == case.network.input_shape


@pytest.mark.parametrize(
    "name", ["full\u3000width", "a\u200cb", "no\u00a0break", "\U0001f468\u200d\U0001f469", "\u05d0\u200fb", "caf\u00e9"]
)
def test_read_model_file_ordinary_text_in_a_class_name_is_accepted(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(model_file(CASE, [name, *NAMES[1:]]))
    assert read_model_file(tmp_path / "m.onnx").metadata.classes[0] == name


def test_read_model_file_signed_again_without_a_change_is_accepted(tmp_path: Path) -> None:
    """So the changes below are what is refused."""
    (tmp_path / "m.onnx").write_bytes(edited(GOOD, lambda _: None))
    assert (tmp_path / "m.onnx").read_bytes() == GOOD
    (tmp_path / "m.onnx").write_bytes(with_metadata(GOOD, metadata()))
    assert read_model_file(tmp_path / "m.onnx").metadata.classes == tuple(NAMES)


# What is refused


def weight(model: onnx.ModelProto, name: str = "conv1.weight") -> TensorProto:
    found: TensorProto
    (found,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    return found


def set_weight(name: str, values: NDArray[Any]) -> Edit:
    return lambda model: weight(model, name).CopyFrom(numpy_helper.from_array(values, name))


def first(name: str, value: float) -> Edit:
    """Set the first number of some weights."""

    def edit(model: onnx.ModelProto) -> None:
        values = numpy_helper.to_array(weight(model, name)).copy()
        values.flat[0] = value
        set_weight(name, values)(model)

    return edit


def external(location: str) -> Edit:
    """Move weights to another file."""

    def edit(model: onnx.ModelProto) -> None:
        tensor = weight(model)
        onnx.external_data_helper.set_external_data(tensor, location)
        tensor.ClearField("raw_data")

    return edit


def attribute(name: str, value: Any) -> Edit:
    """Give the node `conv1` an attribute more."""

    def edit(model: onnx.ModelProto) -> None:
        (conv,) = (node for node in model.graph.node if node.output[0] == "conv1")
        conv.attribute.append(helper.make_attribute(name, value))

    return edit


def external_in_subgraph(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "c")
    onnx.external_data_helper.set_external_data(tensor, "ext.bin")
    tensor.ClearField("raw_data")
    branch = helper.make_graph([helper.make_node("Identity", ["c"], ["y"])], "b", [], [], [tensor])
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch))


def twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def rank(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.ClearField("dim")


def set_dimension(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"


def other_field(model: onnx.ModelProto) -> None:
    model.functions.add().name = "f"


NOT_THE_ONE, ELSEWHERE = (
    "is not the one that its metadata describe",
    r"its weights are in another file \(external data\)",
)
EDITS: dict[str, tuple[Edit, str]] = {
    "nan": (first("conv1.weight", np.nan), "'conv1.weight' are not all finite numbers, as after a training that"),
    "inf": (first("classifier.bias", np.inf), "'classifier.bias' are not all finite"),
    "nan in the running mean": (first("residual1.body.batchnorm1.running_mean", np.nan), "are not all finite"),
    "nan in the scale": (first("input.scale", np.nan), "'input.scale' are not all finite"),
    "another scale": (first("input.scale", 2.0), f"its constant 'input.scale' {NOT_THE_ONE}"),
    "another mean": (first("input.mean", 9.0), f"its constant 'input.mean' {NOT_THE_ONE}"),
    "external data": (external("ext.bin"), ELSEWHERE),
    "external data above": (external("../ext.bin"), ELSEWHERE),
    "external data at an absolute path": (external("/etc/passwd"), ELSEWHERE),
    "external data in a subgraph": (external_in_subgraph, "has an attribute that convscope does not write"),
    "tensor attribute": (attribute("value", numpy_helper.from_array(np.zeros(2))), "has an attribute that convscope"),
    "float64": (set_weight("conv1.bias", np.zeros(4)), "'conv1.bias' are not of a type"),
    "float data": (
        lambda model: weight(model).CopyFrom(helper.make_tensor("conv1.weight", 1, [1], [1.0])),
        "are stored in a way that convscope does not write",
    ),
    "dimensions that overflow": (lambda model: weight(model).dims.extend([2**62, 2**62]), "not of the size"),
    "negative dimension": (lambda model: weight(model).dims.append(-1), "not of the size"),
    "weights twice": (twice, "appear twice"),
    "weights nobody reads": (
        lambda model: model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "more")),
        "has other nodes or weights than",
    ),
    "missing weights": (lambda model: model.graph.initializer.remove(weight(model, "conv1.bias")), NOT_THE_ONE),
    "weights of another shape": (set_weight("classifier.bias", np.zeros(6, np.float32)), "cannot be run by"),
    "another operator": (
        lambda model: setattr(model.graph.node[5], "op_type", "Relu"), rf"its node '\w+' {NOT_THE_ONE}: LeakyRelu",
    ),
    "operator of another domain": (lambda model: setattr(model.graph.node[0], "domain", "evil"), "has parts that"),
    "another alpha": (lambda model: setattr(model.graph.node[5].attribute[0], "f", 0.5), NOT_THE_ONE),
    "attribute twice": (attribute("group", 4), NOT_THE_ONE),
    "one more node": (
        lambda model: model.graph.node.append(helper.make_node("Neg", ["logits"], ["more"])),
        "has other nodes or weights than",
    ),
    "one node less": (lambda model: model.graph.node.pop(), "has other nodes or weights than"),
    "no nodes": (lambda model: model.graph.ClearField("node"), "has other nodes or weights than"),
    "other wiring": (lambda model: model.graph.node[6].input.__setitem__(0, "images"), NOT_THE_ONE),
    "dynamic height": (set_dimension, "its inputs or outputs are not those"),
    "no shape": (rank, "its inputs or outputs are not those"),
    "another output": (lambda model: model.graph.output.append(model.graph.output[0]), "its inputs or outputs are not"),
    "no output": (lambda model: model.graph.output.pop(), "its inputs or outputs are not those"),
    "functions": (other_field, "its header is not one that convscope writes"),
    "another opset": (lambda model: setattr(model.opset_import[0], "version", 17), "its header is not one"),
    "another opset domain": (lambda model: model.opset_import.add(domain="ai.onnx.ml", version=3), "its header is not"),
    "another IR version": (lambda model: setattr(model, "ir_version", 10), "its header is not one"),
    "metadata twice": (lambda model: model.metadata_props.append(model.metadata_props[0]), "more graphs or metadata"),
    "quantization": (lambda model: model.graph.quantization_annotation.add(tensor_name="x"), "has parts that"),
}  # fmt: skip


def refused(content: bytes, message: str, folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=f"^{re.escape(str(path))} .*(?:{message})") as caught:
        Predictor(path).predict_proba(random_images(CASE, 1))
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("name", EDITS)
def test_predictor_of_file_changed_and_signed_again_raises(name: str, tmp_path: Path) -> None:
    edit, message = EDITS[name]
    refused(edited(GOOD, edit), message, tmp_path)


METADATA: dict[str, tuple[str, str]] = {
    "duplicate class": (metadata(classes=["ape", "bee", "ape", "dog", "eel"]), "two classes have the same name"),
    "no class": (metadata(classes=[]), "classes: tuple should have at least 1 item"),
    "newline in a class": (metadata(classes=["ape\nconvscope: forged", *NAMES[1:]]), "contains control characters"),
    "escape in a class": (metadata(classes=["\x1b[31m", *NAMES[1:]]), "a class name contains control characters"),
    "C1 control in a class": (metadata(classes=["\x9b31m", *NAMES[1:]]), "a class name contains control characters"),
    "line separator in a class": (metadata(classes=["a\u2028b", *NAMES[1:]]), "a class name contains control"),
    "override in a class": (metadata(classes=["a\u202eb", *NAMES[1:]]), "a class name contains control characters"),
    "surrogate in a class": (metadata(classes=["\ud800", *NAMES[1:]]), "cannot read"),
    "class that is a number": (metadata(classes=[1, *NAMES[1:]]), "classes.0: input should be a valid string"),
    "other architecture": (metadata(architecture="conv 8 3, relu, flatten"), NOT_THE_ONE),
    "no architecture": (metadata(architecture=""), "cannot be used"),
    "architecture that does not fit": (metadata(architecture="conv 4 9, flatten"), "cannot be used: .*conv 4 9"),
    "huge architecture": (metadata(architecture="conv 4 3, " * 100_000 + "flatten"), "exceed the limit"),
    "nested architecture": (metadata(architecture="residual(" * 9_000), "cannot be used"),
    "other size": (preprocessing(height=7), "is not the one|not those that"),
    "other scale": (preprocessing(scale=[1.0] * 3), f"'input.scale' {NOT_THE_ONE}"),
    "NaN": (preprocessing().replace('"height": 6', '"height": NaN'), "cannot read"),
    "digits": (preprocessing().replace('"height": 6', f'"height": {"9" * 5_000}'), "cannot read"),
    "nested": ("[" * 100_000, "cannot read"),
    "no JSON": ("{", "cannot read"),
    "huge": ('{"format": 1, "' + "x" * 2_000_000 + '": 1}', "cannot read"),
}


@pytest.mark.parametrize("name", METADATA)
def test_predictor_of_other_metadata_raises(name: str, tmp_path: Path) -> None:
    text, message = METADATA[name]
    refused(with_metadata(GOOD, text), message, tmp_path)


def test_predictor_of_metadata_that_is_no_utf8_raises(tmp_path: Path) -> None:
    text = with_metadata(GOOD, metadata(classes=["@@@", *NAMES[1:]]))
    model = onnx.load_from_string(text)
    del model.metadata_props[1:]
    changed = model.SerializeToString().replace(b"@@@", b"\xff\xfe@")
    refused(changed + digest_entry(changed), "cannot read", tmp_path)


# Checksum


@pytest.mark.parametrize("offset", [3, 200, 1000, 2500, len(GOOD) - 300, len(GOOD) - 100, len(GOOD) - 1])
def test_predictor_of_flipped_bit_raises(offset: int, tmp_path: Path) -> None:
    refused(
        GOOD[:offset] + bytes([GOOD[offset] ^ 1]) + GOOD[offset + 1 :],
        "altered|not a readable|not written by",
        tmp_path,
    )


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_read_model_file_of_any_other_byte_raises(
    tmp_path_factory: pytest.TempPathFactory, offset: int, change: int
) -> None:
    refused(
        GOOD[:offset] + bytes([GOOD[offset] ^ change]) + GOOD[offset + 1 :],
        "altered|not a readable|not written by",
        tmp_path_factory.mktemp("model"),
    )


@given(st.binary(max_size=200))
def test_read_model_file_of_random_bytes_raises(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    refused(content, "not a readable|not written by|altered", tmp_path_factory.mktemp("model"))


def test_predictor_of_file_without_checksum_raises(tmp_path: Path) -> None:
    model = onnx.load_from_string(GOOD)
    model.metadata_props.pop()
    refused(model.SerializeToString(), "was altered: its content does not match its checksum", tmp_path)


def test_predictor_of_pipe_or_device_raises(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    for path in (tmp_path / "model.onnx", Path("/dev/zero")):
        with pytest.raises(ModelFileError, match=f"but {path} is not a file"):
            Predictor(path)


def test_predictor_weights_that_overflow_raise(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(edited(GOOD, set_weight("classifier.weight", np.full((5, 48), 3e38, np.float32))))
    with pytest.raises(ModelFileError, match="computes values that are not finite"):
        Predictor(path).predict_proba(random_images(CASE, 4))
