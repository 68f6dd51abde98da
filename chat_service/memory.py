"""What was said: the turns of each conversation, on disk, in the order in which they ended."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from storage.sqlite import SqliteDatabase

MAX_TURNS = 20
"""How many turns of a conversation the model is shown: the latest."""

_TITLE_LENGTH = 60

type Items = Sequence[dict[str, Any]]
"""What a turn added to the history, as the Agents SDK's sessions keep it."""


@dataclass(frozen=True)
class ConversationKey:
    """History belongs to this pair: nobody reads another's by guessing a session id."""

    user_id: str
    session_id: UUID


@dataclass(frozen=True)
class Turn:
    """A message and its reply."""

    message_id: UUID
    prompt: str
    reply: str
    items: Items
    stopped: bool = False
    """Whether the user stopped the reply before its end."""


class Memory:
    """The conversations of all users. Turns are whole: a message, the calls and results of
    tools, and the reply come and go together."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        # The lock of each conversation that has a turn under way, and how many want it.
        self._locks: dict[ConversationKey, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, key: ConversationKey) -> AsyncIterator[None]:
        """Wait until no other turn of this conversation is under way; other conversations
        never wait."""
        lock, wanted = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = lock, wanted + 1
        try:
            async with lock:
                yield
        finally:
            lock, wanted = self._locks.pop(key)
            if wanted > 1:
                self._locks[key] = lock, wanted - 1

    async def recall(self, key: ConversationKey) -> Items:
        """The items of the latest turns, oldest first. Raises `Unavailable`."""
        turns = await self._database.read(partial(_select_turns, key=key))
        return [item for turn in reversed(turns) for item in json.loads(turn)]

    async def keep(self, key: ConversationKey, turn: Turn) -> None:
        """Add a turn; once this returns, it is on disk. Raises `Unavailable`."""
        await self._database.write(partial(_insert_turn, key=key, turn=turn))


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


def _select_turns(db: sqlite3.Connection, *, key: ConversationKey) -> list[str]:
    rows = db.execute(
        "SELECT items FROM turns WHERE user_id = ? AND session_id = ? ORDER BY seq DESC LIMIT ?",
        (key.user_id, key.session_id.bytes, MAX_TURNS),
    )
    return [items for (items,) in rows]


def _insert_turn(db: sqlite3.Connection, *, key: ConversationKey, turn: Turn) -> None:
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
        (key.user_id, key.session_id.bytes, _title(turn.prompt), now, seq),
    )


def _title(prompt: str) -> str:
    text = " ".join(prompt.split())
    if len(text) <= _TITLE_LENGTH:
        return text
    text = text[: _TITLE_LENGTH - 1]
    # Whole words, unless there is only one.
    return (text.rpartition(" ")[0] or text) + "…"
