"""Metrics of the user's own."""

from __future__ import annotations

import re

import numpy as np
import pytest

from convscope.errors import ConvscopeError
from convscope.training.metrics import compute_metrics


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_compute_metrics_value_not_finite_raises(value: float) -> None:
    message = re.escape(f"metric 'odd' returned {value}: expected a finite number")
    with pytest.raises(ConvscopeError, match=f"^{message}$"):
        compute_metrics({"odd": lambda *_: value}, np.zeros((2, 3), np.float32), np.zeros(2, np.int64))
