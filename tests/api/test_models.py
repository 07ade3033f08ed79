"""The cost of a network on a data set: the shape comes from the data, and every unknown name is reported."""

from __future__ import annotations

from typing import Any

import pytest

from convscope.api.models import model_cost
from convscope.errors import DataError, UsageError


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"architecture": "lenet5", "data": "digits"}, UsageError, "needs feature maps of at least 5x5, got 4x4"),
        ({"architecture": "smal"}, UsageError, "unknown preset 'smal'"),
        ({"architecture": "small", "data": "digist"}, DataError, "unknown data set 'digist', did you mean 'digits'"),
        ({"architecture": "small", "recipe": "quick"}, UsageError, "unknown recipe 'quick'"),
    ],
)
def test_model_cost_unknown_name_raises(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        model_cost(**arguments)
