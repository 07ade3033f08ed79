"""The page's code in Node, one process for all tests of a worker; and the page in Chromium."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import convscope
from convscope.lab.server import serve_page
from helpers.browser import chromium
from helpers.command import required
from helpers.lab_page import NodePage


@pytest.fixture(scope="session")
def node() -> Iterator[NodePage]:
    if shutil.which("node") is None:
        required("the tests of the page need node, version 20 or later")
    with NodePage() as page:
        yield page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as instance:
        yield instance


@pytest.fixture(scope="module")
def url(digits_run: convscope.Run) -> str:
    """The address of the lab with a network for digits, in a thread of this process."""
    started: list[str] = []
    ready = threading.Event()

    def show(address: str) -> None:
        started.append(address)
        ready.set()

    content = digits_run.model_file.read_bytes()
    threading.Thread(target=serve_page, args=(0, digits_run.model_file, content, show), daemon=True).start()
    assert ready.wait(20)
    return started[0]
