"""The network of the lessons: trained once, again if it is damaged, and not at all without the training extra."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from convscope import Predictor, Run
from convscope._reporting import Reporter
from convscope.api import lab

pytestmark = pytest.mark.slow


class Messages(Reporter):
    def __init__(self) -> None:
        self.found: list[str] = []

    def message(self, text: str) -> None:
        self.found.append(text)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lab, "cache_folder", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_lesson_run_is_trained_once_and_again_if_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = Messages()
    path = lab.lesson_run(messages)
    assert path is not None
    predictor = Predictor(path)
    assert predictor.classes == tuple("0123456789")
    assert predictor.metadata.architecture.startswith("conv 32 3")
    with monkeypatch.context() as patch:
        patch.setattr(lab, "_train", lambda _: pytest.fail("it is there"))
        assert lab.lesson_run(messages) == path
    model = path / "model.onnx"
    content = model.read_bytes()
    shutil.copytree(path, path.parent / "copy")
    model.write_bytes(content[:-100])
    monkeypatch.setattr(lab, "_train", lambda run: shutil.copytree(path.parent / "copy", run))
    assert lab.lesson_run(messages) == path
    assert model.read_bytes() == content
    assert len(messages.found) == 2
    assert all("training a small network" in text for text in messages.found)


def test_lesson_run_without_the_training_extra_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "find_spec", lambda _: None)
    messages = Messages()
    assert lab.lesson_run(messages) is None
    assert messages.found == ["the lessons come without a network: pip install 'convscope[train]' trains a small one"]


@pytest.mark.usefixtures("interruptible")
def test_learn_serves_the_page_at_its_lessons(cache: Path, digits_run: Run) -> None:
    shutil.copytree(digits_run.path, cache / "convscope" / "learn" / "digits")
    command = [sys.executable, "-m", "convscope", "learn", "--no-open", "--json"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout
        assert run.stderr
        text = "".join(iter(run.stdout.readline, "}\n")) + "}"
        url = json.loads(text)["url"]
        assert url.endswith("/#learn")
        with urlopen(url.replace("#learn", "samples.json"), timeout=30) as reply:
            assert len(json.load(reply)["samples"]) > 50
        run.send_signal(signal.SIGINT)
        assert "Traceback" not in run.stderr.read()
        assert run.wait(20) == 130
