"""The page's files: small, checked by tools, bundled into one that works from disk, served with a strict policy."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.message import Message
from pathlib import Path
from typing import NamedTuple

import pytest

import convscope
from convscope.errors import UsageError
from convscope.lab.bundle import PAGE, bundle_page, bundle_script
from convscope.lab.server import serve_page
from helpers.command import Command, required

ROOT = Path(__file__).parents[2]
SOURCES = sorted(PAGE.rglob("*.js"))
MAX_LINES, MAX_MODULES = 400, 12
MAX_PAGE_BYTES = 150_000


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PAGE).as_posix())
def test_module_is_short_and_loads_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    assert not re.search(r"(?<!// )https?://(?!protobuf\.dev)", text)
    assert "eval(" not in text
    assert "innerHTML" not in text


def test_folders_hold_few_modules() -> None:
    folders = [PAGE, *(path for path in PAGE.iterdir() if path.is_dir())]
    assert {
        folder.name: len(list(folder.glob("*.js")))
        for folder in folders
        if len(list(folder.glob("*.js"))) > MAX_MODULES
    } == {}


def test_page_has_no_inline_script_or_style() -> None:
    html = (PAGE / "index.html").read_text("utf-8")
    assert re.findall(r"<script[^>]*>", html) == [
        '<script type="module" src="samples.js">',
        '<script type="module" src="app.js">',
    ]
    assert "<style" not in html
    assert not re.search(r"\s(style|on\w+)=", html)


def test_bundle_is_below_its_size() -> None:
    assert len(bundle_page().encode()) < MAX_PAGE_BYTES


def test_bundle_with_samples_has_them_and_their_script() -> None:
    name = "</script><script>alert(1)</script>"
    page = bundle_page(b"a model", "x", {"samples": [{"name": name, "label": 0, "file": ""}], "note": ""})
    found = re.search(r'<script id="lab-samples" type="application/json">(.*?)</script>', page)
    assert found
    assert json.loads(found[1])["samples"][0]["name"] == name
    assert page.count("</script>") == 5
    assert '"lab-samples"' in page.split('id="lab-samples"')[1]
    assert (
        page.index('id="lab-samples"') < page.index('customElements.define("lab-samples"') < page.index('"lab-answer"')
    )


def test_bundle_is_one_file_with_the_model_inside() -> None:
    page = bundle_page(b"a model", 'a "model"')
    assert '<script id="lab-model" type="text/plain" data-name="a &quot;model&quot;">YSBtb2RlbA==</script>' in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count("</script>") == 3
    assert "lab-model" not in bundle_page().replace('"lab-model"', "")


@pytest.mark.parametrize("entry", ["app.js", "worker.js"])
def test_bundled_script_has_each_module_once_and_no_import(entry: str) -> None:
    script = bundle_script(entry)
    assert not re.search(r"^(import|export)\b", script, re.MULTILINE)
    names = re.findall(r"(\$\d+)=\[", script)
    assert len(names) == len(set(names)) > 3
    assert "/**" not in script


def test_sources_pass_the_type_check_and_the_linter() -> None:
    npm = shutil.which("npm")
    if npm is None or not (ROOT / "lab" / "node_modules").is_dir():
        required("needs npm, and: npm ci --prefix lab")
    done = subprocess.run(
        [str(npm), "run", "-s", "check"], cwd=ROOT / "lab", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# The server


@contextmanager
def served(*arguments: object) -> Iterator[int]:
    """The port of `convscope lab` in a process of its own; Ctrl-C ends it without a traceback."""
    command = [sys.executable, "-m", "convscope", "lab", *map(str, arguments), "--no-open"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        line = process.stderr.readline()
        found = re.fullmatch(r"the lab is at http://127\.0\.0\.1:(\d+)/ \(Ctrl-C stops\)\n", line)
        assert found, line
        yield int(found[1])
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(20) == 130
        process.stderr.close()
        assert "Traceback" not in rest


class Reply(NamedTuple):
    """What the server answered."""

    status: int
    headers: Message
    body: bytes


def fetch(port: int, path: str, method: str = "GET", host: str = "") -> Reply:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return Reply(answer.status, answer.headers, answer.read())


@pytest.mark.usefixtures("interruptible")
def test_lab_serves_the_page_and_the_model_with_a_strict_policy(digits_run: convscope.Run) -> None:
    with served(digits_run.path) as port:
        page = fetch(port, "/")
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert page.body == (PAGE / "index.html").read_bytes()
        policy = page.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert policy.startswith("default-src 'none'; script-src 'self';")
        script = fetch(port, "/images/png.js?x=1")
        assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert script.headers["X-Content-Type-Options"] == "nosniff"
        model = fetch(port, "/model.onnx")
        assert model.body == digits_run.model_file.read_bytes()
        assert model.headers["X-Model-Name"] == "run/model.onnx"
        assert fetch(port, "/", "HEAD").body == b""
        for path in ("/../server.py", "/server.py", "/%2e%2e/server.py", "/missing"):
            assert fetch(port, path).status == 404
        assert fetch(port, "/", "POST").status == 501
        assert fetch(port, "/", host="evil.example").status == 421
        assert fetch(port, "/", host=f"localhost:{port}").status == 200


@pytest.mark.usefixtures("interruptible")
def test_lab_without_a_model_serves_the_page_alone() -> None:
    with served() as port:
        assert fetch(port, "/").status == 200
        assert fetch(port, "/model.onnx").status == 404


@pytest.mark.usefixtures("interruptible")
def test_lab_of_a_port_in_use_is_refused() -> None:
    with served() as port, pytest.raises(UsageError, match=f"port {port} cannot be used .* choose another --port"):
        serve_page(port, None, None, lambda _: None)


def test_lab_of_a_missing_model_is_refused(command: Command) -> None:
    answer = command("lab", "missing.onnx", "--no-open")
    assert answer.code == 4
    assert answer.err == "convscope: expected a run folder or a model.onnx, but missing.onnx does not exist\n"
