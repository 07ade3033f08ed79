"""State dicts become backbones with the features of the original network; hostile and wrong ones are refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from convscope.backends.pytorch.models import build_model
from convscope.errors import DataError, MissingExtraError
from convscope.network.build import parse_network
from convscope.pretrained import state_dict
from convscope.pretrained.backbone import Provenance
from convscope.pretrained.names import TORCHVISION, timm_names
from convscope.pretrained.published import IMAGENET_MEAN, IMAGENET_STD, PUBLISHED
from convscope.pretrained.state_dict import import_published, import_state_dict, read_state_dict
from helpers.backbones import as_pixels, features_of, pth, random_state_dict, relative_error, with_file
from helpers.efficientnet_lite import DEPTHS, lite_features

OWN = Provenance(license=None, source="a test", sha256="0" * 64, training_data="nothing")
LITE0 = PUBLISHED["efficientnet-lite0"]
State = dict[str, Tensor]


@pytest.mark.slow
@pytest.mark.parametrize("name", DEPTHS)
def test_lite_with_random_weights_has_the_features_of_the_original(name: str) -> None:
    state = random_state_dict(PUBLISHED[name])
    backbone = import_state_dict(PUBLISHED[name], save(state), OWN)
    images = np.random.default_rng(0).integers(0, 256, (4, 70, 70, 3), np.uint8)
    with torch.inference_mode():
        expected = lite_features(as_pixels(images), state, name).numpy()
    assert expected.std() > 0.05
    assert relative_error(features_of(backbone, images), expected) < 1e-4


def original_features(line: str, weights: Mapping[str, Tensor], images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features of a network with its batch normalization, whose input is (pixel / 255 - mean) / std."""
    model = build_model(parse_network(line, images.shape[1:], 1000)).eval()
    model.load_state_dict(dict(weights))
    x = as_pixels(images) / 255 - torch.tensor(IMAGENET_MEAN).reshape(3, 1, 1)
    with torch.inference_mode():
        found: NDArray[np.float32] = model[:-1](x / torch.tensor(IMAGENET_STD).reshape(3, 1, 1)).numpy()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("name", TORCHVISION)
def test_published_with_random_weights_has_the_features_of_the_network(name: str, library: str) -> None:
    published = PUBLISHED[name]
    names, line = published.names(name), published.backbone.architecture
    state = random_state_dict(published)
    weights = {ours: state[theirs].reshape(published.network.tensors[ours]) for ours, theirs in names.items()}
    if library == "timm":
        state = {timm_names(name)[ours]: tensor for ours, tensor in weights.items()}
        line = line.replace(" eps 0.001", "")  # only MobileNetV3 has it in torchvision
    images = np.random.default_rng(0).integers(0, 256, (4, 70, 70, 3), np.uint8)
    expected = original_features(line, weights, images)
    assert expected.std() > 0.01
    assert relative_error(features_of(import_state_dict(published, save(state), OWN), images), expected) < 1e-4


@pytest.mark.parametrize(
    ("name", "top1", "parameters"),
    [
        ("efficientnet-b0", 0.77692, 5_288_548),
        ("mobilenetv2", 0.72154, 3_504_872),
        ("mobilenetv3-small", 0.67668, 2_542_856),
        ("mobilenetv3-large", 0.75274, 5_483_032),
        ("resnet18", 0.69758, 11_689_512),
        ("regnet-x-400mf", 0.74864, 5_495_976),
    ],
)
def test_published_row_is_that_of_torchvision(name: str, top1: float, parameters: int) -> None:
    published = PUBLISHED[name]
    assert (published.top1, published.network.parameters) == (top1, parameters)
    assert published.sha256.startswith(published.file.rpartition("-")[2].removesuffix(".pth"))
    assert published.url == f"https://download.pytorch.org/models/{published.file}"
    assert np.allclose(np.array(published.scale) * 255 * IMAGENET_STD, 1)
    assert np.allclose(np.array(published.mean) * IMAGENET_STD, IMAGENET_MEAN)


@pytest.mark.slow
@pytest.mark.parametrize("legacy", [True, False])
def test_pth_gives_the_same_backbone_as_safetensors(legacy: bool) -> None:
    state = random_state_dict(LITE0)
    expected = import_state_dict(LITE0, save(state), OWN)
    found = import_published(with_file("efficientnet-lite0", pth(state, legacy)), pth(state, legacy))
    assert found.architecture == expected.architecture
    assert found.provenance.top1 == LITE0.top1
    for name, array in expected.weights.items():
        np.testing.assert_array_equal(found.weights[name], array)


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


def changed(name: str, tensor: Tensor) -> Callable[[State], State]:
    return lambda state: state | {name: tensor}


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (
            without("_conv_head.weight"),
            "expected a tensor '_conv_head.weight', but it has none: it is another network$",
        ),
        (changed("extra.weight", torch.ones(3)), "it has a tensor 'extra.weight' that was not expected: .*another net"),
        (changed("_bn0.bias", torch.ones(3)), "expected '_bn0.bias' of 32, got 3: it is another network$"),
        (changed("_bn0.bias", torch.full((32,), torch.nan)), "its weights 'conv1.bias' are not all finite numbers$"),
    ],
)
def test_state_dict_of_another_network_is_refused(alter: Callable[[State], State], message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        import_state_dict(LITE0, save(alter(random_state_dict(LITE0))), OWN)


def test_state_dict_without_counts_of_batches_is_accepted() -> None:
    state = {key: tensor for key, tensor in random_state_dict(LITE0).items() if tensor.shape}
    assert import_state_dict(LITE0, save(state), OWN).weights


def test_other_file_than_the_published_one_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_dict, "read_state_dict", None)
    message = f"^expected {LITE0.file} with the SHA-256 {LITE0.sha256}, got [0-9a-f]{{64}}: get the original file$"
    with pytest.raises(DataError, match=message):
        import_published(LITE0, b"something else")


class Malicious:
    """Its pickle makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.slow
@pytest.mark.parametrize("legacy", [True, False])
def test_malicious_pickle_does_not_run(tmp_path: Path, legacy: bool) -> None:
    folder = tmp_path / "made"
    content = pth({"weight": Malicious(folder)}, legacy)
    with pytest.raises(DataError, match=r"^it is damaged, or holds more than plain tensors: get the original file$"):
        read_state_dict(content)
    assert not folder.exists()
    torch.load(BytesIO(content), weights_only=False)  # it would have worked
    assert folder.is_dir()


def giant() -> bytes:
    """Four bytes that claim to be a tensor of 4.4 GB."""
    return pth({"weight": torch.zeros(1).expand(1_100_000_000)})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"not a pickle", "it is damaged, or holds more than plain tensors"),
        (pth({"weight": torch.ones(1000)})[:-900], "it is damaged, or holds more than plain tensors"),
        (pth([torch.ones(3)]), "it holds more than a state dict: names and plain tensors"),
        (pth({"epoch": 3, "weight": torch.ones(3)}), "it holds more than a state dict: names and plain tensors"),
        (pth({"weight": torch.ones(3).to_sparse()}), "can.t convert Sparse layout tensor to numpy.*"),
        (giant(), "Unable to allocate 4.10 GiB .*"),
        (save({"weight": torch.ones(100)})[:-7], "it is a truncated or damaged safetensors file"),
    ],
    ids=["empty", "text", "truncated", "list", "checkpoint", "sparse", "giant", "safetensors"],
)  # fmt: skip
def test_damaged_or_other_file_is_refused_in_one_line(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}: get the original file$"):
        read_state_dict(content)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_floats_of_any_precision_become_float32(kind: torch.dtype) -> None:
    found = read_state_dict(pth({"weight": torch.tensor([0.5, -3], dtype=kind), "count": torch.tensor(7)}))
    assert {name: str(array.dtype) for name, array in found.items()} == {"weight": "float32", "count": "int64"}
    assert found["weight"].tolist() == [0.5, -3]


def test_process_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_dict, "TIMEOUT_S", 0.01)
    with pytest.raises(DataError, match=r"^the process that was to read it took longer than 0.01 s: get the original"):
        read_state_dict(pth({"weight": torch.ones(3)}))


def test_pth_without_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convscope._extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"^reading a .pth file needs the training extra: pip install 'convsc"):
        read_state_dict(b"\x80\x02")
