"""`convscope verify` with the page's code in Node."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import convscope
from convscope.api.verify import verify_model
from convscope.deploy.verify import Verification
from convscope.errors import ConvscopeError, UsageError
from convscope.images.read import encode_png
from convscope.lab import runtime
from convscope.lab.bundle import PAGE
from convscope.lab.runtime import node_page, node_problem


@pytest.fixture(autouse=True)
def _node_is_there(node: object) -> None:
    """Skips or fails without node; see `node`."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with three PNG files and one BMP file."""
    pixels = convscope.load_data("digits").test.images[:4]
    for i, one in enumerate(pixels[:3]):
        (tmp_path / f"{i}.png").write_bytes(encode_png(one))
    Image.fromarray(pixels[3][..., 0]).save(tmp_path / "3.bmp")
    return tmp_path


def rows(found: Verification) -> dict[tuple[str, str], tuple[int, bool]]:
    return {(one.second, one.inputs): (one.images, one.passed) for one in found.comparisons}


def test_verify_the_page_agrees_on_png_files(digits_run: convscope.Run, images: Path) -> None:
    found = rows(verify_model(digits_run.path, images))
    assert found["page (PNG)", "images"] == (3, True)
    assert found["page (PNG)", "golden"][1]
    assert found["ONNX Runtime", "images"] == (4, True)


def test_verify_a_page_that_computes_otherwise_fails(
    digits_run: convscope.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page"
    shutil.copytree(PAGE, page)
    pooling = page / "ops" / "reduce.js"
    text = pooling.read_text("utf-8")
    assert "Math.exp" in text
    pooling.write_text(text.replace("Math.exp", "Math.expm1"), "utf-8")
    monkeypatch.setattr(runtime, "PAGE", page)
    found = verify_model(digits_run.path)
    assert not found.passed
    assert [name for (name, _), (_, passed) in rows(found).items() if not passed] == ["page (PNG)"]


def test_verify_without_node_says_so(digits_run: convscope.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    found = verify_model(digits_run.path)
    assert found.passed
    assert "the lab's page: node is not installed" in found.skipped


def test_verify_images_with_one_runtime_is_refused(
    digits_run: convscope.Run, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UsageError, match=r"^nothing to compare .* with on images: name its run folder"):
        verify_model(digits_run.model_file, images)


def test_node_problem_an_old_node_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v18.19.1\n")
    old.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(old))
    assert node_problem() == "it needs node 20, found v18.19.1"


class Block(nn.Module):
    """A residual block of dilated and depthwise convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=2), nn.BatchNorm2d(16), nn.SiLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Hardswish(), nn.Conv2d(16, 8, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x + self.layers(x)
        return result


@pytest.mark.parametrize(
    ("layout", "order", "kind"),
    [("NCHW", "RGB", "logits"), ("NCHW", "BGR", "probabilities"), ("NHWC", "BGR", "logits")],
)
def test_verify_a_foreign_model_is_prepared_by_its_record(tmp_path: Path, layout: str, order: str, kind: str) -> None:
    torch.manual_seed(0)
    last = nn.Softmax(1) if kind == "probabilities" else nn.Identity()
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3), last
    )
    if layout == "NHWC":
        network.insert(0, Transposed())
    shape = (1, 3, 20, 24) if layout == "NCHW" else (1, 20, 24, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), (torch.zeros(shape),), str(tmp_path / "m.onnx"), dynamo=False)
    record = {
        "model": "m.onnx", "classes": ["a", "b", "c"], "height": 20, "width": 24, "channels": 3,
        "mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3], "color_order": order, "layout": layout, "output_kind": kind,
    }  # fmt: skip
    (tmp_path / "m.json").write_text(json.dumps(record))
    (tmp_path / "images").mkdir()
    for i, size in enumerate([(20, 24, 3), (50, 31, 3), (12, 40, 3)]):
        pixels = np.random.default_rng(i).integers(0, 256, size, np.uint8)
        (tmp_path / "images" / f"{i}.png").write_bytes(encode_png(pixels))
    found = verify_model(tmp_path / "m.json", tmp_path / "images", http=False)
    (page,) = found.comparisons
    assert (page.second, page.images, page.passed) == ("page (PNG)", 3, True)
    assert page.max_difference < 1e-5


class Transposed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 3, 1, 2)


def test_node_page_a_damaged_model_is_an_error_with_its_reason(digits_run: convscope.Run, tmp_path: Path) -> None:
    damaged = bytearray(digits_run.model_file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file = tmp_path / "model.onnx"
    file.write_bytes(damaged)
    with pytest.raises(ConvscopeError, match=r"cannot open the model: .*checksum"), node_page(file):
        pytest.fail("it was opened")


def test_node_page_a_damaged_image_is_an_error_with_its_reason(digits_run: convscope.Run) -> None:
    file = encode_png(convscope.load_data("digits").test.images[0])
    with node_page(digits_run.model_file) as page:
        with pytest.raises(ConvscopeError, match="cannot classify an image: "):
            page.classify([file[:40]])
        assert page.classify([file]).shape == (1, 10)
