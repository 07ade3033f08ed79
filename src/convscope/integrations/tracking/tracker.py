"""The interface of tracking tools, and the callback that records a training with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from convscope.runs.config import RunConfig
from convscope.training.callbacks import Callback, Trainer
from convscope.training.state import EpochMetrics

if TYPE_CHECKING:
    from convscope.api.tuning.search_folder import SearchConfig, StoredTrial
    from convscope.runs.folder import Run


class Tracker:
    """Base class of the tools; one run at a time is open. A training that goes on has the name that it had before."""

    def begin(self, name: str, parameters: Mapping[str, str]) -> None:
        """Open a run.

        Args:
            name: Of the run; one of that name is continued.
            parameters: How it is trained.
        """
        raise NotImplementedError

    def add(self, epoch: EpochMetrics) -> None:
        """Record an epoch of the open run."""
        raise NotImplementedError

    def end(self, results: Mapping[str, float]) -> None:
        """Record final results, and close the run."""
        raise NotImplementedError

    def add_trial(self, config: SearchConfig, stored: StoredTrial) -> None:
        """Record a finished trial of a search as a run.

        Args:
            config: Of the search.
            stored: The trial.
        """
        trial = stored.trial
        name = f"{config.data}-{config.created:%Y%m%d-%H%M%S} trial {trial.number} rung {trial.rung + 1}"
        parameters = {"recipe": trial.recipe, "model": trial.model, "differs by": trial.configuration.text}
        self.begin(name, parameters | ({"error": trial.error} if trial.error else {}))
        for row in stored.epochs:
            self.add(EpochMetrics(**{name: value for name, value in row if name in EpochMetrics.__annotations__}))
        self.end({} if trial.error else {"accuracy": trial.accuracy, "loss": trial.loss})


class TrackRun(Callback):
    """Records a training: its parameters, its epochs, and at last its test results.

    Args:
        tracker: The tool.
        config: Of the training.
    """

    def __init__(self, tracker: Tracker, config: RunConfig) -> None:
        self.tracker = tracker
        name = f"{config.dataset.name}-{config.model}-{config.created:%Y%m%d-%H%M%S}"
        tracker.begin(name, run_parameters(config))

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Record the epoch."""
        self.tracker.add(trainer.result.history[-1])

    def finish(self, run: Run) -> None:
        """Record the results on the test split, unless training was interrupted."""
        found = run.evaluation
        self.tracker.end({"test_accuracy": found.accuracy, "test_loss": found.loss} if found else {})


def run_parameters(config: RunConfig) -> dict[str, str]:
    """What decides how a network is trained, as short texts."""
    recipe = config.recipe
    return {
        "data": config.dataset.name,
        "model": config.model,
        "recipe": recipe.name,
        "epochs": str(config.epochs),
        "batch_size": str(recipe.batch_size),
        "optimizer": recipe.optimizer.name,
        "learning_rate": f"{recipe.optimizer.learning_rate:g}",
        "precision": config.precision,
        "seed": str(config.seed),
        "init": config.init.backbone.name if config.init else "random",
    }
