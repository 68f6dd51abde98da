"""How much is tried."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

FULL = os.environ.get("DACA_FAULTS") == "full"
"""Whether to take minutes and new input each time; else seconds, and the same each time."""


def amount(*, short: int, full: int) -> Callable[[Any], Any]:
    """How many examples a property is tried with."""
    return settings(
        max_examples=full if FULL else short,
        derandomize=not FULL,
        database=None,
        # Servers take turns on a busy machine, and generated requests may be large.
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
