"""The tables behind `chat_service.turns.memory` and `chat_service.turns.history`, in SQLite."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from chat_service.turns.history import PastConversation, PastMessage
from chat_service.turns.memory import ConversationKey, Turn
from daca_shared.storage.sqlite import SqliteDatabase

_NEWEST = 2**63 - 1


class SqliteArchive:
    """What both want of a database: `Turns`, and `history.Archive`."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def latest(self, key: ConversationKey, *, limit: int) -> Sequence[str]:
        return await self._database.read(partial(_select_turns, key=key, limit=limit))

    async def add(self, key: ConversationKey, turn: Turn, *, title: str) -> None:
        await self._database.write(partial(_insert_turn, key=key, turn=turn, title=title))

    async def conversations(
        self, user_id: str, *, before: int | None, limit: int
    ) -> list[PastConversation]:
        """The user's conversations, the latest first."""
        newest = _NEWEST if before is None else before
        return await self._database.read(
            partial(_select_conversations, user_id=user_id, before=newest, limit=limit)
        )

    async def messages(self, key: ConversationKey, *, after: int, limit: int) -> list[PastMessage]:
        """The conversation's messages, the oldest first."""
        return await self._database.read(
            partial(_select_messages, key=key, after=after, limit=limit)
        )


def create_memory(db: sqlite3.Connection) -> None:
    """The migration that makes the table of turns."""
    db.execute(
        """CREATE TABLE turns (
            seq INTEGER PRIMARY KEY,
            user_id TEXT NOT NULL,
            session_id BLOB NOT NULL,
            message_id BLOB NOT NULL,
            end_time TEXT NOT NULL,
            prompt TEXT NOT NULL,
            reply TEXT NOT NULL,
            stopped INTEGER NOT NULL,
            items TEXT NOT NULL
        ) STRICT"""
    )
    db.execute("CREATE INDEX turns_of_conversation ON turns (user_id, session_id, seq)")
    # Derived from `turns`, so that a user's list reads no turns.
    db.execute(
        """CREATE TABLE conversations (
            user_id TEXT NOT NULL,
            session_id BLOB NOT NULL,
            title TEXT NOT NULL,
            update_time TEXT NOT NULL,
            turn_count INTEGER NOT NULL,
            last_seq INTEGER NOT NULL,
            PRIMARY KEY (user_id, session_id)
        ) STRICT, WITHOUT ROWID"""
    )
    db.execute("CREATE UNIQUE INDEX latest_conversations ON conversations (user_id, last_seq)")


def _select_turns(db: sqlite3.Connection, *, key: ConversationKey, limit: int) -> list[str]:
    rows = db.execute(
        "SELECT items FROM turns WHERE user_id = ? AND session_id = ? ORDER BY seq DESC LIMIT ?",
        (key.user_id, key.session_id.bytes, limit),
    )
    return [items for (items,) in rows]


def _insert_turn(db: sqlite3.Connection, *, key: ConversationKey, turn: Turn, title: str) -> None:
    now = datetime.now(UTC).isoformat()
    seq = db.execute(
        "INSERT INTO turns"
        " (user_id, session_id, message_id, end_time, prompt, reply, stopped, items)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key.user_id,
            key.session_id.bytes,
            turn.message_id.bytes,
            now,
            turn.prompt,
            turn.reply,
            turn.stopped,
            json.dumps(turn.items),
        ),
    ).lastrowid
    db.execute(
        "INSERT INTO conversations VALUES (?, ?, ?, ?, 1, ?)"
        " ON CONFLICT (user_id, session_id) DO UPDATE SET turn_count = turn_count + 1,"
        " update_time = excluded.update_time, last_seq = excluded.last_seq",
        (key.user_id, key.session_id.bytes, title, now, seq),
    )


def _select_conversations(
    db: sqlite3.Connection, *, user_id: str, before: int, limit: int
) -> list[PastConversation]:
    rows = db.execute(
        "SELECT last_seq, session_id, title, update_time, turn_count FROM conversations"
        " WHERE user_id = ? AND last_seq < ? ORDER BY last_seq DESC LIMIT ?",
        (user_id, before, limit),
    )
    return [
        PastConversation(seq, UUID(bytes=id_), title, datetime.fromisoformat(time), count)
        for seq, id_, title, time, count in rows
    ]


def _select_messages(
    db: sqlite3.Connection, *, key: ConversationKey, after: int, limit: int
) -> list[PastMessage]:
    rows = db.execute(
        "SELECT seq, message_id, prompt, reply, end_time, stopped FROM turns"
        " WHERE user_id = ? AND session_id = ? AND seq > ? ORDER BY seq LIMIT ?",
        (key.user_id, key.session_id.bytes, after, limit),
    )
    return [
        PastMessage(seq, UUID(bytes=id_), text, reply, datetime.fromisoformat(time), bool(stopped))
        for seq, id_, text, reply, time, stopped in rows
    ]
