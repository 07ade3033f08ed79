"""The tracker that `--log` names."""

from __future__ import annotations

from convscope._extras import require_package
from convscope._reporting import Reporter
from convscope.errors import UsageError
from convscope.integrations.tracking.tracker import Tracker

PACKAGES = {"mlflow": "mlflow", "tensorboard": "tensorboardX"}  # of each tool
EXPECTED = "expected mlflow:URI, such as mlflow:http://localhost:5000, or tensorboard:FOLDER"


def open_tracker(where: str, experiment: str, reporter: Reporter) -> Tracker:
    """The tracker that `--log` names.

    Args:
        where: `mlflow:URI` or `tensorboard:FOLDER`.
        experiment: Under which MLflow lists the runs, or the folder below that of TensorBoard.
        reporter: Where messages go.

    Raises:
        UsageError: It is neither.
        MissingExtraError: The package is not installed.
        ConvscopeError: The server does not answer.
    """
    kind, place = check_where(where)
    if kind == "mlflow":
        from convscope.integrations.tracking.mlflow import MlflowTracker

        return MlflowTracker(place, experiment, reporter)
    from convscope.integrations.tracking.tensorboard import TensorBoardTracker

    return TensorBoardTracker(place, experiment)


def check_where(where: str) -> tuple[str, str]:
    """The tool and the place that `--log` names.

    Raises:
        UsageError: It names none.
        MissingExtraError: The package is not installed.
    """
    kind, _, place = where.partition(":")
    if kind not in PACKAGES or not place:
        raise UsageError(f"--log {where}: {EXPECTED}")
    require_package(PACKAGES[kind], f"--log {kind}")
    return kind, place
