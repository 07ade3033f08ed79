"""The page's code in Node, one process for all tests of a worker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from helpers.command import required
from helpers.lab_page import NodePage


@pytest.fixture(scope="session")
def node() -> Iterator[NodePage]:
    if shutil.which("node") is None:
        required("the tests of the page need node, version 20 or later")
    with NodePage() as page:
        yield page
