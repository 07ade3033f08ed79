"""One server for the tests that do not stop it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

import convscope
from convscope.images.read import encode_png
from helpers.serving import RunningServer, serving

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # the server runs on Linux and macOS


@pytest.fixture(scope="session")
def server(digits_run: convscope.Run) -> Iterator[RunningServer]:
    """A server of the digits model."""
    with serving(digits_run.model_file, "--max-body-mb", "1", "--max-images", "8", "--max-megapixels", "1") as running:
        yield running


@pytest.fixture(scope="session")
def digit_files() -> list[bytes]:
    """Ten PNG files of digits."""
    images = convscope.load_data("digits").test.images[:10]
    return [encode_png(image) for image in images]
