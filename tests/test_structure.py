"""The shape of the code: small rooms, short signatures, and none of the words that only this project used."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import convscope

PACKAGE = Path(convscope.__file__).parent
ROOT = Path(__file__).parents[1]
MAX_PARAMETERS, MAX_MODULES, MAX_LINES = 7, 12, 400
LONG_MODULES = {"reference.py"}  # the textbook reads as one text

# Identifiers of before, whose meaning nobody could guess; each has a name of the field's own now.
OLD_NAMES = [
    "course",
    "standing",
    "go_on",
    "settle",
    "first_stage",
    "chain_twin",
    "winner",
    "beside",
    "beside_epoch",
    "surely",
    "hold_out",
    "size_share",
    "classifier_share",
    "rest_learning_rate",
    "bias_learning_rate",
    "fixed_norms",
    "matrix_decay",
    "least_steps",
    "crop_area",
    "shift_pixels",
    "validation_share",
    "warmup_share",
    "augmented_test",
    "predict_read",
    "GlobalMean",
    "GlobalLargest",
    "FlattenRowsFirst",
    "UnevenPad",
    "PaddedConv",
    "Fitted",
    "Checked",
    "Detected",
    "Standing",
    "Course",
    "_Placer",
    "PLACE",
    "optimiser",
    "colour",
    "grey",
    "normalise",
    "standardise",
    "read_picture",
    "picture",
    "pictures",
]
# Files that quote an old name on purpose: what still leads from it to the new one, and the list above.
QUOTES = {"src/convscope/__init__.py", "tests/test_imports.py", "tests/test_structure.py", "CHANGELOG.md"}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text("utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """The names of a function's parameters, without self and cls."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def sources() -> list[Path]:
    """Everything that people read, apart from the log, which quotes what was."""
    folders = ("src", "tests", "docs", "native/src", "native/convscope_native", "native/tests", "benchmarks")
    endings = {".py", ".pyi", ".cpp", ".h", ".md", ".html"}
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in endings]
    return [*found, *ROOT.glob("*.md")]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_is_short_and_its_functions_take_few_parameters(path: Path) -> None:
    wide = {function.name: parameters(function) for function in functions(path)}
    assert {name: given for name, given in wide.items() if len(given) > MAX_PARAMETERS} == {}
    if path.name not in LONG_MODULES:
        assert len(path.read_text("utf-8").splitlines()) <= MAX_LINES


def test_folders_hold_few_modules() -> None:
    folders = [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir() and path.name != "__pycache__")]
    counts = {str(folder): len([path for path in folder.glob("*.py") if path.stem[:2] != "__"]) for folder in folders}
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}


def test_old_names_are_gone() -> None:
    pattern = re.compile(rf"(?<![\w.-])({'|'.join(OLD_NAMES)})(?![\w-])")
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources()
        if str(path.relative_to(ROOT)) not in QUOTES
        for name in pattern.findall(path.read_text("utf-8"))
    }
    assert found == set()


def test_this_scan_counts_every_kind_of_parameter() -> None:
    (function,) = ast.parse("def f(self, a, /, b, *rest, c, **more): ...").body
    assert isinstance(function, ast.FunctionDef)
    assert parameters(function) == ["a", "b", "c"]


def test_no_file_that_git_ignores_is_committed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    assert subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout == ""
