"""How many inputs each test tries: few and always the same in `make test`, other ones in every round of `make fuzz`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

ROUNDS = "CONVSCOPE_FUZZ"  # set by `make fuzz`


def inputs(count: int) -> settings:
    """Decorator of a Hypothesis test: try `count` inputs. All tests of this folder together try some 2,000."""
    return settings(
        max_examples=count,
        derandomize=ROUNDS not in os.environ,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
