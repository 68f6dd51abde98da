"""A limit on how much work runs at once, shared fairly between users."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class FairLimit:
    """Lets few tasks run at once, and only one per user, so that nobody can keep out all others."""

    def __init__(self, at_once: int) -> None:
        self.slots = asyncio.Semaphore(at_once)
        # A lock disappears once nobody holds it or waits for it.
        self._users = WeakValueDictionary[str, asyncio.Lock]()

    @asynccontextmanager
    async def slot(self, user_id: str) -> AsyncIterator[None]:
        async with self._users.setdefault(user_id, asyncio.Lock()), self.slots:
            yield
