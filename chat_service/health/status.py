"""What an operator looks at first when something is wrong: what is up, and what is waiting."""

import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

from pydantic import BaseModel

from chat_service.access.admission import Admission
from chat_service.outbox.analytics import AnalyticsClient, LastCall
from chat_service.outbox.outbox import MOST_COUNTED, Outbox
from daca_shared.domain import DomainError, Unavailable


class StatusBody(BaseModel):
    version: str
    uptime_s: int
    model: str
    analytics: str
    """`ok`, or a description of what is wrong."""
    analytics_way: str
    analytics_last_call: LastCall | None
    outbox: str
    """Which messages wait to be counted, in words."""
    chats: int
    chats_turned_away: int
    event_loop_lag_ms: float


@dataclass(eq=False)
class Status:
    analytics: AnalyticsClient
    outbox: Outbox
    admission: Admission
    _: KW_ONLY
    model: str
    stopping: Callable[[], bool] = lambda: False
    problem: Callable[[], str | None] = lambda: None
    _began: float = field(default_factory=time.monotonic, init=False)

    async def ready(self) -> dict[str, str]:
        """Readiness. Raises `Unavailable` (503), with what is missing, if no chat can be answered.
        Chats can be answered without analytics, so its absence is only reported."""
        if self.stopping():
            raise Unavailable("Not ready: the service is stopping", code="STOPPING")
        if problem := self.problem():
            raise Unavailable(f"Not ready: {problem}", code="NOT_READY")
        try:
            outbox = await self._waiting()
        except DomainError:
            problem = "Not ready: the chat service's database can't be read"
            raise Unavailable(problem, code="STORAGE_UNAVAILABLE") from None
        return {"status": "ready", "analytics": await self._how_analytics_is(), "outbox": outbox}

    async def report(self) -> StatusBody:
        try:
            # Asking a database that doesn't answer would take seconds.
            outbox = self.problem() or await self._waiting()
        except DomainError as error:
            outbox = error.message
        return StatusBody(
            version=version("daca-chat"),
            uptime_s=int(time.monotonic() - self._began),
            model=self.model,
            analytics=await self._how_analytics_is(),
            analytics_way=self.analytics.way,
            analytics_last_call=self.analytics.last_call,
            outbox=outbox,
            chats=self.admission.chats,
            chats_turned_away=self.admission.turned_away,
            event_loop_lag_ms=round(self.admission.lag_s * 1000, 1),
        )

    async def _how_analytics_is(self) -> str:
        try:
            await self.analytics.check()
        except DomainError as error:
            return f"{error.message}, {self.analytics.way}"
        return "ok"

    async def _waiting(self) -> str:
        count, oldest = await self.outbox.backlog()
        if not count or oldest is None:
            return "empty"
        age_s = max(0, (datetime.now(UTC) - oldest).total_seconds())
        if count == 1:
            return f"1 message waits to be counted, for {age_s:.0f} s"
        number = f"{count} or more" if count == MOST_COUNTED else count
        return f"{number} messages wait to be counted, the oldest for {age_s:.0f} s"
