"""Fixtures for the tests of kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.kernels import VARIANTS, use_variant


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this build and processor in turn."""
    with use_variant(request.param):
        yield request.param
