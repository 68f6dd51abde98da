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


def _select_turns(db: sqlite3.Connection, *, key: ConversationKey) -> list[str]:
    rows = db.execute(
        "SELECT items FROM turns WHERE user_id = ? AND session_id = ? ORDER BY seq DESC LIMIT ?",
        (key.user_id, key.session_id.bytes, MAX_TURNS),
    )
    return [items for (items,) in rows]


def _insert_turn(db: sqlite3.Connection, *, key: ConversationKey, turn: Turn) -> None:
    db.execute(
        "INSERT INTO turns"
        " (user_id, session_id, message_id, end_time, prompt, reply, stopped, items)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key.user_id,
            key.session_id.bytes,
            turn.message_id.bytes,
            datetime.now(UTC).isoformat(),
            turn.prompt,
            turn.reply,
            turn.stopped,
            json.dumps(turn.items),
        ),
    )
