"""The outbox: a sent message is on our own disk before its chat goes on, and leaves it
only once analytics has counted it. Sending twice is harmless, as a message id counts once."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

from chat_service.chat.ports import ChatMessage
from chat_service.outbox.outbox_rows import BATCH, OutboxEntry, OutboxRows
from daca_shared.domain import DomainError, InvalidInput
from daca_shared.observe.tracing import NO_TRACING, Tracing

log = logging.getLogger(__name__)

# A first failure is often a restart; after that, twice a second is soon enough.
_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 0.5
# Another process's message may be held by its chat. It is for that process to send, unless
# it is so old that the process must be gone.
_HOLD = timedelta(seconds=2)
# How often to look for such, and how often whether another process has sent one.
_TAKE_OVER_S, _POLL_S = 0.5, 0.02

# A pass costs as much as a chat's other calls, so the messages of a moment share one, unless
# somebody who wants to know their count waits for it.
_GATHER_S = 0.05


class Recorder(Protocol):
    """Where the messages are counted."""

    async def record(self, entries: Sequence[OutboxEntry]) -> None:
        """Returns once they are counted. Raises `DomainError` if that is not certain."""
        ...


class Outbox:
    """Sent messages on their way to analytics, in batches; `run` is what sends them."""

    def __init__(self, rows: OutboxRows, recorder: Recorder, tracing: Tracing = NO_TRACING) -> None:
        self._rows = rows
        self._recorder = recorder
        self._tracing = tracing
        # Messages whose own chat has not read the count yet: it must not include them.
        self._held: set[UUID] = set()
        self._me = secrets.randbits(62)
        # How many messages were released for sending, and how many of those one complete
        # pass has covered. A user is in the map while the last one's number is above that.
        self._released = 1
        self._delivered = 0
        self._last_released: dict[str, int] = {}
        # Other processes' messages that were sent before this have been tried by us.
        self._taken_over = datetime.min.replace(tzinfo=UTC)
        self._work = asyncio.Event()
        self._work.set()
        self._hurry = asyncio.Event()
        self._pass_done = asyncio.Event()

    @asynccontextmanager
    async def accept(self, message: ChatMessage) -> AsyncIterator[None]:
        """Write the message while the context's body runs; leaving waits for the disk.

        Raises `Unavailable` if it can't be written. The message counts once that is
        done, even for a caller that was cancelled meanwhile.
        """
        self._held.add(message.message_id)
        entry = OutboxEntry(
            seq=0,
            message_id=message.message_id,
            user_id=message.user_id,
            sent_time=datetime.now(UTC),
            owner=self._me,
            origin=self._tracing.origin(),
        )
        written = asyncio.create_task(self._rows.insert(entry))
        try:
            yield
            await asyncio.shield(written)
        finally:
            if written.done():
                self._release(message, written)
            else:
                written.add_done_callback(partial(self._release, message))

    async def settled(self, user_id: str) -> None:
        """Wait until analytics has counted all that `user_id`'s finished chats sent, here or in
        another process. Raises `Unavailable`."""
        # What others accept from now on may wait for us.
        now = datetime.now(UTC)
        target = self._last_released.get(user_id, 0)
        while self._delivered < target:
            self._hurry.set()
            await self._pass_done.wait()
        while await self._rows.has_others(  # noqa: ASYNC110
            self._me, user_id=user_id, since=self._taken_over, until=now
        ):
            await asyncio.sleep(_POLL_S)

    async def backlog(self) -> tuple[int, datetime | None]:
        """How many messages of all processes are here, and when the oldest was sent."""
        return await self._rows.backlog()

    async def run(self) -> None:
        """Send for ever, a pass whenever there is something, again until it succeeds."""
        retry_s = _MIN_RETRY_S
        while True:
            # Without work of our own too: another process may have died and left its own.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._work.wait(), _TAKE_OVER_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), _GATHER_S)
            self._work.clear()
            self._hurry.clear()
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
        covered, now = self._released, datetime.now(UTC)
        await self._send_all(partial(self._rows.own, self._me))
        self._delivered = covered
        self._last_released = {u: n for u, n in self._last_released.items() if n > covered}
        self._pass_done.set()
        self._pass_done = asyncio.Event()
        if now - self._taken_over >= _HOLD + timedelta(seconds=_TAKE_OVER_S):
            # Others' clocks may be a little ahead; if it is more, there is no reason to wait.
            since, until = now - _HOLD, now + _HOLD
            await self._send_all(partial(self._rows.others, self._me, since=since, until=until))
            self._taken_over = since

    async def _send_all(self, select: Callable[..., Awaitable[Sequence[OutboxEntry]]]) -> None:
        after, count = 0, BATCH
        while count == BATCH:
            entries = await select(after=after)
            if ready := [entry for entry in entries if entry.message_id not in self._held]:
                await self._send(ready)
            count = len(entries)
            after = entries[-1].seq if entries else 0

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
        await self._rows.delete([entry.seq for entry in entries])

    def _release(self, message: ChatMessage, written: asyncio.Task[None]) -> None:
        if not written.cancelled() and (error := written.exception()):
            log.warning("message %s is not in the outbox: %s", message.message_id, error)
        self._held.discard(message.message_id)
        self._released += 1
        self._last_released[message.user_id] = self._released
        self._work.set()
