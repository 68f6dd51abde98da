"""What a person looks at first when something is wrong: what is up, and what waits."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Protocol

from pydantic import BaseModel

from daca_shared.domain import DomainError, Unavailable


class LastCall(BaseModel):
    """The latest call to analytics that has ended."""

    method: str
    outcome: str
    """`OK`, or what went wrong, in words."""
    time: datetime


class Checked(Protocol):
    """Analytics, as far as it can be asked how it is."""

    way: str
    """How calls go to it, in words."""
    last_call: LastCall | None

    async def check(self) -> None:
        """Raises `DomainError`, saying why, unless it serves."""
        ...


class Backlogged(Protocol):
    """The outbox, as far as it can be asked what waits there."""

    async def backlog(self) -> tuple[int, datetime | None]:
        """How many messages wait, and when the oldest was sent. Raises `Unavailable`."""
        ...


class Loaded(Protocol):
    """How much there is to do."""

    chats: int
    turned_away: int
    lag_s: float


class StatusBody(BaseModel):
    """The answer of `GET /status`."""

    version: str
    uptime_s: int
    model: str
    analytics: str
    """`ok`, or what is wrong, in words."""
    analytics_way: str
    analytics_last_call: LastCall | None
    outbox: str
    """What waits to be counted, in words."""
    chats: int
    chats_turned_away: int
    event_loop_lag_ms: float


class Status:
    """Tells how the service is."""

    def __init__(
        self,
        analytics: Checked,
        outbox: Backlogged,
        load: Loaded,
        *,
        model: str,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._analytics = analytics
        self._outbox = outbox
        self._load = load
        self._model = model
        self._stopping = stopping
        self._began = time.monotonic()

    async def ready(self) -> dict[str, str]:
        """Raises `Unavailable`, naming what is missing, if chats can't be answered. They can
        without analytics, so its absence is only told."""
        if self._stopping():
            raise Unavailable("Not ready: the service is stopping")
        try:
            outbox = await self._waiting()
        except DomainError:
            raise Unavailable("Not ready: the chat service's database can't be read") from None
        return {"status": "ready", "analytics": await self._how_analytics_is(), "outbox": outbox}

    async def report(self) -> StatusBody:
        """All that there is to tell."""
        try:
            outbox = await self._waiting()
        except DomainError as error:
            outbox = error.message
        return StatusBody(
            version=version("daca-chat"),
            uptime_s=int(time.monotonic() - self._began),
            model=self._model,
            analytics=await self._how_analytics_is(),
            analytics_way=self._analytics.way,
            analytics_last_call=self._analytics.last_call,
            outbox=outbox,
            chats=self._load.chats,
            chats_turned_away=self._load.turned_away,
            event_loop_lag_ms=round(self._load.lag_s * 1000, 1),
        )

    async def _how_analytics_is(self) -> str:
        try:
            await self._analytics.check()
        except DomainError as error:
            return f"{error.message}, {self._analytics.way}"
        return "ok"

    async def _waiting(self) -> str:
        count, oldest = await self._outbox.backlog()
        if not count or oldest is None:
            return "empty"
        age_s = max(0, (datetime.now(UTC) - oldest).total_seconds())
        return f"{count} messages wait to be counted, the oldest for {age_s:.0f} s"
