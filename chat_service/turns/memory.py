"""What was said: the turns of each conversation, one at a time, in the order in which they
ended."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

MAX_TURNS = 20
"""How many turns of a conversation the model is shown: the latest."""

_TITLE_LENGTH = 60
# How often to look whether another process's turn is over.
_POLL_S = 0.05

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


class Turns(Protocol):
    """Where the turns are kept. Each call raises `Unavailable` if that fails."""

    async def latest(self, key: ConversationKey, *, limit: int) -> Sequence[str]:
        """The items of the conversation's latest turns, as JSON, the latest first."""
        ...

    async def add(self, key: ConversationKey, turn: Turn, *, title: str) -> None:
        """Add a turn, durably, and list the conversation, with `title` if it is new."""
        ...


class TurnLocks(Protocol):
    """Keeps other processes out of a conversation. In each process one turn at a time uses
    them; those of a process that died come free."""

    async def try_lock(self, key: ConversationKey) -> bool:
        """Lock it unless another process has. Raises `Unavailable`."""
        ...

    def unlock(self, key: ConversationKey) -> None:
        """Let others have it, if we have it."""
        ...


class Memory:
    """The conversations of all users. Turns are whole: a message, the calls and results of
    tools, and the reply come and go together."""

    def __init__(self, turns: Turns, locks: TurnLocks) -> None:
        self._turns = turns
        self._turn_locks = locks
        # The lock of each conversation that has a turn under way here, and how many want it.
        self._locks: dict[ConversationKey, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, key: ConversationKey) -> AsyncIterator[None]:
        """Wait until no other turn of this conversation is under way; other conversations
        never wait. Raises `Unavailable`."""
        lock, wanted = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = lock, wanted + 1
        try:
            async with lock:
                try:
                    while not await self._turn_locks.try_lock(key):  # noqa: ASYNC110
                        await asyncio.sleep(_POLL_S)
                    yield
                finally:
                    self._turn_locks.unlock(key)
        finally:
            lock, wanted = self._locks.pop(key)
            if wanted > 1:
                self._locks[key] = lock, wanted - 1

    async def recall(self, key: ConversationKey) -> Items:
        """The items of the latest turns, oldest first. Raises `Unavailable`."""
        turns = await self._turns.latest(key, limit=MAX_TURNS)
        return [item for turn in reversed(turns) for item in json.loads(turn)]

    async def keep(self, key: ConversationKey, turn: Turn) -> None:
        """Add a turn; once this returns, it is on disk. Raises `Unavailable`."""
        await self._turns.add(key, turn, title=_title(turn.prompt))


def _title(prompt: str) -> str:
    text = " ".join(prompt.split())
    if len(text) <= _TITLE_LENGTH:
        return text
    text = text[: _TITLE_LENGTH - 1]
    # Whole words, unless there is only one.
    return (text.rpartition(" ")[0] or text) + "…"
