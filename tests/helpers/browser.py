"""A real browser for tests: Debian's Chromium, or Chrome, driven by Playwright."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from helpers.command import required


@contextmanager
def chromium(*flags: str) -> Iterator[Any]:
    """A headless browser; without one the test is skipped, or fails in CI."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None or importlib.util.find_spec("playwright") is None:
        required("the page tests need playwright, and chromium or google-chrome")
    playwright = importlib.import_module("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        common = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        instance = driver.chromium.launch(executable_path=path, args=[*common, *flags])
        yield instance
        instance.close()
