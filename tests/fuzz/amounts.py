"""The number of examples that fuzz tests try."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

FULL = os.environ.get("DACA_FAULTS") == "full"
"""Whether to run for minutes with new input each time; else for seconds, always with the same."""


def amount(*, short: int, full: int) -> Callable[[Any], Any]:
    """Settings that limit the number of examples for a property."""
    return settings(
        max_examples=full if FULL else short,
        derandomize=not FULL,
        database=None,
        # A busy machine may be slow, and generated requests may be large.
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
