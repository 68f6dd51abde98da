"""The table behind `chat_service.outbox.outbox`."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol
from uuid import UUID

from daca_shared.storage.sqlite import SqliteDatabase

BATCH = 500
"""How many messages are read at the most."""


@dataclass(frozen=True)
class OutboxEntry:
    """A sent message that analytics may not have counted yet."""

    seq: int
    """Its place in the table, which gives it one."""
    message_id: UUID
    user_id: str
    sent_time: datetime
    owner: int
    """The process that accepted it."""
    origin: str | None = None
    """Its chat's `traceparent`, if that is traced."""


class OutboxRows(Protocol):
    """What several processes may share. Each call raises `Unavailable` if the storage fails."""

    async def insert(self, entry: OutboxEntry) -> None:
        """Add it, durably. A message that is there already is its owner's from now on."""
        ...

    async def own(self, owner: int, *, after: int) -> Sequence[OutboxEntry]:
        """The first of `owner`'s that come after `after`."""
        ...

    async def others(
        self, owner: int, *, after: int, since: datetime, until: datetime
    ) -> Sequence[OutboxEntry]:
        """The same of all but `owner`'s, without those that were sent from `since` to `until`."""
        ...

    async def has_others(
        self, owner: int, *, user_id: str, since: datetime, until: datetime
    ) -> bool:
        """Whether there is one of the user's, not `owner`'s, that was sent in that time."""
        ...

    async def backlog(self) -> tuple[int, datetime | None]:
        """How many there are, of all owners, and when the oldest was sent."""
        ...

    async def delete(self, seqs: Sequence[int]) -> None: ...


class SqliteOutboxRows:
    """`OutboxRows` in a SQLite file."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def insert(self, entry: OutboxEntry) -> None:
        await self._database.write(partial(_insert, entry=entry))

    async def own(self, owner: int, *, after: int) -> Sequence[OutboxEntry]:
        return await self._select("owner = ? AND seq > ?", owner, after)

    async def others(
        self, owner: int, *, after: int, since: datetime, until: datetime
    ) -> Sequence[OutboxEntry]:
        return await self._select(
            "owner <> ? AND seq > ? AND sent_time NOT BETWEEN ? AND ?",
            owner,
            after,
            since.isoformat(),
            until.isoformat(),
        )

    async def has_others(
        self, owner: int, *, user_id: str, since: datetime, until: datetime
    ) -> bool:
        arguments = (user_id, since.isoformat(), until.isoformat(), owner)
        return await self._database.read(
            lambda db: (
                db.execute(
                    "SELECT 1 FROM outbox"
                    " WHERE user_id = ? AND sent_time BETWEEN ? AND ? AND owner <> ? LIMIT 1",
                    arguments,
                ).fetchone()
                is not None
            )
        )

    async def backlog(self) -> tuple[int, datetime | None]:
        return await self._database.read(_select_backlog)

    async def delete(self, seqs: Sequence[int]) -> None:
        await self._database.write(partial(_delete, seqs=seqs))

    async def _select(self, condition: str, *arguments: int | str) -> Sequence[OutboxEntry]:
        return await self._database.read(partial(_select, condition=condition, arguments=arguments))


def create_outbox(db: sqlite3.Connection) -> None:
    """The migration that makes the outbox's table."""
    db.execute(
        """CREATE TABLE outbox (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            message_id BLOB NOT NULL UNIQUE,
            user_id TEXT NOT NULL,
            sent_time TEXT NOT NULL
        ) STRICT"""
    )


def add_owner(db: sqlite3.Connection) -> None:
    """The migration that tells apart the messages of several processes."""
    db.execute("ALTER TABLE outbox ADD COLUMN owner INTEGER NOT NULL DEFAULT 0")


def add_origin(db: sqlite3.Connection) -> None:
    """The migration that lets a batch name the chats that its messages are from."""
    db.execute("ALTER TABLE outbox ADD COLUMN origin TEXT")


def index_users(db: sqlite3.Connection) -> None:
    """The migration that lets a chat ask for its user's messages."""
    db.execute("CREATE INDEX outbox_of_user ON outbox (user_id, sent_time)")


def _insert(db: sqlite3.Connection, *, entry: OutboxEntry) -> None:
    db.execute(
        "INSERT INTO outbox (message_id, user_id, sent_time, owner, origin) "
        "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET owner = excluded.owner, sent_time = excluded.sent_time",
        (
            entry.message_id.bytes,
            entry.user_id,
            entry.sent_time.isoformat(),
            entry.owner,
            entry.origin,
        ),
    )


def _select_backlog(db: sqlite3.Connection) -> tuple[int, datetime | None]:
    count, oldest = db.execute("SELECT count(*), min(sent_time) FROM outbox").fetchone()
    return count, oldest and datetime.fromisoformat(oldest)


def _select(
    db: sqlite3.Connection, *, condition: str, arguments: Sequence[int | str]
) -> list[OutboxEntry]:
    found = db.execute(
        "SELECT seq, message_id, user_id, sent_time, owner, origin FROM outbox "  # noqa: S608
        f"WHERE {condition} ORDER BY seq LIMIT {BATCH}",
        arguments,
    )
    return [
        OutboxEntry(seq, UUID(bytes=id_), user_id, datetime.fromisoformat(sent), owner, origin)
        for seq, id_, user_id, sent, owner, origin in found
    ]


def _delete(db: sqlite3.Connection, *, seqs: Sequence[int]) -> None:
    db.executemany("DELETE FROM outbox WHERE seq = ?", [(seq,) for seq in seqs])
