"""The outbox: a sent message is on our own disk before its chat goes on, and leaves it
only once analytics has counted it. Sending twice is harmless, as a message id counts once."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol
from uuid import UUID

from chat_service.ports import ChatMessage
from rpc.domain import DomainError, InvalidInput
from storage.sqlite import SqliteDatabase

log = logging.getLogger(__name__)

_BATCH = 500
# A first failure is often a restart; after that, twice a second is soon enough.
_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 0.5


@dataclass(frozen=True)
class OutboxEntry:
    """A sent message that analytics may not have counted yet."""

    seq: int
    message_id: UUID
    user_id: str
    sent_time: datetime


class Recorder(Protocol):
    """Where the messages are counted."""

    async def record(self, entries: Sequence[OutboxEntry]) -> None:
        """Returns once they are counted. Raises `DomainError` if that is not certain."""
        ...


class Outbox:
    """Sent messages on their way to analytics, in batches; `run` is what sends them."""

    def __init__(self, database: SqliteDatabase, recorder: Recorder, users: Sequence[str]) -> None:
        self._database = database
        self._recorder = recorder
        # Messages whose own chat has not read the count yet: it must not include them.
        self._held: set[UUID] = set()
        # How many messages were released for sending, and how many of those one complete
        # pass has covered. A user is in the map while the last one's number is above that.
        self._released = 1
        self._delivered = 0
        self._last_released = dict.fromkeys(users, self._released)
        self._work = asyncio.Event()
        self._work.set()
        self._pass_done = asyncio.Event()

    @classmethod
    async def open(cls, database: SqliteDatabase, recorder: Recorder) -> "Outbox":
        """The outbox in `database`, with what an earlier run left there."""
        return cls(database, recorder, await database.read(_select_users))

    @asynccontextmanager
    async def accept(self, message: ChatMessage) -> AsyncIterator[None]:
        """Write the message while the context's body runs; leaving waits for the disk.

        Raises `Unavailable` if it can't be written. The message counts once that is
        done, even for a caller that was cancelled meanwhile.
        """
        self._held.add(message.message_id)
        insert = partial(
            _insert,
            message_id=message.message_id,
            user_id=message.user_id,
            sent_time=datetime.now(UTC),
        )
        written = asyncio.create_task(self._database.write(insert))
        try:
            yield
            await asyncio.shield(written)
        finally:
            if written.done():
                self._release(message, written)
            else:
                written.add_done_callback(partial(self._release, message))

    async def settled(self, user_id: str) -> None:
        """Wait until analytics has counted all that `user_id`'s finished chats sent."""
        target = self._last_released.get(user_id, 0)
        while self._delivered < target:
            await self._pass_done.wait()

    async def run(self) -> None:
        """Send for ever, a pass whenever there is something, again until it succeeds."""
        retry_s = _MIN_RETRY_S
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self.flush()
                if retry_s > _MIN_RETRY_S:
                    log.info("analytics counts again")
                retry_s = _MIN_RETRY_S
            except DomainError as error:
                if retry_s == _MIN_RETRY_S:
                    log.warning("analytics does not count now, messages wait here: %s", error)
                self._work.set()
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, _MAX_RETRY_S)

    async def flush(self) -> None:
        """Send all that is waiting now. Raises `DomainError` if analytics does not take it."""
        covered = self._released
        after = 0
        last = await self._database.read(_select_last)
        while after < last:
            entries = await self._database.read(partial(_select_batch, after=after, last=last))
            if not entries:
                break
            after = entries[-1].seq
            ready = [entry for entry in entries if entry.message_id not in self._held]
            if ready:
                await self._send(ready)
        self._delivered = covered
        self._last_released = {u: n for u, n in self._last_released.items() if n > covered}
        self._pass_done.set()
        self._pass_done = asyncio.Event()

    async def _send(self, entries: Sequence[OutboxEntry]) -> None:
        try:
            await self._recorder.record(entries)
        except InvalidInput as error:
            if len(entries) > 1:
                for entry in entries:
                    await self._send([entry])
                return
            # Kept on disk for its operator, but not in the way of the others.
            log.warning("analytics refuses message %s: %s", entries[0].message_id, error)
            return
        await self._database.write(partial(_delete, seqs=[entry.seq for entry in entries]))

    def _release(self, message: ChatMessage, written: asyncio.Task[None]) -> None:
        if not written.cancelled() and (error := written.exception()):
            log.warning("message %s is not in the outbox: %s", message.message_id, error)
        self._held.discard(message.message_id)
        self._released += 1
        self._last_released[message.user_id] = self._released
        self._work.set()


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


def _insert(db: sqlite3.Connection, *, message_id: UUID, user_id: str, sent_time: datetime) -> None:
    db.execute(
        "INSERT INTO outbox (message_id, user_id, sent_time) VALUES (?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        (message_id.bytes, user_id, sent_time.isoformat()),
    )


def _select_users(db: sqlite3.Connection) -> list[str]:
    return [user_id for (user_id,) in db.execute("SELECT DISTINCT user_id FROM outbox")]


def _select_last(db: sqlite3.Connection) -> int:
    (last,) = db.execute("SELECT coalesce(max(seq), 0) FROM outbox").fetchone()
    return int(last)


def _select_batch(db: sqlite3.Connection, *, after: int, last: int) -> list[OutboxEntry]:
    rows = db.execute(
        "SELECT seq, message_id, user_id, sent_time FROM outbox "
        "WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        (after, last, _BATCH),
    )
    return [
        OutboxEntry(seq, UUID(bytes=id_), user_id, datetime.fromisoformat(sent))
        for seq, id_, user_id, sent in rows
    ]


def _delete(db: sqlite3.Connection, *, seqs: list[int]) -> None:
    db.executemany("DELETE FROM outbox WHERE seq = ?", [(seq,) for seq in seqs])
