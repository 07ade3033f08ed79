"""The page's code in Node, one process for all tests of a worker; and the page in Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

import convscope
from helpers.browser import chromium
from helpers.command import required
from helpers.lab_browser import serve
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
    """The address of the lab with a network for digits."""
    return serve(digits_run.model_file.read_bytes())
