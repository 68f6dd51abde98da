"""Work of which each user has a share only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class Shares:
    """Lets few run at once, and one of each user, so that nobody's work keeps out all others'."""

    def __init__(self, at_once: int) -> None:
        self.all = asyncio.Semaphore(at_once)
        # A lock disappears once nobody holds it or waits for it.
        self._users = WeakValueDictionary[str, asyncio.Lock]()

    @asynccontextmanager
    async def turn(self, user_id: str) -> AsyncIterator[None]:
        async with self._users.setdefault(user_id, asyncio.Lock()), self.all:
            yield
