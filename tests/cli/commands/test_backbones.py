"""`convscope backbones`: the table, and adding files by command and by download."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save

from convscope.errors import UsageError
from convscope.pretrained.load import load_backbone
from convscope.pretrained.published import PUBLISHED
from helpers.backbones import pth, random_state_dict, with_file
from helpers.command import Command

LITE1 = "efficientnet-lite1"


@pytest.fixture(autouse=True)
def empty_folder(workspace: Path) -> Path:
    """The user's folder of backbones, in the working folder."""
    return workspace / "cache" / "convscope" / "backbones"


@pytest.fixture(scope="module")
def content() -> bytes:
    """A .pth file with random weights of EfficientNet-Lite1."""
    return pth(random_state_dict(PUBLISHED[LITE1]))


@pytest.fixture
def published(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table names this file."""
    monkeypatch.setitem(PUBLISHED, LITE1, with_file(LITE1, content))


def row(text: str, name: str) -> list[str]:
    """The cells of a line of the table."""
    (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
    return line.split()


def test_backbones_lists_what_there_is_and_what_could_be(command: Command) -> None:
    answer = command("backbones")
    assert (answer.code, answer.err) == (0, "")
    expected = [LITE1, "240", "5,416,680", "610", "M", "76.7", "%", "Apache-2.0", "77cc7160", "no", "Google;"]
    assert row(answer.out, LITE1)[: len(expected)] == expected
    assert answer.out.splitlines()[-1].endswith("Add one: convscope backbones add FILE, or NAME --download")


@pytest.mark.slow
@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("words", [[], ["--as", LITE1]])
def test_add_published_file_makes_it_loadable(
    command: Command, content: bytes, empty_folder: Path, words: list[str]
) -> None:
    Path("weights.pth").write_bytes(content)
    answer = command("backbones", "add", "weights.pth", *words)
    path = empty_folder / f"{LITE1}.safetensors"
    assert answer == (0, f"added {LITE1}: {path}\n", "")
    assert load_backbone(LITE1).provenance.license == "Apache-2.0"
    assert "yes" in row(command("backbones").out, LITE1)


def test_missing_published_backbone_says_how_to_get_it(command: Command) -> None:
    answer = command("backbones", "add", "resnet18-f37072fd.pth")
    assert answer.err == (
        "convscope: expected the file of a backbone, but resnet18-f37072fd.pth does not exist: get it, or add one by "
        "--download\n"
    )
    with pytest.raises(UsageError, match=r"^resnet18 is not on this machine: convscope backbones add resnet18-f37072fd."
                       r"pth --as resnet18, or convscope backbones add resnet18 --download$"):  # fmt: skip
        load_backbone("resnet18")


def test_add_run_makes_it_loadable_by_its_new_name(command: Command) -> None:
    assert command("backbones", "add", "run", "--as", "mine").code == 0
    assert load_backbone("mine").architecture == "conv 2 3, relu, flatten"
    values = json.loads(command("backbones", "--json").out)["backbones"][-1]
    weights, biases = 2 * 9, 2
    assert (values["name"], values["parameters"], values["multiply_adds"]) == ("mine", weights + biases, 36 * weights)
    assert "8" in row(command("backbones").out, "mine")


def test_add_state_dict_of_another_training_names_its_network(command: Command) -> None:
    state = random_state_dict(PUBLISHED[LITE1])
    Path("own.safetensors").write_bytes(save(state))
    answer = command("backbones", "add", "own.safetensors", "--network", LITE1, "--as", "own")
    assert answer.code == 0
    found = load_backbone("own")
    assert (found.provenance.license, found.provenance.top1) == (None, None)
    assert found.scale == PUBLISHED[LITE1].scale
    kernels = state["_conv_stem.weight"] * (state["_bn0.weight"] / (state["_bn0.running_var"] + 1e-3).sqrt()).reshape(
        -1, 1, 1, 1
    )
    np.testing.assert_allclose(found.weights["conv1.weight"], kernels.numpy(), rtol=1e-5)


def test_damaged_file_of_an_added_backbone_is_reported_below_the_table(command: Command, empty_folder: Path) -> None:
    command("backbones", "add", "run", "--as", "mine")
    (empty_folder / "mine.safetensors").write_bytes(b"not any more")
    answer = command("backbones")
    assert answer.code == 0
    assert answer.out.splitlines()[-1].startswith(f"{empty_folder}/mine.safetensors: expected a .safetensors file")


def test_added_backbone_is_replaced_only_by_itself(command: Command, empty_folder: Path) -> None:
    command("backbones", "add", "run", "--as", "mine")
    assert command("backbones", "add", str(empty_folder / "mine.safetensors")).code == 0
    Path("own.safetensors").write_bytes(save(random_state_dict(PUBLISHED[LITE1])))
    answer = command("backbones", "add", "own.safetensors", "--network", LITE1, "--as", "mine")
    assert answer.code == 2
    assert answer.err == (
        "convscope: there is another backbone 'mine': choose another name with --as, or remove "
        f"{empty_folder / 'mine.safetensors'}\n"
    )


@pytest.fixture
def server(content: bytes) -> Iterator[str]:
    """The address of a server that has the file."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/models/lite1.pth"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.end_headers()
            self.wfile.write(content if found else b"")

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/models/"
        running.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("published")
def test_download_is_checked_and_kept(
    command: Command, server: str, monkeypatch: pytest.MonkeyPatch, empty_folder: Path
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    good, bad, gone = (
        dataclasses.replace(PUBLISHED[LITE1], url=f"{server}{file}", sha256=digest)
        for file, digest in [("lite1.pth", PUBLISHED[LITE1].sha256), ("lite1.pth", "00000000"), ("none.pth", "")]
    )
    monkeypatch.setitem(PUBLISHED, LITE1, bad)
    answer = command("backbones", "add", LITE1, "--download")
    assert (answer.code, list(empty_folder.iterdir())) == (3, [])
    assert "lite1.pth is not the published file, its SHA-256 is " in answer.err.splitlines()[-1]
    monkeypatch.setitem(PUBLISHED, LITE1, gone)
    answer = command("backbones", "add", LITE1, "--download")
    assert (answer.code, answer.err.splitlines()[-1]) == (
        3, f"convscope: {server}none.pth cannot be downloaded (HTTP 404): try again, or get it with another program",
    )  # fmt: skip
    monkeypatch.setitem(PUBLISHED, LITE1, good)
    assert command("backbones", "add", LITE1, "--download").code == 0
    assert [path.name for path in empty_folder.iterdir()] == [f"{LITE1}.safetensors"]
    assert load_backbone(LITE1).provenance.sha256 == good.sha256
