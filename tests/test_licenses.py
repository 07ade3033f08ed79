"""License files of the two distributions, which are built from different folders."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_native_license_equals_license() -> None:
    assert (ROOT / "native" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("part", ["nanobind", "tsl::robin_map", "Eigen"])
def test_native_notice_names_compiled_in_software(part: str) -> None:
    assert part in (ROOT / "native" / "NOTICE").read_text("utf-8")
