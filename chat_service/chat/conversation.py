"""The use case: one chat message in, one reply out, and the message counted once."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from chat_service.chat.ports import Agent, Analytics, ChatMessage, ChatReply, Count, Memory, Outbox
from chat_service.turns.memory import ConversationKey, Items, Turn
from daca_shared.domain import DomainError, Failed, InvalidInput, NotFound, TimedOut
from daca_shared.observe.tracing import NO_TRACING, Tracing

log = logging.getLogger(__name__)

ANALYTICS_TIMEOUT_S = 0.5
"""The most that knowing the user's count may cost a chat."""


@dataclass(frozen=True)
class _Begun:
    """A turn that has begun, and what the agent may know."""

    key: ConversationKey
    count: Count
    """Known, or known to be unknown, once the message is on disk."""
    history: Items
    limit: asyncio.Timeout


class Conversation:
    """Answers chat messages. One object serves all users, and holds nothing of any."""

    def __init__(
        self,
        analytics: Analytics,
        outbox: Outbox,
        memory: Memory,
        agent: Agent,
        *,
        max_text_length: int,
        timeout_s: float,
        tracing: Tracing = NO_TRACING,
        on_no_count: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._analytics = analytics
        self._outbox = outbox
        self._memory = memory
        self._agent = agent
        self._max_text_length = max_text_length
        self._timeout_s = timeout_s
        self._tracing = tracing
        self._on_no_count = on_no_count
        self._streams: set[asyncio.Task[None]] = set()

    async def reply(self, message: ChatMessage, *, timeout_s: float | None = None) -> ChatReply:
        """Answer `message`, within `timeout_s` if the caller has less time than we allow.

        The message counts from the moment that it is on disk, whatever the model does
        then. Raises `InvalidInput` (nothing is counted), `TimedOut`, `Unavailable`,
        `LimitReached` or `Misconfigured`.
        """
        self.check(message)
        async with self._begin(message, timeout_s) as begun:
            turn = await self._agent.reply(message, begun.count, begun.history)
            # Only now, and as a whole: a failed run leaves the history as it was.
            await self._memory.keep(begun.key, turn)
        return self._reply(message, turn, await begun.count)

    async def stream(
        self, message: ChatMessage, *, timeout_s: float | None = None
    ) -> AsyncGenerator[str | ChatReply]:
        """Answer `message` piece by piece; the whole reply is the last event.

        Limits and errors are those of `reply`. Closing it, or cancelling its consumer, stops
        the model at once; what came so far is kept in the history, marked as stopped.
        """
        self.check(message)
        events: asyncio.Queue[str | ChatReply | Exception] = asyncio.Queue()
        # In a task of its own, which lives a moment longer than a consumer that goes away.
        task = asyncio.create_task(self._run_stream(message, timeout_s, events.put_nowait))
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)
        try:
            while not isinstance(event := await events.get(), ChatReply):
                if isinstance(event, Exception):
                    raise event
                yield event
            yield event
        finally:
            task.cancel()

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    async def close(self) -> None:
        """Stop the streams that are still running, and keep what they have."""
        for task in self._streams:
            task.cancel()
        if self._streams:
            await asyncio.wait(self._streams)

    async def _run_stream(
        self,
        message: ChatMessage,
        timeout_s: float | None,
        send: Callable[[str | ChatReply | Exception], None],
    ) -> None:
        try:
            async with self._begin(message, timeout_s) as begun:
                turn = await self._stream_turn(message, begun, send)
            send(self._reply(message, turn, await begun.count))
        except Exception as error:
            send(error)

    async def _stream_turn(
        self, message: ChatMessage, begun: _Begun, send: Callable[[str], None]
    ) -> Turn:
        said: list[str] = []
        try:
            async with aclosing(self._agent.stream(message, begun.count, begun.history)) as events:
                async for event in events:
                    if isinstance(event, Turn):
                        await self._memory.keep(begun.key, event)
                        return event
                    said.append(event)
                    send(event)
            raise Failed("The agent could not make a reply")
        except asyncio.CancelledError:
            # Running out of time is a failure, as in `reply`; this is a user who left.
            if not begun.limit.expired():
                stopped = self._agent.stopped(message, "".join(said))
                await self._memory.keep(begun.key, stopped)
            raise

    @asynccontextmanager
    async def _begin(self, message: ChatMessage, timeout_s: float | None) -> AsyncIterator[_Begun]:
        """One turn, in its order and its time: the conversation's history is known, and the
        message on its way to the disk, beside all else. Raises `TimedOut`."""
        limit_s = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        key = ConversationKey(message.user_id, message.session_id)
        with self._tracing.span("turn"):
            try:
                async with (
                    asyncio.timeout(limit_s) as limit,
                    self._memory.turn(key),
                    self._accepting(message) as count,
                ):
                    yield _Begun(key, count, await self._memory.recall(key), limit)
            except TimeoutError:
                raise TimedOut("The reply took too long; try again") from None

    @asynccontextmanager
    async def _accepting(self, message: ChatMessage) -> AsyncIterator[Count]:
        """Write the message, and read how many its user has sent before, beside the body."""
        count = asyncio.create_task(self._accept(message))
        try:
            # A step for the task, and one for the call that it makes: the question is on its
            # way before the agent takes the event loop.
            for _ in range(2):
                await asyncio.sleep(0)
            yield count
        finally:
            count.cancel()
            await asyncio.gather(count, return_exceptions=True)

    async def _accept(self, message: ChatMessage) -> int | None:
        async with self._outbox.accept(message):
            return await self._known_count(message.user_id)

    def _reply(self, message: ChatMessage, turn: Turn, count: int | None) -> ChatReply:
        return ChatReply(message, turn.reply, datetime.now(UTC), count, self._agent.model)

    def check(self, message: ChatMessage) -> None:
        """Raises `InvalidInput` unless the text is one that may be sent."""
        if not message.text.strip():
            raise InvalidInput.field("text", "must not be blank", "Message text cannot be empty")
        if len(message.text) > self._max_text_length:
            raise InvalidInput.field("text", f"must be at most {self._max_text_length} characters")

    async def _known_count(self, user_id: str) -> int | None:
        """The user's count so far, 0 for a new user. None if that can't be known in time:
        a wrong number would be worse than none."""
        try:
            return await self._analytics.message_count(user_id, timeout_s=ANALYTICS_TIMEOUT_S)
        except NotFound:
            return 0
        except DomainError as error:
            log.warning("no count for this chat: %s", error)
            self._on_no_count("timed_out" if isinstance(error, TimedOut) else "unavailable")
        return None
