"""The counts: which messages were sent, and how many by each user."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Self
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import AwareDatetime, BaseModel, BeforeValidator, SecretStr
from pydantic_core import PydanticCustomError

from daca_shared.domain import NotFound, UserId
from daca_shared.storage.database import Database, Statements, open_database

MAX_BATCH = 1000

# What a new demo store starts with.
_SEED = "INSERT INTO analytics.users (user_id, message_count) VALUES ('alice', 5), ('bob', 3);"

_SELECT_USER = "SELECT message_count, last_message_time FROM analytics.users WHERE user_id = $1"
_SELECT_DAYS = "SELECT day, message_count FROM analytics.activity WHERE user_id = $1 AND day >= $2"
_ADD_MESSAGE = """
INSERT INTO analytics.messages (message_id, user_id, sent_time) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING RETURNING user_id, sent_time"""
_COUNT = """
INSERT INTO analytics.users AS known (user_id, message_count, last_message_time)
VALUES ($1, $2, $3)
ON CONFLICT (user_id) DO UPDATE SET
    message_count = known.message_count + excluded.message_count,
    last_message_time = CASE WHEN known.last_message_time > excluded.last_message_time
        THEN known.last_message_time ELSE excluded.last_message_time END"""
_COUNT_DAY = """
INSERT INTO analytics.activity AS known (user_id, day, message_count) VALUES ($1, $2, $3)
ON CONFLICT (user_id, day) DO UPDATE SET
    message_count = known.message_count + excluded.message_count"""


def _to_datetime(time: Timestamp | datetime) -> datetime:
    try:
        return time.ToDatetime(UTC) if isinstance(time, Timestamp) else time
    except (ValueError, OverflowError):
        raise PydanticCustomError("time", "is no valid time between years 1 and 9999") from None


class SentMessage(BaseModel, frozen=True):
    """One message that a user has sent, without its text."""

    message_id: UUID
    user_id: UserId
    sent_time: Annotated[AwareDatetime, BeforeValidator(_to_datetime)]


class MessageBatch(BaseModel, frozen=True):
    messages: tuple[SentMessage, ...]


@dataclass(frozen=True)
class UserAnalytics:
    user_id: str
    message_count: int
    last_message_time: datetime | None
    """None for a demo user that has not sent a message yet."""


@dataclass(eq=False)
class AnalyticsStore:
    """Counts each message id once, ever. Each call raises `Unavailable` if the storage fails."""

    database: Database

    @classmethod
    async def open(cls, place: Path | SecretStr, *, seed_demo_users: bool) -> Self:
        """The counts in a SQLite file, or in the PostgreSQL of a URL. Raises `Unavailable`."""
        schema = Path(__file__).with_name("schema")
        seed = _SEED if seed_demo_users else ""
        return cls(await open_database(place, "analytics", schema, on_create=seed))

    async def get(self, user_id: str) -> UserAnalytics:
        """The user's count and last message time. Raises `NotFound` for an unknown user."""
        rows = await self.database.read(_SELECT_USER, user_id)
        if not rows:
            raise NotFound("User not found", code="USER_NOT_FOUND")
        ((count, last),) = rows
        return UserAnalytics(user_id, count, None if last is None else self.database.time(last))

    async def activity(self, user_id: str, day_count: int) -> dict[date, int]:
        """How many messages on each of the last `day_count` days (UTC). Raises `NotFound`."""
        await self.get(user_id)
        today = datetime.now(UTC).date()
        days = [today - timedelta(days=n) for n in reversed(range(day_count))]
        rows = await self.database.read(_SELECT_DAYS, user_id, days[0].isoformat())
        counts = {date.fromisoformat(day): count for day, count in rows}
        return {day: counts.get(day, 0) for day in days}

    async def record(self, batch: MessageBatch) -> int:
        """Count each new message, all or none. Returns how many were new, once they are on disk."""
        # All processes lock rows in the same order, so that there are no deadlocks.
        ordered = sorted(batch.messages, key=lambda message: message.message_id)
        messages = [(m.message_id, m.user_id, m.sent_time) for m in ordered]

        async def record(statements: Statements) -> int:
            new = await statements.fetchmany(_ADD_MESSAGE, messages)
            sent = sorted((user_id, self.database.time(time)) for user_id, time in new)
            latest = dict(sent)  # of each user, the last one stays
            users = Counter(user_id for user_id, _ in sent)
            counts = [(user_id, count, latest[user_id]) for user_id, count in users.items()]
            await statements.fetchmany(_COUNT, counts)
            days = Counter((user_id, time.date().isoformat()) for user_id, time in sent)
            await statements.fetchmany(_COUNT_DAY, [(*day, count) for day, count in days.items()])
            return len(sent)

        return await self.database.write(record)
