"""Scoring on a Ray cluster of several nodes: the rows of one machine, each once, whatever happens to the nodes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import convscope
from convscope._reporting import Reporter
from convscope.deploy.prediction import to_answer
from convscope.deploy.prepare import BatchOptions
from convscope.deploy.sources.find import find_images
from convscope.deploy.sources.items import PassedOver
from convscope.deploy.sources.read import read_archives
from convscope.errors import ConvscopeError, UsageError
from convscope.integrations.ray import plan, scoring
from convscope.integrations.ray.cluster import check_ray_address
from convscope.integrations.ray.output import encode_answers
from convscope.integrations.ray.scoring import ScoringOptions, predict
from helpers.command import Command

IMAGES, PART = 1200, 32


@pytest.fixture(scope="module")
def model(digits_run: convscope.Run) -> str:
    return str(digits_run.path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as PNGs in two folders; one file is damaged."""
    folder = tmp_path_factory.mktemp("photos")
    digits = convscope.load_data("digits").test.images
    for i in range(IMAGES):
        path = folder / f"{i % 2}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(digits[i % len(digits)][..., 0]).save(path)
    (folder / "1" / "77.png").write_bytes(b"broken")
    return folder


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "IMAGES_PER_PART", PART)


class Watcher(Reporter):
    """Calls a function once, when `at` images are scored."""

    def __init__(self, at: int, then: Callable[[], object]) -> None:
        self._at, self._then = at, then
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def progress(self, task: str, done: int, total: int | None) -> None:  # noqa: ARG002
        if done >= self._at:
            self._at = sys.maxsize
            self._then()


def single_machine(model: str, *sources: str) -> pa.Table:
    """The table that one process makes."""
    passed_over = PassedOver()
    images = read_archives(find_images(sources, passed_over), passed_over)
    outcomes = convscope.Predictor(model).predict_found(images, BatchOptions(25, 64, 2))
    content, _ = encode_answers((to_answer(outcome, 3) for outcome in outcomes), 3)
    return parquet.read_table(pa.BufferReader(content))


@pytest.mark.slow
def test_predict_while_a_node_is_killed_and_one_joins_has_each_row_once(
    cluster: Any, model: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace_node() -> None:
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        cluster.add_node(num_cpus=1)
        cluster.add_node(num_cpus=1)

    watcher = Watcher(200, replace_node)
    monkeypatch.setattr(scoring, "RECOUNT_S", 0.0)
    summary = predict(model, [str(photos)], "answers", reporter=watcher)
    assert parquet.read_table("answers").equals(single_machine(model, str(photos)))
    assert summary.images == sum(summary.nodes.values()) == IMAGES
    assert (summary.statuses["error"], summary.resumed, summary.left_out) == (1, 0, 0)
    assert summary.parts == -(-IMAGES // PART)
    assert len(summary.nodes) >= 2
    assert watcher.messages
    assert all(re.fullmatch(r"the cluster has \d nodes with \d cores now", text) for text in watcher.messages)
    assert json.loads(Path("answers/_SUCCESS").read_text()) == summary.model_dump(mode="json")


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_predict_interrupted_and_called_again_resumes(model: str, photos: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    watcher = Watcher(200, interrupt)
    with pytest.raises(KeyboardInterrupt):
        predict(model, [str(photos)], "answers", reporter=watcher)
    assert watcher.messages == ["answers keeps the answers so far: run the same command again to resume"]
    assert not Path("answers/_SUCCESS").exists()
    first = len(list(Path("answers").glob("part-*")))
    assert first < IMAGES // PART
    with pytest.raises(UsageError, match=r"answers was started with --top-k 3, not 2: use that, or add --force"):
        predict(model, [str(photos)], "answers", options=ScoringOptions(top_k=2))
    Path("answers/part-00000001-0123456789abcdef.parquet").write_bytes(  # of images that are no longer named
        next(Path("answers").glob("part-00000000-*")).read_bytes()
    )
    summary = predict(model, [str(photos)], "answers")
    assert summary.resumed >= 200
    assert summary.left_out == PART
    assert parquet.read_table("answers").equals(single_machine(model, str(photos)))
    with pytest.raises(UsageError, match="answers is complete: choose another name with --out, or add --force"):
        predict(model, [str(photos)], "answers")


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_predict_every_kind_of_source_has_the_rows_of_one_machine(model: str, photos: Path) -> None:
    files = sorted((photos / "0").iterdir())[:70]
    with zipfile.ZipFile("a.zip", "w") as archive:
        for file in files[:9]:
            archive.write(file, file.name)
        archive.writestr("notes.txt", "text")
    contents = [file.read_bytes() for file in files]
    parquet.write_table(pa.table({"image": [*contents, None]}), "b.parquet", row_group_size=10)
    Path("c.png").write_bytes(contents[0])
    sources = ["c.png", "none.png", "a.zip", "b.parquet", str(files[3])]
    watcher = Watcher(sys.maxsize, int)
    summary = predict(model, [*sources, "./c.png"], "answers", reporter=watcher)  # twice, in different parts
    assert parquet.read_table("answers").equals(single_machine(model, *sources))
    assert summary.statuses["error"] == 2
    assert watcher.messages == [
        "passed over 1 file other than images: 1 .txt",
        "1 image named more than once: classified once",
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_predict_node_without_the_files_is_said(model: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "installed_versions", lambda: ("0.0.1", "1", "1", "1"))
    with pytest.raises(ConvscopeError, match=r"the node .* has convscope .*, not 0\.0\.1: install the same versions"):
        predict(model, [str(photos)], "answers")


def test_predict_sources_and_folders_that_cannot_be_used(model: str) -> None:
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    Path("file").write_text("mine")
    for sources, out, message in (
        ([], "new", "expected at least one image"),
        (["-"], "new", "cannot be read on other nodes: leave out --ray"),
        (["s3://key:secret@bucket/a.png"], "new", "with credentials in it"),
        (["a.png"], "s3://key:secret@bucket/a", "with credentials in it"),
        (["a.png"], "full", "full holds other files: choose another name with --out"),
        (["a.png"], "file", "is a file: choose another name with --out"),
    ):
        with pytest.raises(UsageError, match=message):
            predict(model, sources, out)
    assert Path("full/mine.txt").read_text() == "mine"


@pytest.mark.parametrize("address", ["photos", "photos/", "host", "ray://head:10001", "1.2.3.4"])
def test_ray_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"expected local \(this machine\), auto"):
        check_ray_address(address)


def test_ray_addresses_are_accepted() -> None:
    for address in ("local", "auto", "10.0.0.1:6379", "head:6379", "[::1]:6379"):
        check_ray_address(address)


def test_predict_without_ray_names_the_extra(command: Command, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convscope._extras.find_spec", lambda _: None)
    answer = command("predict", model, "a.png", "--ray", "local", "--out", "answers")
    assert answer == (2, "", "convscope: --ray needs the cluster extra: pip install 'convscope[cluster]'\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ray", "local"], "--ray needs --out FOLDER, for the answers"),
        (["--ray", "local", "--out", "a", "--threads", "2"], "leave out --threads"),
        (["--out", "s3://bucket/a.csv"], "--out s3://bucket/a.csv: an address needs --ray"),
        (["--ray", "photos", "--out", "a"], "--ray photos: expected local (this machine), auto"),
    ],
)
def test_predict_ray_option_that_does_not_fit(command: Command, model: str, words: list[str], message: str) -> None:
    answer = command("predict", model, "a.png", *words)
    assert answer.code == 2
    assert message in answer.err


LOCAL = """
import os, sys
from pathlib import Path
import ray
from convscope.integrations.ray.cluster import connected

with connected("local"):
    from ray._common.usage import usage_lib
    from ray._private.worker import global_worker

    def environment(pid):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\\0")

    from threading import Thread
    Thread(target=lambda: print("noise"), name="ray_listen_error_messages").start()
    processes = [process.process.pid for kind in global_worker.node.all_processes.values() for process in kind]
    print(usage_lib.usage_stats_enabled(), bool(global_worker.node.webui_url))
    print(all(b"RAY_USAGE_STATS_ENABLED=0" in environment(pid) for pid in processes), len(processes) > 2)
    print(Path.home().joinpath(".ray/auth_token").exists())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the environments of processes in /proc")
def test_local_cluster_reports_nothing_has_no_dashboard_and_is_quiet(tmp_path: Path) -> None:
    left_out = ("CI", "RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    done = subprocess.run(
        [sys.executable, "-c", LOCAL],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["False", "False", "True", "True", "False"]
