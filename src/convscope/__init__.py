"""Train, see, trust and ship convolutional image classifiers, on the CPU you already have.

Every public name is loaded when it is first used, so that predicting needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convscope.architecture import parse as parse_network
    from convscope.data import Dataset
    from convscope.data import load as load_data
    from convscope.errors import ConvscopeError
    from convscope.estimator import ConvClassifier
    from convscope.evaluate import Evaluation
    from convscope.experiment import evaluate_run, train_model
    from convscope.infer import Prediction, Predictor
    from convscope.inspection import explain_picture
    from convscope.layers import Network
    from convscope.models import build as build_model
    from convscope.recipes import Recipe
    from convscope.resume import resume_run, train_more
    from convscope.runs import Run, open_run

__all__ = [
    "ConvClassifier",
    "ConvscopeError",
    "Dataset",
    "Evaluation",
    "Network",
    "Prediction",
    "Predictor",
    "Recipe",
    "Run",
    "build_model",
    "evaluate_run",
    "explain_picture",
    "load_data",
    "open_run",
    "parse_network",
    "resume_run",
    "train_model",
    "train_more",
]

_HOMES = {
    "ConvClassifier": "estimator",
    "ConvscopeError": "errors",
    "Dataset": "data",
    "Evaluation": "evaluate",
    "Network": "layers",
    "Prediction": "infer",
    "Predictor": "infer",
    "Recipe": "recipes",
    "Run": "runs",
    "build_model": "models.build",
    "evaluate_run": "experiment",
    "explain_picture": "inspection",
    "load_data": "data.load",
    "open_run": "runs",
    "parse_network": "architecture.parse",
    "resume_run": "resume",
    "train_model": "experiment",
    "train_more": "resume",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'convscope' has no attribute {name!r}")
    module, _, inner = _HOMES[name].partition(".")
    return getattr(import_module(f"convscope.{module}"), inner or name)


def __dir__() -> list[str]:
    return __all__
