"""The counts: which messages were sent, and how many by whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Protocol
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, TypeAdapter
from pydantic_core import PydanticCustomError

from daca_shared.domain import NotFound, UserId

MAX_BATCH = 1000
"""How many messages one batch may hold."""

DEMO_COUNTS = {"alice": 5, "bob": 3}
"""What a fresh demo store starts with."""


class SentMessage(BaseModel):
    """One message that a user has sent, without its text."""

    model_config = ConfigDict(frozen=True)

    message_id: UUID
    user_id: UserId
    sent_time: AwareDatetime


def _check_size(messages: tuple[SentMessage, ...]) -> tuple[SentMessage, ...]:
    if not 1 <= len(messages) <= MAX_BATCH:
        raise PydanticCustomError("batch_size", f"must be 1 to {MAX_BATCH} messages")
    return messages


class MessageBatch(BaseModel):
    """The messages that one call records."""

    model_config = ConfigDict(frozen=True)

    messages: Annotated[tuple[SentMessage, ...], AfterValidator(_check_size)]


@dataclass(frozen=True)
class UserAnalytics:
    """What is known of one user."""

    user_id: str
    message_count: int
    last_message_time: datetime | None
    """None for a demo user that has not sent a message yet."""


@dataclass(frozen=True)
class DailyActivity:
    """How many messages a user sent on one day (UTC)."""

    date: date
    message_count: int


check_user_id = TypeAdapter(UserId).validate_python


class Counts(Protocol):
    """Where the counts are kept. Each call raises `Unavailable` if that fails."""

    async def user(self, user_id: str) -> UserAnalytics | None:
        """None for an unknown user."""
        ...

    async def activity(self, user_id: str, since: date) -> dict[date, int]:
        """How many messages the user sent on each day on which they sent any."""
        ...

    async def record(self, messages: Sequence[SentMessage]) -> int:
        """Count each message id once, ever; returns how many are new. All or none, durably."""
        ...

    async def close(self) -> None:
        """Finish writes under way and let go."""
        ...


class AnalyticsStore:
    """Counts each message id once, ever."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    async def get(self, user_id: str) -> UserAnalytics:
        """What is known of `user_id`. Raises `NotFound` for an unknown user."""
        user = await self._counts.user(user_id)
        if user is None:
            raise NotFound("User not found")
        return user

    async def activity(self, user_id: str, day_count: int) -> list[DailyActivity]:
        """The last `day_count` days without gaps, today last. Raises `NotFound` for an
        unknown user."""
        await self.get(user_id)
        today = datetime.now(UTC).date()
        days = [today - timedelta(days=n) for n in reversed(range(day_count))]
        counts = await self._counts.activity(user_id, days[0])
        return [DailyActivity(day, counts.get(day, 0)) for day in days]

    async def record(self, batch: MessageBatch) -> int:
        """Count each message that was not counted before; returns how many those were.

        All or none: once this returns, the batch is on disk.
        """
        return await self._counts.record(batch.messages)

    async def close(self) -> None:
        """Finish writes under way and let go."""
        await self._counts.close()
