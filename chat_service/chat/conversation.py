"""The use case: one chat message in, one reply out, and the message counted once.

Count, think, keep: the user's count is fetched, the agent replies, and turn and outgoing message
are kept in one transaction. So a user's count is the number of that user's kept turns."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime

from chat_service.chat.messages import Answer, ChatMessage, ConversationKey, Say, ToolCall, Turn
from chat_service.chat.ports import Agent, Counts, Locks, Turns
from daca_shared import domain
from daca_shared.domain import MOMENT_S, DomainError, InvalidInput, NotFound, TimedOut
from daca_shared.observe.tracing import tracing

log = logging.getLogger(__name__)

COUNT_TIMEOUT_S = 0.5
"""How long a chat may wait for its user's count."""
READING_S = 2.0
"""How long a client may still read the answer after the chat's own time limit."""


@dataclass(eq=False)
class Conversation:
    """Answers chat messages. One object serves all users and keeps nothing about any of them."""

    counts: Counts
    turns: Turns
    locks: Locks
    agent: Agent
    _: KW_ONLY
    max_text_length: int
    timeout_s: float
    no_counts: Counter[str] = field(default_factory=Counter, init=False)
    """How many chats went without their user's count, by the reason."""
    streams: set[asyncio.Task[Turn]] = field(default_factory=set, init=False)
    _ended_by_stop: set[asyncio.Task[Turn]] = field(default_factory=set, init=False)

    async def reply(self, message: ChatMessage, *, timeout_s: float | None = None) -> Turn:
        """Answer `message`, within `timeout_s` if the caller has less time than we allow. A message
        answered before gets the same answer, or with `regenerate` a new one. A failure keeps and
        counts nothing; it raises `InvalidInput`, `TimedOut`, `Unavailable`, `LimitReached`,
        `Misconfigured`, `Failed`; with `regenerate` also `NotFound`, `Conflict`."""
        self.check(message)
        return await self._take_turn(message, timeout_s, say=None)

    async def stream(
        self, message: ChatMessage, *, timeout_s: float | None = None, with_tools: bool = False
    ) -> AsyncGenerator[str | ToolCall | Turn]:
        """Answer `message` piece by piece; the whole turn is the last event. Limits and errors are
        those of `reply`. Closing the stream, or cancelling its consumer, stops the model at once;
        what came so far is kept, marked as stopped, and counts."""
        self.check(message)
        events: asyncio.Queue[str | ToolCall | BaseException | None] = asyncio.Queue()

        def note_end(task: asyncio.Task[Turn]) -> None:
            self.streams.discard(task)
            events.put_nowait(domain.stopping_error() if task.cancelled() else task.exception())

        # A task of its own can still keep the turn after the consumer has left.
        task = asyncio.create_task(self._take_turn(message, timeout_s, events.put_nowait))
        self.streams.add(task)
        task.add_done_callback(note_end)
        try:
            while isinstance(event := await events.get(), str | ToolCall):
                if with_tools or not isinstance(event, ToolCall):
                    yield event
            if event:
                raise event
            yield task.result()
        finally:
            if task not in self._ended_by_stop:  # otherwise it may be releasing its locks
                task.cancel()

    async def delete(self, key: ConversationKey, *, timeout_s: float | None = None) -> None:
        """Delete a conversation for good, once no reply is being made in it. Its messages stay
        counted. Raises `NotFound`, `TimedOut`, `Unavailable`."""
        try:
            async with asyncio.timeout(self._limit_s(timeout_s)), self.locks.turn(key):
                await self.turns.delete(key)
        except TimeoutError:
            problem = "The conversation is still in use; try again"
            raise TimedOut(problem, code="REPLY_RUNS") from None

    def end_streams(self) -> None:
        """Fail the streams that are still running, as the service is stopping. Nothing is kept of
        them: their clients are told so, and send their messages again."""
        for task in self.streams:
            # A stream that its user has stopped is already busy keeping its turn.
            if not task.cancelling():
                self._ended_by_stop.add(task)
                task.cancel()

    async def close(self) -> None:
        self.end_streams()
        if self.streams:
            await asyncio.wait(self.streams)

    def check(self, message: ChatMessage) -> None:
        """Raises `InvalidInput` unless the message is one that may be sent."""
        if message.regenerate and not message.may_be_known:
            raise InvalidInput.field("message_id", "is required with regenerate")
        if not message.text.strip():
            raise InvalidInput.field("text", "must not be blank", "Message text cannot be empty")
        if len(message.text) > self.max_text_length:
            raise InvalidInput.field("text", f"must be at most {self.max_text_length} characters")

    def _limit_s(self, timeout_s: float | None) -> float:
        """A caller's deadline can only shorten ours."""
        return self.timeout_s if timeout_s is None else min(timeout_s, self.timeout_s)

    async def _take_turn(
        self, message: ChatMessage, timeout_s: float | None, say: Say | None
    ) -> Turn:
        ends_at = asyncio.get_running_loop().time() + self._limit_s(timeout_s)
        # A message that is sent twice at once, even to two conversations, is answered once.
        message_lock = self.locks.message(message.user_id, message.message_id)
        with tracing.span("turn"):
            try:
                async with asyncio.timeout_at(ends_at), message_lock:
                    return await self._turn_of(message, say, ends_at)
            except TimeoutError:
                problem = "The reply took too long; try again"
                raise TimedOut(problem, code="REPLY_TIMED_OUT") from None

    async def _turn_of(self, message: ChatMessage, say: Say | None, ends_at: float) -> Turn:
        requested = message.conversation
        while True:
            async with self.locks.turn(message.conversation):
                earlier = None
                if message.may_be_known:
                    earlier = await self.turns.find(message.user_id, message.message_id)
                if message.regenerate and not earlier:
                    raise NotFound("No message has this message_id", code="MESSAGE_NOT_FOUND")
                if earlier and not earlier.stopped and not message.regenerate:
                    if say:
                        say(earlier.answer.text)
                    return earlier
                actual = earlier.conversation if earlier else requested
                if actual == message.conversation:
                    return await self._answer(message, earlier, say, ends_at)
            # The turn stays in the conversation that the message was first sent to, while that
            # exists. Its lock is taken once the requested one's is released: otherwise two such
            # messages could deadlock.
            message = message.model_copy(update={"session_id": actual.session_id})

    async def _answer(
        self, message: ChatMessage, earlier: Turn | None, say: Say | None, ends_at: float
    ) -> Turn:
        key = message.conversation
        history = await self.turns.latest(key)
        if message.regenerate and message.message_id not in [t.message_id for t in history[-1:]]:
            raise domain.Conflict("Not its conversation's last message", code="NOT_LAST_MESSAGE")
        if earlier:
            history = await self.turns.latest(key, before=earlier)
        count = await self._count_before(message.user_id, earlier)
        said: list[str] = []

        def turn(answer: Answer, *, stopped: bool) -> Turn:
            return Turn(
                key, message.message_id, message.text, answer, stopped, count,
                self.agent.model, datetime.now(UTC), earlier.seq if earlier else 0,
            )  # fmt: skip

        def say_and_note(piece: str | ToolCall) -> None:
            if isinstance(piece, str):
                said.append(piece)
            if say:
                say(piece)

        try:
            answer = await self.agent.answer(message, count, history, say and say_and_note)
            kept = await self.turns.keep(turn(answer, stopped=False))
        except asyncio.CancelledError:
            # The time limit, or a stop of the service, is a failure, which keeps nothing. But what
            # the user has stopped is kept, with as much of the reply as was said.
            may_be_kept = said or _may_be_empty(message, earlier)
            if say and may_be_kept and self._is_stopped_by_user(ends_at):
                await self.turns.keep(turn(Answer("".join(said)), stopped=True))
            raise
        if say and kept.answer != answer:  # what was said is not what is kept
            problem = "Another replica has answered this message meanwhile; send it again"
            raise domain.Unavailable(problem, code="CONVERSATION_WENT_ON")
        return kept

    def _is_stopped_by_user(self, ends_at: float) -> bool:
        """Whether it is the user who has cancelled the current turn."""
        is_late = asyncio.get_running_loop().time() >= ends_at - MOMENT_S
        return not is_late and asyncio.current_task() not in self._ended_by_stop

    async def _count_before(self, user_id: str, earlier: Turn | None) -> int | None:
        """How many other messages the user has sent; 0 for a new user. None if that isn't known in
        time: a wrong number would be worse than none."""
        try:
            count = await self.counts.message_count(user_id, timeout_s=COUNT_TIMEOUT_S)
        except NotFound:
            return 0
        except DomainError as error:
            log.warning("no count for this chat: %s", error)
            self.no_counts["timed_out" if isinstance(error, TimedOut) else "unavailable"] += 1
            return None
        # A message that is answered again has already been counted.
        return count - 1 if earlier else count


def _may_be_empty(message: ChatMessage, earlier: Turn | None) -> bool:
    """Whether a stopped message may be kept without any reply: not in place of a reply to the same
    text, nor if the client has chosen no id, as the message, sent again, would count twice."""
    return message.may_be_known and (earlier is None or earlier.prompt != message.text)
