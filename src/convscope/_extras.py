"""Packages that `pip install convscope` alone does not bring, and the extras that bring them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from convscope.errors import MissingExtraError

_TRAIN = ("torch", "sklearn", "scipy", "matplotlib", "onnx", "tensorboardX")
_SERVE = ("fastapi", "starlette", "uvicorn", "h11", "python_multipart", "prometheus_client")
_CLUSTER = ("ray", "fsspec")
EXTRAS = {
    **dict.fromkeys(_TRAIN, "train"),
    **dict.fromkeys(_SERVE, "serve"),
    **dict.fromkeys(_CLUSTER, "cluster"),
    "pyarrow": "parquet",
    "mlflow": "mlflow",
}  # imported name -> extra


@contextmanager
def needs_extra(feature: str) -> Iterator[None]:
    """Report a missing package of an extra as such; a missing package of any other kind stays a ModuleNotFoundError.

    Args:
        feature: What the user asked for, such as the name of a command.

    Raises:
        MissingExtraError: The block imported a package of an extra that is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in EXTRAS or sys.modules.get(package):  # an installed package that lacks a module is a bug
            raise
        raise _missing(feature, EXTRAS[package]) from error


def require_package(package: str, feature: str) -> None:
    """Raise MissingExtraError if a package of an extra is not installed; does not import it.

    Args:
        package: The name it is imported by, one of `EXTRAS`.
        feature: What the user asked for, such as the name of a command.
    """
    if find_spec(package) is None:
        raise _missing(feature, EXTRAS[package])


def _missing(feature: str, extra: str) -> MissingExtraError:
    title = {"train": "training", "serve": "server"}.get(extra, extra)
    return MissingExtraError(f"{feature} needs the {title} extra: pip install 'convscope[{extra}]'")
