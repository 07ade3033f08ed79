"""Issues about folders and files that no class is made of."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from convscope._text import list_some, pluralize
from convscope.data.audit.issue import Issue
from convscope.data.folders.names import split_of
from convscope.data.folders.tree import Folder, is_image_name


def left_out_folders(base: Folder) -> Iterable[Issue]:
    """Issues about folders at the top that hold no images, or the results of a training."""
    if runs := sorted(base.all_runs()):
        text = f"{pluralize(len(runs), 'folder')} with results of a training: {list_some(runs)}"
        yield Issue(kind="run-folder", level="note", text=text, action="passed over")
    yield from _without_images(base.folders)


def annotation_folders(folders: list[Folder]) -> Iterable[Issue]:
    """Issues about folders of annotations."""
    yield from _without_images(folders)
    if found := [folder for folder in folders if folder.has_images]:
        files = tuple((file,) for folder in found for file in folder.walk())
        where = list_some(folder.path for folder in found)
        text = f"{pluralize(len(files), 'file')} in {where}, named like annotations"
        yield Issue(kind="passed-over", level="warning", text=text, action="not used", files=files)


def annotation_files(files: Collection[str]) -> Iterable[Issue]:
    """An issue about files of annotations next to images."""
    if files:
        text = f"{pluralize(len(files), 'file')} named like annotations of other images"
        found = tuple((file,) for file in sorted(files))
        yield Issue(kind="passed-over", level="warning", text=text, action="not used", files=found)


def _without_images(folders: list[Folder]) -> Iterable[Issue]:
    if found := [one.path for one in folders if not (one.is_empty or one.has_images) and any(True for _ in one.walk())]:
        text = f"{pluralize(len(found), 'folder')} without images: {list_some(sorted(found))}"
        yield Issue(kind="no-images", level="note", text=text, action="passed over")


def unused_folders(folders: list[Folder], what: str, advice: str) -> Iterable[Issue]:
    for folder in folders:
        files = tuple((file,) for file in folder.walk())
        text = f"{pluralize(len(files), 'file')} in {folder.name}, {what}"
        yield Issue(kind="passed-over", level="warning", text=text, action="not used", advice=advice, files=files)


def empty_folders(folders: list[Folder]) -> Iterable[Issue]:
    if empty := [folder.name for folder in folders if folder.is_empty]:
        text = f"{pluralize(len(empty), 'empty folder')}: {list_some(empty)}"
        yield Issue(kind="empty-folder", level="warning", text=text, action="passed over")


def loose_images(folders: Iterable[Folder]) -> Iterable[Issue]:
    """Issues about images next to the folders that were expected instead."""
    for folder in folders:
        if files := tuple((folder.join(name),) for name in folder.files if is_image_name(name)):
            text = f"{pluralize(len(files), 'file')} directly in {folder.path}, outside the folders in it"
            yield Issue(kind="passed-over", level="warning", text=text, action="not used", files=files)


def nested_folders(top: list[Folder]) -> Iterable[Issue]:
    if nested := [folder.join(one.name) for folder in top for one in folder.image_folders]:
        text = f"{pluralize(len(nested), 'folder')} inside the class folders: {list_some(nested)}"
        yield Issue(kind="nested-folders", level="note", text=text, action="read as part of their class")
    if any(split_of(folder.name) for folder in top):
        names = list_some(folder.name for folder in top if split_of(folder.name))
        yield Issue(kind="split-name", level="note", text=f"a folder called {names}", action="read as a class")
