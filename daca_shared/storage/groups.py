"""Writes in groups: what arrives while one is under way shares the next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Any

# More writes per commit gain little: 64 already give 11 times the throughput of one.
_MAX_GROUP = 256


class Groups[Item, Result]:
    """Calls `write` for one group after the other; it returns a result for each of its items.

    Where one of a group is at fault, each is written alone, so that it can't take others with
    it. An error of the class `lasting` is nobody's own fault, and all of the group have it.
    """

    def __init__(
        self,
        write: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        *,
        lasting: type[Exception],
        most: int = _MAX_GROUP,
    ) -> None:
        self._write = write
        self._lasting = lasting
        self._most = most
        self._pending: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._writing: asyncio.Task[None] | None = None

    def put(self, item: Item) -> asyncio.Future[Result]:
        """Queue `item`; the future has its result. A cancelled one may be written or not."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._pending.append((item, done))
        if self._writing is None:
            # Without the first caller's context: the span and the log lines of others aren't its.
            self._writing = asyncio.create_task(self._write_pending(), context=Context())
        return done

    async def finish(self) -> None:
        """Wait until nothing is pending."""
        while self._writing:
            await asyncio.wait([self._writing])

    async def _write_pending(self) -> None:
        try:
            while self._pending:
                count = min(len(self._pending), self._most)
                group = [self._pending.popleft() for _ in range(count)]
                group = [(item, done) for item, done in group if not done.done()]
                outcomes = await self._write_group([item for item, _ in group]) if group else []
                for (_, done), outcome in zip(group, outcomes, strict=True):
                    if done.done():
                        continue
                    if isinstance(outcome, Exception):
                        done.set_exception(outcome)
                    else:
                        done.set_result(outcome)
        finally:
            self._writing = None

    async def _write_group(self, group: list[Item]) -> Sequence[Any]:
        """A result or an exception for each."""
        try:
            return await self._write(group)
        except self._lasting as error:
            return [error] * len(group)
        except Exception as error:
            if len(group) == 1:
                return [error]
            return [(await self._write_group([item]))[0] for item in group]
