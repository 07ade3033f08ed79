"""The lab's page of a server: `/lab/` in Chromium, its headers, and what a token protects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import convscope
from convscope.deploy.server.options import TOKEN_VARIABLE
from convscope.lab.server import HEADERS
from helpers.browser import chromium
from helpers.serving import RunningServer, serving

TOKEN = "a-token-of-the-tests-0123456789"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as instance:
        yield instance


def test_page_is_served_with_its_headers_and_the_model(server: RunningServer, digits_run: convscope.Run) -> None:
    page = server.request("GET", "/lab/")
    assert page.status == 200
    assert b"convscope lab" in page.body
    assert {name: page.headers[name.lower()] for name in HEADERS} == HEADERS
    assert server.request("GET", "/lab").headers["location"] == "/lab/"
    script = server.request("GET", "/lab/network/session.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert server.request("GET", "/lab/model.onnx").body == digits_run.model_file.read_bytes()
    assert server.request("HEAD", "/lab/lab.css").body == b""


@pytest.mark.parametrize(
    "path", ["/lab/nothing.js", "/lab/index.html", "/lab/../lab.css", "/lab/%2e%2e/server.py", "/labs"]
)
def test_page_other_paths_are_problems(server: RunningServer, path: str) -> None:
    reply = server.request("GET", path)
    assert (reply.status, reply.headers["content-type"]) == (404, "application/problem+json")
    assert reply.headers["content-security-policy"].startswith("default-src 'none'; frame-ancestors")


def test_page_can_be_linked_to_but_not_read_from_elsewhere(server: RunningServer) -> None:
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert server.request("GET", "/lab/", headers=elsewhere | {"Sec-Fetch-Mode": "navigate"}).status == 200
    assert server.request("GET", "/lab/", headers=elsewhere | {"Sec-Fetch-Mode": "no-cors"}).status == 403
    model = server.request("GET", "/lab/model.onnx", headers=elsewhere | {"Sec-Fetch-Mode": "navigate"})
    assert model.status == 403


def test_page_without_lab_is_not_there(digits_run: convscope.Run) -> None:
    with serving(digits_run.model_file, "--no-lab") as server:
        assert server.request("GET", "/lab/").status == 404


@pytest.mark.slow
def test_page_answers_in_the_browser(server: RunningServer, browser: Any) -> None:
    page = browser.new_page()
    page.goto(f"{server.info['url']}/lab")
    page.wait_for_selector(".verdict", timeout=20_000)
    assert page.locator("lab-layer").count() > 5
    page.close()


@pytest.mark.slow
def test_page_asks_for_the_token(digits_run: convscope.Run, browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with serving(digits_run.model_file) as server:
        assert server.request("GET", "/lab/").status == 200
        assert server.request("GET", "/lab/model.onnx").status == 401
        answers = ["wrong", TOKEN]
        page = browser.new_page()
        page.on("dialog", lambda dialog: dialog.accept(answers.pop(0)))
        page.goto(f"{server.info['url']}/lab/")
        page.wait_for_selector(".verdict", timeout=20_000)
        assert answers == []
        page.close()
