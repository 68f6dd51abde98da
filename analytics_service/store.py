"""The counts: which messages were sent, and how many by whom."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, TypeAdapter
from pydantic_core import PydanticCustomError

from rpc.domain import NotFound, UserId
from rpc.tracing import NO_TRACING, Tracing
from storage.sqlite import SqliteDatabase

MAX_BATCH = 1000
"""How many messages one batch may hold."""

DEMO_COUNTS = {"alice": 5, "bob": 3}
"""What a fresh demo store starts with."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_US = 86_400_000_000


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


class AnalyticsStore:
    """Counts each message id once, ever, and keeps the counts on disk."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    @classmethod
    async def open(
        cls, path: Path, *, seed_demo_users: bool, tracing: Tracing = NO_TRACING
    ) -> Self:
        """Open or create the store. Raises `Unavailable` when the file can't be used."""
        create = partial(_create, demo_counts=DEMO_COUNTS if seed_demo_users else {})
        return cls(await SqliteDatabase.open(path, [create, _create_activity], tracing))

    async def get(self, user_id: str) -> UserAnalytics:
        """What is known of `user_id`. Raises `NotFound` for an unknown user."""
        row = await self._database.read(partial(_select_user, user_id=user_id))
        if row is None:
            raise NotFound("User not found")
        count, last_us = row
        last = None if last_us is None else _EPOCH + last_us * _MICROSECOND
        return UserAnalytics(user_id, count, last)

    async def activity(self, user_id: str, day_count: int) -> list[DailyActivity]:
        """The last `day_count` days without gaps, today last. Raises `NotFound` for an
        unknown user."""
        await self.get(user_id)
        today = datetime.now(UTC).date()
        days = [today - timedelta(days=n) for n in reversed(range(day_count))]
        counts = await self._database.read(
            partial(_select_activity, user_id=user_id, since=_day_number(days[0]))
        )
        return [DailyActivity(day, counts.get(_day_number(day), 0)) for day in days]

    async def record(self, batch: MessageBatch) -> int:
        """Count each message that was not counted before; returns how many those were.

        All or none: once this returns, the batch is on disk.
        """
        return await self._database.write(partial(_record, messages=batch.messages))

    async def close(self) -> None:
        """Finish writes under way and close the file."""
        await self._database.close()


def _create(db: sqlite3.Connection, *, demo_counts: dict[str, int]) -> None:
    db.execute(
        """CREATE TABLE messages (
            message_id BLOB PRIMARY KEY,
            user_id TEXT NOT NULL,
            sent_time_us INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID"""
    )
    # Derived from `messages`, so that a look-up reads one row however many there are.
    db.execute(
        """CREATE TABLE users (
            user_id TEXT PRIMARY KEY,
            message_count INTEGER NOT NULL,
            last_message_time_us INTEGER
        ) STRICT, WITHOUT ROWID"""
    )
    db.executemany("INSERT INTO users (user_id, message_count) VALUES (?, ?)", demo_counts.items())


def _create_activity(db: sqlite3.Connection) -> None:
    # Derived from `messages` too: days since 1970, in UTC.
    db.execute(
        """CREATE TABLE activity (
            user_id TEXT NOT NULL,
            day INTEGER NOT NULL,
            message_count INTEGER NOT NULL,
            PRIMARY KEY (user_id, day)
        ) STRICT, WITHOUT ROWID"""
    )
    db.execute(
        "INSERT INTO activity SELECT user_id, sent_time_us / ?, count(*) FROM messages"
        " GROUP BY 1, 2",
        (_DAY_US,),
    )


def _day_number(day: date) -> int:
    return (day - _EPOCH.date()).days


def _select_activity(db: sqlite3.Connection, *, user_id: str, since: int) -> dict[int, int]:
    rows = db.execute(
        "SELECT day, message_count FROM activity WHERE user_id = ? AND day >= ?", (user_id, since)
    )
    return dict(rows)


def _select_user(db: sqlite3.Connection, *, user_id: str) -> tuple[int, int | None] | None:
    row: tuple[int, int | None] | None = db.execute(
        "SELECT message_count, last_message_time_us FROM users WHERE user_id = ?", (user_id,)
    ).fetchone()
    return row


def _record(db: sqlite3.Connection, *, messages: Sequence[SentMessage]) -> int:
    counts: Counter[str] = Counter()
    daily: Counter[tuple[str, int]] = Counter()
    latest_us: dict[str, int] = {}
    for message in messages:
        sent_us = (message.sent_time - _EPOCH) // _MICROSECOND
        inserted = db.execute(
            "INSERT INTO messages VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (message.message_id.bytes, message.user_id, sent_us),
        ).rowcount
        if inserted:
            counts[message.user_id] += 1
            daily[message.user_id, sent_us // _DAY_US] += 1
            latest_us[message.user_id] = max(sent_us, latest_us.get(message.user_id, sent_us))
    db.executemany(
        """INSERT INTO users VALUES (?, ?, ?)
        ON CONFLICT (user_id) DO UPDATE SET
            message_count = message_count + excluded.message_count,
            last_message_time_us =
                max(coalesce(last_message_time_us, excluded.last_message_time_us),
                    excluded.last_message_time_us)""",
        [(user_id, count, latest_us[user_id]) for user_id, count in counts.items()],
    )
    db.executemany(
        """INSERT INTO activity VALUES (?, ?, ?)
        ON CONFLICT (user_id, day) DO UPDATE SET
            message_count = message_count + excluded.message_count""",
        [(*user_day, count) for user_day, count in daily.items()],
    )
    return counts.total()
