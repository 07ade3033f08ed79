"""The files below a folder as a tree, without what operating systems, editors and earlier trainings leave there."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Set
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from unicodedata import normalize

IGNORED_NAMES = {  # in lower case; names that start with a dot are ignored too
    "thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "system volume information",
    "lost+found", "__pycache__", "mlruns", "wandb", "lightning_logs",
}  # fmt: skip
IMAGE_SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pbm", ".pnm",
    ".heic", ".heif", ".avif", ".dcm", ".tga", ".jp2",
}  # fmt: skip
OTHER_SUFFIXES = {
    ".bib", ".bin", ".cfg", ".csv", ".doc", ".docx", ".h5", ".hdf5", ".htm", ".html", ".ini", ".ipynb", ".json",
    ".jsonl", ".log", ".mat", ".md", ".ndjson", ".npy", ".npz", ".onnx", ".parquet", ".pb", ".pdf", ".pkl", ".pt",
    ".pth", ".py", ".rst", ".rtf", ".safetensors", ".sh", ".sql", ".tex", ".toml", ".tsv", ".txt", ".url", ".xls",
    ".xlsx", ".xml", ".yaml", ".yml",
}  # fmt: skip
OTHER_NAMES = ("readme", "license", "licence", "copying", "makefile", "changelog", "authors", "citation")
RUN_FILES = (  # that a folder written by a training holds, of convscope or another program
    {"config.json", "metrics.jsonl"},
    {"config.json", "manifest.json"},
    {"config.json", "checkpoints"},
    {"args.yaml"},
    {"hparams.yaml"},
)


@dataclass(eq=False)  # equal if the same, whatever is inside
class Folder:
    """A folder with what it contains.

    Attributes:
        name: its own name, in Unicode's normal form NFC.
        path: its path below the folder that was scanned, with "/" between folders; "" for that folder itself.
        files: names of its files, sorted.
        folders: its folders, sorted by name.
        runs: paths of the folders inside that hold the results of a training, and are left out.
        is_class: whether it is known to be a class folder, by its name.
    """

    name: str
    path: str
    files: list[str] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    is_class: bool = False

    @cached_property
    def has_images(self) -> bool:
        """Whether a file in it may be an image, to judge by its name."""
        return any(map(may_be_image, self.files)) or any(folder.has_images for folder in self.folders)

    @cached_property
    def is_empty(self) -> bool:
        """Whether it holds no files at all, and nothing was left out."""
        return not (self.files or self.runs) and all(folder.is_empty for folder in self.folders)

    @property
    def image_folders(self) -> list[Folder]:
        """Its folders that may hold images."""
        return [folder for folder in self.folders if folder.has_images]

    @property
    def has_own_images(self) -> bool:
        """Whether images are directly in it, to judge by their suffixes."""
        return any(is_image_name(name) for name in self.files)

    @property
    def is_flat(self) -> bool:
        """Whether no folder in it may hold images."""
        return not self.image_folders

    def walk(self) -> Iterator[str]:
        """The paths of all files in it, at any depth."""
        yield from (self.join(name) for name in self.files)
        for folder in self.folders:
            yield from folder.walk()

    def all_runs(self) -> Iterator[str]:
        """The paths of all folders in it, at any depth, that hold the results of a training."""
        yield from self.runs
        for folder in self.folders:
            yield from folder.all_runs()

    def join(self, name: str) -> str:
        """The path of something in it."""
        return f"{self.path}/{name}" if self.path else name


def scan_folder(path: Path, classes: Collection[str] = ()) -> Folder:
    """The tree below a folder; links are followed, but not back to a folder above.

    Args:
        path: the folder.
        classes: names of folders that are known to be classes.

    Raises:
        OSError: a folder cannot be read.
    """
    folder = _scan(path, Folder(path.name, ""), frozenset())
    _mark_classes(folder, {normalize("NFC", name) for name in classes})
    return folder


def unwrap(folder: Folder) -> Folder:
    """The folder inside folders that contain only one folder of folders, as archives often do."""
    while True:
        inner = folder.image_folders
        blocked = folder.has_own_images or any(one.is_empty for one in folder.folders)
        if len(inner) != 1 or blocked or not inner[0].image_folders or _is_class(inner[0]):
            return folder
        folder = inner[0]


def inner_folders(folder: Folder) -> list[Folder]:
    """The folders of images inside, behind wrappers such as train/train."""
    return unwrap(folder).image_folders


def names_of(folders: Iterable[Folder]) -> set[str]:
    return {folder.name for folder in folders}


def may_be_image(name: str) -> bool:
    """Whether a file may be an image: its name does not say that it is something else."""
    lower = name.lower()
    if ".tfevents." in lower or os.path.splitext(lower)[1] in OTHER_SUFFIXES:  # noqa: PTH122  many names
        return False
    return not (lower.startswith(OTHER_NAMES) and not is_image_name(name))


def is_image_name(name: str) -> bool:
    """Whether a file's name says that it is an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122  many names


def _scan(root: Path, folder: Folder, above: frozenset[str]) -> Folder:
    real = os.path.realpath(root / folder.path)
    if real in above:
        return folder
    with os.scandir(root / folder.path) as entries:
        found = sorted((entry.name, _is_folder(entry)) for entry in entries if not is_ignored(entry.name))
    folder.files = [name for name, is_folder in found if not is_folder]
    for name in (name for name, is_folder in found if is_folder):
        inner = _scan(root, Folder(normalize("NFC", name), folder.join(name)), above | {real})
        if is_run({*inner.files, *(one.name for one in inner.folders)}):
            folder.runs.append(inner.path)
        else:
            folder.folders.append(inner)
    return folder


def _mark_classes(folder: Folder, classes: Set[str]) -> None:
    for one in folder.folders:
        one.is_class = one.name in classes
        _mark_classes(one, classes)


def _is_class(folder: Folder) -> bool:
    """Whether a folder is known to be a class, and not only named like one of the classes inside."""
    return folder.is_class and not all(one.is_class for one in folder.image_folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_ignored(name: str) -> bool:
    """Whether a file or folder is never part of a data set: hidden, or left by a system or another program."""
    return name.startswith(".") or name.lower() in IGNORED_NAMES


def is_run(names: Set[str]) -> bool:
    """Whether a folder that contains files and folders of these names holds the results of a training."""
    return any(marks <= names for marks in RUN_FILES) or any("events.out.tfevents" in name for name in names)
