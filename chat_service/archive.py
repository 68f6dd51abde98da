"""Reads past conversations from the tables that `chat_service.memory` writes."""

import sqlite3
from datetime import datetime
from functools import partial
from uuid import UUID

from chat_service.history import PastConversation, PastMessage
from chat_service.memory import ConversationKey
from storage.sqlite import SqliteDatabase

_NEWEST = 2**63 - 1


class Archive:
    """The rows behind `chat_service.history`. Each call raises `Unavailable` if SQLite fails."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

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
