"""Retries of model requests that can't become a storm: one more try helps after a dropped
connection, but doubles the load of a host in trouble, so retries come out of a budget."""

import time

from agents import ModelRetryBackoffSettings, ModelRetrySettings, RetryPolicyContext, retry_policies

_BURST = 5
_REFILL_PER_S = 0.1


class RetryBudget:
    """A token bucket: five retries at once, then one in ten seconds."""

    def __init__(self) -> None:
        self._tokens, self._updated = float(_BURST), time.monotonic()

    def __call__(self, context: RetryPolicyContext) -> bool:
        """Take a retry out of the budget, if one is left."""
        now = time.monotonic()
        self._tokens = min(_BURST, self._tokens + (now - self._updated) * _REFILL_PER_S)
        self._updated = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def one_retry() -> ModelRetrySettings:
    """One retry a request, if the host's answer allows it and the budget has one left."""
    policy = retry_policies.all(retry_policies.provider_suggested(), RetryBudget())
    backoff = ModelRetryBackoffSettings(initial_delay=0.2, jitter=True)
    return ModelRetrySettings(max_retries=1, policy=policy, backoff=backoff)
