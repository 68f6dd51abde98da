"""The counts in one SQLite file."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Self

from analytics_service.store import DEMO_COUNTS, SentMessage, UserAnalytics
from daca_shared.observe.tracing import Tracing
from daca_shared.storage.sqlite import SqliteDatabase

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_US = 86_400_000_000


class SqliteCounts:
    """`analytics_service.store.Counts` in a file of its own."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    @classmethod
    async def open(cls, path: Path, *, seed_demo_users: bool, tracing: Tracing) -> Self:
        """Open or create the file. Raises `Unavailable` when it can't be used."""
        create = partial(_create, demo_counts=DEMO_COUNTS if seed_demo_users else {})
        return cls(await SqliteDatabase.open(path, [create, _create_activity], tracing))

    async def user(self, user_id: str) -> UserAnalytics | None:
        row = await self._database.read(partial(_select_user, user_id=user_id))
        if row is None:
            return None
        count, last_us = row
        last = None if last_us is None else _EPOCH + last_us * _MICROSECOND
        return UserAnalytics(user_id, count, last)

    async def activity(self, user_id: str, since: date) -> dict[date, int]:
        return await self._database.read(partial(_select_activity, user_id=user_id, since=since))

    async def record(self, messages: Sequence[SentMessage]) -> int:
        return await self._database.write(partial(_record, messages=messages))

    async def close(self) -> None:
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


def _select_activity(db: sqlite3.Connection, *, user_id: str, since: date) -> dict[date, int]:
    rows = db.execute(
        "SELECT day, message_count FROM activity WHERE user_id = ? AND day >= ?",
        (user_id, (since - _EPOCH.date()).days),
    )
    return {_EPOCH.date() + timedelta(days=day): count for day, count in rows}


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
