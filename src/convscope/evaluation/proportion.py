"""Fractions with their confidence intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convscope._records import Record
from convscope._statistics import wilson
from convscope._text import percent


class Proportion(Record):
    """A fraction, such as an accuracy, 0..1, with its 95 % Wilson interval."""

    accuracy: float
    interval: tuple[float, float]

    @property
    def text(self) -> str:
        """For example `94.02 % (93.54 to 94.47)`."""
        return f"{percent(self.accuracy)} ({interval_text(self.interval)})"


def proportion(hits: NDArray[np.bool_]) -> Proportion:
    """The fraction of hits, bool (n,), n at least 1, with its interval."""
    count = int(hits.sum())
    return Proportion(accuracy=count / len(hits), interval=wilson(count, len(hits)))


def interval_text(interval: tuple[float, float]) -> str:
    """For example `93.54 to 94.47`, in percent."""
    return " to ".join(percent(bound).removesuffix(" %") for bound in interval)
