"""Train, inspect, verify and deploy convolutional image classifiers, on the CPU you already have.

Every public name is loaded when it is first used, so that predicting needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from convscope._extras import needs_extra

if TYPE_CHECKING:
    from convscope.api.evaluate import evaluate_run
    from convscope.api.explain import explain_image
    from convscope.api.export import export_model
    from convscope.api.resume import resume_run, train_more
    from convscope.api.train import train_model
    from convscope.api.tuning.cross_validation import cross_validate
    from convscope.api.tuning.search import resume_search, search_model
    from convscope.api.verify import verify_model
    from convscope.backends.pytorch.models import build_model
    from convscope.data.dataset import Dataset
    from convscope.data.load import load_data as load_data
    from convscope.deploy.prediction import Prediction
    from convscope.deploy.predictor import Predictor
    from convscope.errors import ConvscopeError
    from convscope.evaluation.metrics import Evaluation
    from convscope.integrations.sklearn import ConvClassifier
    from convscope.network.build import parse_network
    from convscope.network.network import Network
    from convscope.runs.folder import Run, open_run
    from convscope.training.callbacks import Callback
    from convscope.training.recipe import AugmentationConfig, OptimizerConfig, Recipe, SelectionConfig, StoppingConfig
    from convscope.training.schedule import ScheduleConfig

    __version__: str

__all__ = [
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

_HOMES = {
    "AugmentationConfig": "training.recipe",
    "Callback": "training.callbacks",
    "ConvClassifier": "integrations.sklearn",
    "ConvscopeError": "errors",
    "Dataset": "data.dataset",
    "Evaluation": "evaluation.metrics",
    "Network": "network.network",
    "OptimizerConfig": "training.recipe",
    "Prediction": "deploy.prediction",
    "Predictor": "deploy.predictor",
    "Recipe": "training.recipe",
    "Run": "runs.folder",
    "ScheduleConfig": "training.schedule",
    "SelectionConfig": "training.recipe",
    "StoppingConfig": "training.recipe",
    "build_model": "backends.pytorch.models:build_model",
    "cross_validate": "api.tuning.cross_validation",
    "evaluate_run": "api.evaluate",
    "explain_image": "api.explain",
    "export_model": "api.export",
    "load_data": "data.load:load_data",
    "open_run": "runs.folder",
    "parse_network": "network.build:parse_network",
    "resume_run": "api.resume",
    "resume_search": "api.tuning.search",
    "search_model": "api.tuning.search",
    "train_model": "api.train",
    "train_more": "api.resume",
    "verify_model": "api.verify",
}
_RENAMED = {"explain_picture": "explain_image"}  # old names that still work


if not TYPE_CHECKING:  # a type checker reports misspelled names only if it does not see this

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            return import_module("importlib.metadata").version("convscope")
        name = _RENAMED.get(name, name)
        if name not in _HOMES:
            raise AttributeError(f"module 'convscope' has no attribute {name!r}")
        module, _, inner = _HOMES[name].partition(":")
        with needs_extra(name):
            return getattr(import_module(f"convscope.{module}"), inner or name)


def __dir__() -> list[str]:
    return __all__
