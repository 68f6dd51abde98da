"""The transactional outbox: messages on their way to analytics. Each is added in the transaction
that keeps its turn, and deleted once counted. Any process may send any message: ids count once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from uuid import UUID, uuid5

from chat_service.chat.messages import Turn
from daca_shared.domain import DomainError, InvalidInput
from daca_shared.observe.tracing import tracing
from daca_shared.storage.database import Database, Row, Statements, Work

log = logging.getLogger(__name__)

# The most messages in one call. Small, as chats wait for the current call; analytics accepts 1000.
_BATCH = 100
MOST_COUNTED = 10_000
"""A backlog is counted up to this: counting a million rows would block everybody."""
# The first failure is often just a restart. The longest pause is short, so that a count asked for
# soon after an outage already includes everything.
_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 0.2
# How often to look for messages that a dead process has left.
_LOOK_S = 0.5
# Each call costs CPU, so messages are gathered for this long, unless a chat waits for its count.
_GATHER_S = 0.05
# How often to check whether another process has sent what a user waits for.
_POLL_S = 0.02

_ADD = """
INSERT INTO chat.outbox (message_id, user_id, sent_time, origin) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING"""
_SELECT = "SELECT seq, message_id, user_id, sent_time, origin FROM chat.outbox WHERE NOT refused"
_OLDEST = f"{_SELECT} ORDER BY seq LIMIT $1"
_OF_USER = f"{_SELECT} AND user_id = $1 ORDER BY seq LIMIT $2"
_HAS_UNSENT = "SELECT seq FROM chat.outbox WHERE user_id = $1 AND NOT refused LIMIT 1"
_OLDEST_TIMES = "SELECT sent_time FROM chat.outbox WHERE NOT refused ORDER BY seq LIMIT $1"
_BACKLOG = f"SELECT count(*), min(sent_time) FROM ({_OLDEST_TIMES}) AS oldest"  # noqa: S608
# Not by `seq`: a file put in place of ours may have given the same `seq` to another message.
_DELETE = "DELETE FROM chat.outbox WHERE message_id = $1"
_REFUSE = "UPDATE chat.outbox SET refused = true WHERE message_id = $1"


@dataclass(frozen=True)
class OutboxEntry:
    """A message that analytics may not have counted yet."""

    seq: int
    message_id: UUID
    """The id under which it counts."""
    user_id: str
    sent_time: datetime
    origin: str | None
    """The `traceparent` of its chat, if that was traced."""


@dataclass(eq=False)
class Outbox:
    """Messages on their way to analytics; `run` sends them."""

    database: Database
    record: Callable[[Sequence[OutboxEntry]], Awaitable[None]]
    """Returns once all are counted. Raises `InvalidInput` if any is refused, and another
    `DomainError` if they may be counted or not."""
    last_send_s: float = 2.0
    """How long a stop may take to send what is left."""
    refused: int = field(default=0, init=False)
    """How many messages analytics has refused."""
    # Users whose chats wait for their count.
    _waiting: set[str] = field(default_factory=set, init=False)
    _has_work: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _is_urgent: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    # Set when the next batch has been sent; another event then takes its place.
    _next_sent: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def adding(self, turn: Turn) -> Work[Sequence[Row]]:
        """The work that adds the turn's message. Call this in the chat's span."""
        # Made of both ids: another user may have chosen the same message id, and an id counts once.
        message_id = uuid5(turn.message_id, turn.conversation.user_id)
        user_id, origin = turn.conversation.user_id, tracing.origin()
        return lambda statements: statements.fetch(_ADD, message_id, user_id, turn.end_time, origin)

    def send_soon(self) -> None:
        self._has_work.set()

    async def settled(self, user_id: str, timeout_s: float | None = None) -> bool:
        """Wait until analytics has counted all of the user's kept turns, or the time is up. Returns
        whether it has. Raises `Unavailable`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while await self.database.read(_HAS_UNSENT, user_id):
                    self._waiting.add(user_id)
                    self._has_work.set()
                    self._is_urgent.set()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._next_sent.wait(), _POLL_S)
                return True
        return False

    async def backlog(self) -> tuple[int, datetime | None]:
        """How many messages wait, `MOST_COUNTED` at most, and when the oldest was sent."""
        ((count, oldest),) = await self.database.read(_BACKLOG, MOST_COUNTED)
        return count, None if oldest is None else self.database.time(oldest)

    async def run(self) -> None:
        """Send what there is, for ever; what fails is sent again."""
        retry_s = _MIN_RETRY_S
        while True:
            # Also look without being told to: another process may have died and left messages.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._has_work.wait(), _LOOK_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_urgent.wait(), _GATHER_S)
            self._has_work.clear()
            self._is_urgent.clear()
            try:
                if await self.send_batch() >= _BATCH // 2:  # there may be more
                    self._has_work.set()
                    self._is_urgent.set()
                if retry_s > _MIN_RETRY_S:
                    log.info("messages are counted again")
                retry_s = _MIN_RETRY_S
            except DomainError as error:
                if retry_s == _MIN_RETRY_S:
                    log.warning("messages can't be counted now, and wait here: %s", error)
                self._has_work.set()
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _MAX_RETRY_S)

    async def send_the_rest(self) -> None:
        """Send what is left. If analytics is away or slow, the next process will send it."""
        try:
            async with asyncio.timeout(self.last_send_s):
                while await self.send_batch():
                    pass
        except (DomainError, TimeoutError):
            log.info("messages that analytics has not counted stay in the outbox")

    async def send_batch(self) -> int:
        """Send the oldest, and those of users who wait; returns how many. Raises `DomainError`."""
        waiting, self._waiting = self._waiting, set()
        # If chats wait for a count, half of a full batch is for their users' messages.
        size = _BATCH // 2 if waiting else _BATCH

        async def send(statements: Statements) -> int:
            entries = await self._pending(statements.fetch, size, waiting)
            await _remove(statements, entries, await self._send(entries))
            return len(entries)

        if self.database.is_shared:
            sent = await self.database.write(send)
        else:
            entries = await self._pending(self.database.read, size, waiting)
            if sent := len(entries):
                refused = await self._send(entries)
                await self.database.write(lambda statements: _remove(statements, entries, refused))
        if sent:
            self._next_sent.set()
            self._next_sent = asyncio.Event()
        return sent

    async def _pending(
        self, fetch: Callable[..., Awaitable[Sequence[Row]]], size: int, waiting: set[str]
    ) -> list[OutboxEntry]:
        # The rows stay locked until analytics has answered, so only one process sends each.
        locking = " FOR UPDATE SKIP LOCKED" if self.database.is_shared else ""
        rows = {row[0]: row for row in await fetch(_OLDEST + locking, size)}
        if len(rows) == size:
            users = [*waiting]
            while users and (room := _BATCH - len(rows)):
                share = ceil(room / len(users))  # a user with a thousand delays no other
                found = await fetch(_OF_USER + locking, users.pop(), share)
                rows |= {row[0]: row for row in found}
        return [
            OutboxEntry(seq, message_id, user_id, self.database.time(sent), origin)
            for seq, message_id, user_id, sent, origin in rows.values()
        ]

    async def _send(self, entries: Sequence[OutboxEntry]) -> set[UUID]:
        """Send them; returns the ids of those that analytics refuses."""
        if not entries:
            return set()
        try:
            with tracing.batch("outbox", (entry.origin for entry in entries)):
                await self.record(entries)
        except InvalidInput as error:
            if len(entries) == 1:
                # It stays in the table, where an operator can see it, and is not sent again.
                log.warning("analytics refuses message %s: %s", entries[0].message_id, error)
                self.refused += 1
                return {entries[0].message_id}
            half = len(entries) // 2
            return await self._send(entries[:half]) | await self._send(entries[half:])
        return set()


async def _remove(statements: Statements, entries: list[OutboxEntry], refused: set[UUID]) -> None:
    counted = {entry.message_id for entry in entries} - refused
    await statements.fetchmany(_DELETE, [(id_,) for id_ in counted])
    await statements.fetchmany(_REFUSE, [(id_,) for id_ in refused])
