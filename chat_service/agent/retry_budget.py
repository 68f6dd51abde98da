"""Retries of model requests that can't become a storm.

One more try helps against a dropped connection. Against an ailing host it doubles the load
that ails it, so retries come out of a budget that refills slowly.
"""

import time
from collections.abc import Callable

from agents import ModelRetrySettings, RetryPolicyContext, retry_policies

_BURST = 5
_REFILL_PER_S = 0.1


class RetryBudget:
    """A token bucket: five retries at once, then one in ten seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._tokens = float(_BURST)
        self._updated = now()

    def __call__(self, context: RetryPolicyContext) -> bool:
        """Take a retry out of the budget, if one is left."""
        now = self._now()
        self._tokens = min(_BURST, self._tokens + (now - self._updated) * _REFILL_PER_S)
        self._updated = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def one_retry() -> ModelRetrySettings:
    """One retry a request of what the host's answer says may be retried, within the budget."""
    policy = retry_policies.all(retry_policies.provider_suggested(), RetryBudget())
    return ModelRetrySettings(
        max_retries=1, policy=policy, backoff={"initial_delay": 0.2, "jitter": True}
    )
