"""The outbox: a sent message is on our own disk before its chat goes on, and leaves it
only once analytics has counted it. Sending twice is harmless, as a message id counts once."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

from chat_service import outbox_rows as rows
from chat_service.outbox_rows import OutboxEntry
from chat_service.ports import ChatMessage
from rpc.domain import DomainError, InvalidInput
from rpc.tracing import NO_TRACING, Tracing
from storage.sqlite import SqliteDatabase

log = logging.getLogger(__name__)

# A first failure is often a restart; after that, twice a second is soon enough.
_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 0.5
# Another process's message may be held by its chat. It is for that process to send, unless
# it is so old that the process must be gone.
_FOREIGN_HOLD_S, _FOREIGN_POLL_S = 2.0, 0.05

# By then a process that we replace has ended: its grace, and its last flush.
_HANDOVER = timedelta(seconds=15)


class Recorder(Protocol):
    """Where the messages are counted."""

    async def record(self, entries: Sequence[OutboxEntry]) -> None:
        """Returns once they are counted. Raises `DomainError` if that is not certain."""
        ...


class Outbox:
    """Sent messages on their way to analytics, in batches; `run` is what sends them."""

    def __init__(
        self,
        database: SqliteDatabase,
        recorder: Recorder,
        last_inherited: int,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._database = database
        self._recorder = recorder
        self._tracing = tracing
        # Messages whose own chat has not read the count yet: it must not include them.
        self._held: set[UUID] = set()
        self._opened = datetime.now(UTC)
        self._me = secrets.randbits(62)
        # How many messages were released for sending, and how many of those one complete
        # pass has covered. A user is in the map while the last one's number is above that.
        self._released = 1
        self._delivered = 0
        self._last_released: dict[str, int] = {}
        # The users of what earlier processes left here, until that is sent.
        self._last_inherited = last_inherited
        self._unsettled: set[str] | None = None
        self._work = asyncio.Event()
        self._work.set()
        self._pass_done = asyncio.Event()

    @classmethod
    async def open(
        cls, database: SqliteDatabase, recorder: Recorder, tracing: Tracing = NO_TRACING
    ) -> "Outbox":
        """The outbox in `database`, with what an earlier run left there."""
        return cls(database, recorder, await database.read(rows.select_last), tracing)

    @asynccontextmanager
    async def accept(self, message: ChatMessage) -> AsyncIterator[None]:
        """Write the message while the context's body runs; leaving waits for the disk.

        Raises `Unavailable` if it can't be written. The message counts once that is
        done, even for a caller that was cancelled meanwhile.
        """
        self._held.add(message.message_id)
        insert = partial(
            rows.insert,
            message_id=message.message_id,
            user_id=message.user_id,
            sent_time=datetime.now(UTC),
            owner=self._me,
            origin=self._tracing.origin(),
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
        while self._delivered < target or self._unsettled is None or user_id in self._unsettled:
            await self._pass_done.wait()
        # The process before us may have accepted more since we began.
        theirs = partial(
            rows.has_foreign, user_id=user_id, owner=self._me, since=self._opened.isoformat()
        )
        while (  # noqa: ASYNC110 (another process has no event for us)
            datetime.now(UTC) - self._opened < _HANDOVER and await self._database.read(theirs)
        ):
            await asyncio.sleep(_FOREIGN_POLL_S)

    async def backlog(self) -> tuple[int, datetime | None]:
        """How many messages are here, and when the oldest was sent."""
        return await self._database.read(rows.select_backlog)

    async def run(self) -> None:
        """Send for ever, a pass whenever there is something, again until it succeeds."""
        retry_s = _MIN_RETRY_S
        while True:
            # Without work of our own too: another process may have died and left its own.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._work.wait(), _FOREIGN_HOLD_S)
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
        foreign: list[OutboxEntry] = []
        after = 0
        last = await self._database.read(rows.select_last)
        while after < last:
            entries = await self._database.read(partial(rows.select_batch, after=after, last=last))
            if not entries:
                break
            after = entries[-1].seq
            ours = [entry for entry in entries if not self._is_foreign(entry)]
            foreign += [entry for entry in entries if self._is_foreign(entry)]
            if ready := [entry for entry in ours if entry.message_id not in self._held]:
                await self._send(ready)
        self._delivered = covered
        self._last_released = {u: n for u, n in self._last_released.items() if n > covered}
        self._unsettled = {e.user_id for e in foreign if e.seq <= self._last_inherited}
        if self._unsettled:
            asyncio.get_running_loop().call_later(_FOREIGN_POLL_S, self._work.set)
        self._pass_done.set()
        self._pass_done = asyncio.Event()

    def _is_foreign(self, entry: OutboxEntry) -> bool:
        # A clock that was set back makes an age negative: no reason to wait.
        age_s = (datetime.now(UTC) - entry.sent_time).total_seconds()
        return entry.owner != self._me and 0 <= age_s < _FOREIGN_HOLD_S

    async def _send(self, entries: Sequence[OutboxEntry]) -> None:
        try:
            with self._tracing.batch("outbox", (entry.origin for entry in entries)):
                await self._recorder.record(entries)
        except InvalidInput as error:
            if len(entries) > 1:
                for entry in entries:
                    await self._send([entry])
                return
            # Kept on disk for its operator, but not in the way of the others.
            log.warning("analytics refuses message %s: %s", entries[0].message_id, error)
            return
        await self._database.write(partial(rows.delete, seqs=[entry.seq for entry in entries]))

    def _release(self, message: ChatMessage, written: asyncio.Task[None]) -> None:
        if not written.cancelled() and (error := written.exception()):
            log.warning("message %s is not in the outbox: %s", message.message_id, error)
        self._held.discard(message.message_id)
        self._released += 1
        self._last_released[message.user_id] = self._released
        self._work.set()
