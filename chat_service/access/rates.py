"""How many messages a user, and an address, may send in a time."""

import time
from collections.abc import Sequence
from ipaddress import IPv6Address, IPv6Network, ip_address

from limits import RateLimitItem
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from daca_shared.domain import LimitReached


class Rates:
    """The limits of all users and addresses."""

    def __init__(
        self, user: Sequence[RateLimitItem] = (), address: Sequence[RateLimitItem] = ()
    ) -> None:
        self._user = [_Rate(item) for item in user]
        self._address = [_Rate(item) for item in address]

    async def spend(self, user_id: str, address: str | None = None) -> None:
        """Take one message from what they have left. Raises `LimitReached`."""
        if address:
            for rate in self._address:
                await rate.spend(_network(address), "this address")
        for rate in self._user:
            await rate.spend(user_id, "this user")


NO_LIMITS = Rates()


class _Rate:
    def __init__(self, item: RateLimitItem) -> None:
        self._item = item
        self._limiter = FixedWindowRateLimiter(Windows())

    async def spend(self, key: str, whose: str) -> None:
        if not await self._limiter.hit(self._item, key):
            window = await self._limiter.get_window_stats(self._item, key)
            raise LimitReached(
                f"Too many messages from {whose}: at most {self._item}",
                retry_after_s=max(0, window.reset_time - time.time()),
            )


class Windows(MemoryStorage):
    """The library's own looks through all keys at each hit: 50 ms with 300,000 users. Here all
    windows are of one length, so they end in the order in which they began."""

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to the window of `key`, or begin one."""
        now = time.time()
        while self.expirations and self.expirations[oldest := next(iter(self.expirations))] <= now:
            del self.expirations[oldest], self.storage[oldest]
        self.expirations.setdefault(key, now + expiry)
        self.storage[key] += amount
        return self.storage[key]


def _network(address: str) -> str:
    """Whoever has one IPv6 address has 2⁶⁴ of them."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address) or ip.ipv4_mapped:
        return str(ip)
    return str(IPv6Network((int(ip), 64), strict=False))
