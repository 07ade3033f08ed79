"""Imports point one way, torch stays out of predicting, the public names are the promised ones, nothing is pickled."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest

import convscope

ROOT = Path(convscope.__file__).parent

# Rooms in the order in which they may import each other: the way data flows in the design.
ROOMS = [
    "errors", "_text", "_records", "_reporting", "_extras", "_files", "_storage", "_cgroups", "_hardware",
    "_statistics", "_workers", "reference", "images", "network", "backends", "data", "pretrained", "training",
    "evaluation", "runs", "report", "deploy", "lab", "api", "integrations", "cli",
]  # fmt: skip

# What these load must not be among what comes with [train]: predicting does without it, and is quick.
WITHOUT_TRAINING = (
    "", ".deploy.predictor", ".cli.main", ".cli.format_data", ".cli.format_evaluation", ".cli.format_models",
    ".cli.format_prediction", ".cli.format_training", ".runs.folder", ".network.presets", ".api.evaluate",
    ".api.filter", ".api.inspect", ".data.load", ".data.audit.report", ".pretrained.load",
)  # fmt: skip
HEAVY = ("torch", "sklearn", "matplotlib", "onnx", "tensorboardX", "scipy", "ray", "fsspec")


def module_name(path: Path) -> str:
    """`architecture`, `data.idx`, `data`; the package itself is the empty name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


SOURCES = {module_name(path): ast.parse(path.read_text("utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Every import in the file, those inside functions and for type checking too: (module, name or nothing)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they point"
            yield from ((str(node.module), alias.name) for alias in node.names)


def inner_imports(tree: ast.Module) -> set[str]:
    """convscope's own modules that the file imports."""
    found = set()
    for module, name in imported(tree):
        package, _, inner = module.partition(".")
        if package == "convscope":
            longer = f"{inner}.{name}".strip(".")
            found.add(longer if longer in SOURCES else inner)
    return found


def room(module: str) -> str:
    """`data` for `data.formats.idx`; the package itself, whose names lead everywhere, is the empty name."""
    return module.partition(".")[0]


def test_rooms_all_modules_are_listed() -> None:
    assert {room(name) for name in SOURCES} == {*ROOMS, "", "__main__"}


@pytest.mark.parametrize("name", [name for name in SOURCES if room(name) in ROOMS])
def test_imports_of_module_follow_room_order(name: str) -> None:
    above = ROOMS[: ROOMS.index(room(name)) + 1]
    assert {room(other) for other in inner_imports(SOURCES[name])} <= set(above)


@pytest.mark.parametrize("name", ROOMS)
def test_imports_inside_room_have_no_circle(name: str) -> None:
    graph = {module: inner_imports(tree) for module, tree in SOURCES.items() if room(module) == name}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError


def test_the_scan_sees_every_kind_of_import() -> None:
    text = """
import convscope.training.loop
from convscope import reference, Run
from convscope.data.load import load_data
if TYPE_CHECKING:
    from convscope.data.formats.idx import read_idx
def late():
    from convscope.backends.onnx.export import to_onnx
    import numpy
"""
    assert inner_imports(ast.parse(text)) == {
        "training.loop", "reference", "", "data.load", "data.formats.idx", "backends.onnx.export",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHOUT_TRAINING)
def test_torch_and_its_companions_stay_out(name: str) -> None:
    code = f"import sys, convscope{name}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


@pytest.mark.slow
def test_this_way_of_asking_would_see_torch() -> None:
    code = f"import sys, convscope.backends.pytorch.models; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "torch" in done.stdout.split()


@pytest.mark.parametrize(("package", "place"), [("ray", "integrations.ray"), ("fsspec", "_storage")])
def test_packages_of_the_cluster_extra_are_imported_in_one_place(package: str, place: str) -> None:
    names = {name for name, tree in SOURCES.items() for module, _ in imported(tree) if module.split(".")[0] == package}
    assert names
    assert all(f"{name}.".startswith(f"{place}.") for name in names)


PUBLIC = [
    "AugmentationConfig",
    "Callback",
    "ConvClassifier",
    "ConvscopeError",
    "Dataset",
    "Evaluation",
    "Network",
    "OptimizerConfig",
    "Prediction",
    "Predictor",
    "Recipe",
    "Run",
    "ScheduleConfig",
    "SelectionConfig",
    "StoppingConfig",
    "build_model",
    "cross_validate",
    "evaluate_run",
    "explain_image",
    "export_model",
    "load_data",
    "open_run",
    "parse_network",
    "resume_run",
    "resume_search",
    "search_model",
    "train_model",
    "train_more",
    "verify_model",
]


def test_the_public_names_are_these() -> None:
    assert convscope.__all__ == PUBLIC == sorted(PUBLIC)
    assert dir(convscope) == PUBLIC


HOMES = {
    "AugmentationConfig": "convscope.training.recipe.AugmentationConfig",
    "Callback": "convscope.training.callbacks.Callback",
    "ConvClassifier": "convscope.integrations.sklearn.ConvClassifier",
    "ConvscopeError": "convscope.errors.ConvscopeError",
    "Dataset": "convscope.data.dataset.Dataset",
    "Evaluation": "convscope.evaluation.metrics.Evaluation",
    "Network": "convscope.network.network.Network",
    "OptimizerConfig": "convscope.training.recipe.OptimizerConfig",
    "Prediction": "convscope.deploy.prediction.Prediction",
    "Predictor": "convscope.deploy.predictor.Predictor",
    "Recipe": "convscope.training.recipe.Recipe",
    "Run": "convscope.runs.folder.Run",
    "ScheduleConfig": "convscope.training.schedule.ScheduleConfig",
    "SelectionConfig": "convscope.training.recipe.SelectionConfig",
    "StoppingConfig": "convscope.training.recipe.StoppingConfig",
    "build_model": "convscope.backends.pytorch.models.build_model",
    "cross_validate": "convscope.api.tuning.cross_validation.cross_validate",
    "evaluate_run": "convscope.api.evaluate.evaluate_run",
    "explain_image": "convscope.api.explain.explain_image",
    "export_model": "convscope.api.export.export_model",
    "load_data": "convscope.data.load.load_data",
    "open_run": "convscope.runs.folder.open_run",
    "parse_network": "convscope.network.build.parse_network",
    "resume_run": "convscope.api.resume.resume_run",
    "resume_search": "convscope.api.tuning.search.resume_search",
    "search_model": "convscope.api.tuning.search.search_model",
    "train_model": "convscope.api.train.train_model",
    "train_more": "convscope.api.resume.train_more",
    "verify_model": "convscope.api.verify.verify_model",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_what_it_says_and_is_explained(name: str) -> None:
    found = getattr(convscope, name)
    module, _, home = HOMES[name].rpartition(".")
    assert found is getattr(importlib.import_module(module), home)
    assert f"{found.__module__}.{found.__qualname__}" == HOMES[name]
    assert found.__doc__


def test_type_checkers_see_the_same_names() -> None:
    tree = SOURCES[""]
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    names = {
        alias.asname or alias.name for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert names == set(PUBLIC)


def test_public_name_misspelled_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'convscope' has no attribute 'train_modle'"):
        getattr(convscope, "train_modle")  # noqa: B009


def test_public_name_of_before_leads_to_the_new_one() -> None:
    assert convscope.explain_picture is convscope.explain_image  # type: ignore[attr-defined]


def test_version_is_that_of_the_installed_package() -> None:
    assert convscope.__version__ == metadata.version("convscope")


@pytest.mark.slow
def test_public_name_misspelled_is_reported_by_mypy(tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text("import convscope\nconvscope.train_model\nconvscope.train_modle\n")
    command = [sys.executable, "-m", "mypy", "--no-incremental", "--follow-imports=silent", "snippet.py"]
    environment = {**os.environ, "MYPYPATH": str(ROOT.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = (line for line in done.stdout.splitlines() if "snippet.py" in line)
    assert 'snippet.py:3: error: Module has no attribute "train_modle"' in line


PICKLING_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
PICKLING_CALLS = {"torch.save", "torch.load", "torch.jit.load", "pd.read_pickle", "pandas.read_pickle"}


def pickling(tree: ast.Module) -> list[str]:
    """What in a file could read or write a pickle."""
    found = [module for module, _ in imported(tree) if module.split(".")[0] in PICKLING_MODULES]
    found += [f"{module}.{name}" for module, name in imported(tree) if f"{module}.{name}" in PICKLING_CALLS]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in PICKLING_CALLS:
            found.append(ast.unparse(node))
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            found.append(ast.unparse(node))
        if isinstance(node, ast.Constant) and node.value in PICKLING_MODULES:
            found.append(str(node.value))  # import_module("pickle")
    return found


# State dicts of others are pickles. Torch reads them without building anything but tensors, in a process with limits.
STATE_DICT_WORKER = "pretrained.pth_worker"


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_is_pickled(name: str) -> None:
    assert pickling(SOURCES[name]) == (["torch.load"] if name == STATE_DICT_WORKER else [])


def test_state_dicts_are_read_in_a_process_of_their_own_and_only_tensors() -> None:
    (call,) = (
        node
        for node in ast.walk(SOURCES[STATE_DICT_WORKER])
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    )
    assert {word.arg: ast.unparse(word.value) for word in call.keywords}["weights_only"] == "True"
    assert [name for name, tree in SOURCES.items() if STATE_DICT_WORKER in inner_imports(tree)] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "def late():\n    import shelve",
        "import torch\ntorch.save(model, 'model.pt')",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trusted)",
        "import_module('marshal')",
    ],
)
def test_the_scan_sees_every_kind_of_pickling(line: str) -> None:
    assert pickling(ast.parse(line))
