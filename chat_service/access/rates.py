"""Rate limits: how many messages a user, or an address, may send in a period of time."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from ipaddress import IPv6Address, IPv6Network

from limits import RateLimitItem

from daca_shared.addresses import host_in
from daca_shared.domain import LimitReached

# Bounds the memory: if there are more users or addresses, the first of them are forgotten.
_MAX_WINDOWS = 100_000


class Rates:
    def __init__(
        self, user: Sequence[RateLimitItem] = (), address: Sequence[RateLimitItem] = ()
    ) -> None:
        self._user = [_Rate(item, "this user") for item in user]
        self._address = [_Rate(item, "this address") for item in address]

    def spend(self, user_id: str, address: str | None = None) -> None:
        """Count one message against all limits. Raises `LimitReached`, and then counts nothing."""
        limits = [(rate, user_id) for rate in self._user]
        if address:
            limits += [(rate, _network(address)) for rate in self._address]
        # All are checked first: a message that one refuses must not count in the others.
        windows = [rate.window(key) for rate, key in limits]
        for (rate, key), (end, count) in zip(limits, windows, strict=True):
            rate.windows[key] = end, count + 1


class _Rate:
    """Counts in windows of equal length. Each begins with a message, so the oldest ends first."""

    def __init__(self, item: RateLimitItem, whose: str) -> None:
        self._item = item
        self._whose = whose
        # When each key's window ends, and how many messages are in it. Not a dict, which finds its
        # oldest key only by walking over all the entries that were deleted before it.
        self.windows = OrderedDict[str, tuple[float, int]]()

    def window(self, key: str) -> tuple[float, int]:
        """The window for one more message. Raises `LimitReached` if it is full."""
        now = time.monotonic()
        while self.windows:
            oldest = next(iter(self.windows))
            if self.windows[oldest][0] > now and len(self.windows) < _MAX_WINDOWS:
                break
            del self.windows[oldest]
        end, count = self.windows.get(key) or (now + self._item.get_expiry(), 0)
        if count >= self._item.amount:
            problem = f"Too many messages from {self._whose}: at most {self._item}"
            raise LimitReached(problem, code="RATE_LIMIT", retry_after_s=end - now)
        return end, count


def _network(address: str) -> str:
    """What is limited: an IPv4 address, or the /64 of an IPv6 one, which has a single owner."""
    ip = host_in(address)
    if isinstance(ip, IPv6Address):
        return str(IPv6Network((int(ip), 64), strict=False))
    return str(ip) or address
