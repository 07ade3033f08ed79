"""The files of a page, read once."""

from __future__ import annotations

from pathlib import Path

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def read_files(folder: Path) -> dict[str, tuple[bytes, str]]:
    """Content and media type of the pages, styles and scripts in a folder, by relative path; `index.html` is ""."""
    files = {
        path.relative_to(folder).as_posix(): (path.read_bytes(), f"{TYPES[path.suffix]}; charset=utf-8")
        for path in folder.rglob("*")
        if path.suffix in TYPES
    }
    files[""] = files.pop("index.html")
    return files
