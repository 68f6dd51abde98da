"""The table behind `chat_service.outbox`."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

BATCH = 500
"""How many messages `select_batch` takes at the most."""


@dataclass(frozen=True)
class OutboxEntry:
    """A sent message that analytics may not have counted yet."""

    seq: int
    message_id: UUID
    user_id: str
    sent_time: datetime
    owner: int
    """The process that accepted it."""
    origin: str | None = None
    """Its chat's `traceparent`, if that is traced."""


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


def insert(
    db: sqlite3.Connection,
    *,
    message_id: UUID,
    user_id: str,
    sent_time: datetime,
    owner: int,
    origin: str | None,
) -> None:
    db.execute(
        "INSERT INTO outbox (message_id, user_id, sent_time, owner, origin) "
        "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (message_id.bytes, user_id, sent_time.isoformat(), owner, origin),
    )


def select_last(db: sqlite3.Connection) -> int:
    (last,) = db.execute("SELECT coalesce(max(seq), 0) FROM outbox").fetchone()
    return int(last)


def has_foreign(db: sqlite3.Connection, *, user_id: str, owner: int, since: str) -> bool:
    """Whether another process has accepted messages of the user since then that wait."""
    found = db.execute(
        "SELECT 1 FROM outbox WHERE user_id = ? AND owner != ? AND sent_time >= ? LIMIT 1",
        (user_id, owner, since),
    )
    return found.fetchone() is not None


def select_backlog(db: sqlite3.Connection) -> tuple[int, datetime | None]:
    count, oldest = db.execute(
        "SELECT count(*), (SELECT sent_time FROM outbox ORDER BY seq LIMIT 1) FROM outbox"
    ).fetchone()
    return count, oldest and datetime.fromisoformat(oldest)


def select_batch(db: sqlite3.Connection, *, after: int, last: int) -> list[OutboxEntry]:
    found = db.execute(
        "SELECT seq, message_id, user_id, sent_time, owner, origin FROM outbox "
        "WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        (after, last, BATCH),
    )
    return [
        OutboxEntry(seq, UUID(bytes=id_), user_id, datetime.fromisoformat(sent), owner, origin)
        for seq, id_, user_id, sent, owner, origin in found
    ]


def delete(db: sqlite3.Connection, *, seqs: list[int]) -> None:
    db.executemany("DELETE FROM outbox WHERE seq = ?", [(seq,) for seq in seqs])
