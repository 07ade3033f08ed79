"""The audit of a folder, as a record and as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from convscope.api.filter import FilterResult
from convscope.api.inspect import DatasetView
from convscope.data.audit.report import AuditReport, audit_images
from convscope.data.options import LoadOptions
from convscope.errors import DataError
from helpers.images import animals, noise, write_images
from helpers.reporting import FailingReporter


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded images go into the test's folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_audit_images_counts_files_and_splits(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set", animals() | {"cat/copy.png": noise(0)})
    report = audit_images(folder, LoadOptions(), FailingReporter())
    assert [(row.name, row.files, row.used) for row in report.classes] == [("cat", 7, 6), ("dog", 6, 6)]
    assert report.splits == {"train": 10, "test": 2}
    assert report.input == "12x12 color, letterbox, mixed background"
    assert report.problem is None
    (duplicate,) = (issue for issue in report.model_dump(mode="json")["issues"] if issue["kind"] == "duplicate")
    assert duplicate == {
        "kind": "duplicate",
        "level": "note",
        "text": "1 image with duplicate files",
        "action": "one file of each is used",
        "advice": "",
        "files": [["cat/0.png", "cat/copy.png"]],
    }


def test_audit_images_unusable_folder_has_a_problem(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "set", animals(3))
    report = audit_images(folder, LoadOptions(), FailingReporter())
    assert report.splits == {}
    assert str(report.problem).startswith(f"{folder}: too few images in cat (3), dog (3): expected 5 or more usable")


def test_audit_images_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="no such file or folder; expected a folder with one folder of images per class"
    ):
        audit_images(tmp_path / "none", LoadOptions(), FailingReporter())


@pytest.mark.parametrize("record", [AuditReport, DatasetView, FilterResult])
def test_results_have_a_json_schema(record: type[AuditReport]) -> None:
    schema = record.model_json_schema(mode="serialization")
    assert schema["type"] == "object"
    assert "rows" not in schema.get("$defs", {}).get("Issue", {}).get("properties", {})
