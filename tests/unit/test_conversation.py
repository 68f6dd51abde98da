"""The use case with fakes: ask for the count, reply, keep the turn."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest

from chat_service.chat.messages import Answer, ChatMessage, ConversationKey, ToolCall
from chat_service.turns.leases import TurnLocks
from daca_shared.domain import (
    DomainError,
    Failed,
    InvalidInput,
    LimitReached,
    Misconfigured,
    TimedOut,
    Unavailable,
)
from tests.fakes import FOREVER_S, FakeChat, eventually


@pytest.fixture
def chat() -> FakeChat:
    return FakeChat()


def message(user_id: str = "alice", text: str = "hi", **fields: object) -> ChatMessage:
    return ChatMessage.model_validate({"user_id": user_id, "text": text, **fields})


async def read(chat: FakeChat, sent: ChatMessage) -> None:
    async for _ in chat.conversation.stream(sent):
        pass


async def test_a_reply_knows_the_count_so_far_and_its_turn_is_kept(chat: FakeChat) -> None:
    sent = message()
    reply = await chat.conversation.reply(sent)
    (kept,) = chat.turns.kept
    assert reply == kept
    assert (kept.conversation, kept.message_id, kept.prompt) == (
        sent.conversation,
        sent.message_id,
        "hi",
    )
    assert (kept.answer.text, kept.model, kept.stopped) == ("You said: hi", "fake", False)
    assert (kept.message_count, chat.agent.counts) == (5, [5])


async def test_a_new_user_has_sent_none(chat: FakeChat) -> None:
    reply = await chat.conversation.reply(message("carol"))
    assert (reply.message_count, chat.agent.counts) == (0, [0])


@pytest.mark.parametrize("failure", [Unavailable("away"), TimedOut("slow"), Failed("broken")])
async def test_an_unknown_count_is_none_and_never_zero(
    failure: DomainError,
) -> None:
    chat = FakeChat()
    chat.analytics.failure = failure
    reply = await chat.conversation.reply(message())
    assert (reply.message_count, chat.agent.counts) == (None, [None])
    reason = "timed_out" if isinstance(failure, TimedOut) else "unavailable"
    assert chat.conversation.no_counts == {reason: 1}
    assert len(chat.turns.kept) == 1


@pytest.mark.parametrize("hanging", ["analytics", "outbox"])
async def test_a_missing_count_costs_half_a_second(chat: FakeChat, hanging: str) -> None:
    if hanging == "analytics":
        chat.analytics.delay_s = FOREVER_S
    else:
        chat.outbox.settles = False
    started = time.monotonic()
    reply = await chat.conversation.reply(message())
    assert reply.message_count is None
    assert 0.4 < time.monotonic() - started < 1


async def test_analytics_is_given_a_deadline(chat: FakeChat) -> None:
    await chat.conversation.reply(message())
    (timeout_s,) = chat.analytics.timeouts_s
    assert 0 < timeout_s <= 0.5


@pytest.mark.parametrize("text", ["", " ", "\n\t \u2003", "x" * 101])
async def test_bad_text_is_refused_and_neither_kept_nor_answered(chat: FakeChat, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await chat.conversation.reply(message(text=text))
    assert [field for field, _ in refused.value.violations] == ["text"]
    assert (chat.turns.kept, chat.agent.counts) == ([], [])


async def test_the_longest_text_is_accepted(chat: FakeChat) -> None:
    await chat.conversation.reply(message(text="😀" * 100))
    assert len(chat.turns.kept) == 1


@pytest.mark.parametrize(
    ("ours_s", "callers_s"),
    [(0.05, None), (0.05, FOREVER_S), (FOREVER_S, 0.05), (FOREVER_S, 0.0)],
)
async def test_the_shorter_of_both_time_limits_holds(
    ours_s: float, callers_s: float | None
) -> None:
    chat = FakeChat(timeout_s=ours_s)
    chat.agent.delay_s = FOREVER_S
    async with asyncio.timeout(10):
        with pytest.raises(TimedOut) as late:
            await chat.conversation.reply(message(), timeout_s=callers_s)
    assert late.value.code == "REPLY_TIMED_OUT"
    assert chat.turns.kept == []


@pytest.mark.parametrize(
    "failure",
    [
        LimitReached("full"),
        TimedOut("slow"),
        Unavailable("away"),
        Misconfigured("no key"),
        Failed("lost"),
        RuntimeError("a bug"),
    ],
    ids=lambda failure: type(failure).__name__,
)
@pytest.mark.parametrize("way", ["reply", "stream"])
async def test_nothing_is_kept_of_a_message_whose_model_fails(
    chat: FakeChat, failure: Exception, way: str
) -> None:
    chat.agent.failure = failure
    sent = message(message_id=uuid4())
    with pytest.raises(type(failure), match=str(failure)):
        await (chat.conversation.reply(sent) if way == "reply" else read(chat, sent))
    assert chat.turns.kept == []
    chat.agent.failure = None
    assert await chat.conversation.reply(sent) == chat.turns.kept[0]


async def test_there_is_no_reply_to_a_message_that_cannot_be_kept(chat: FakeChat) -> None:
    chat.turns.failure = Unavailable("disk full")
    with pytest.raises(Unavailable, match="disk full"):
        await chat.conversation.reply(message())
    with pytest.raises(Unavailable, match="disk full"):
        await read(chat, message())


async def test_nothing_is_kept_if_a_caller_cancels_a_reply(chat: FakeChat) -> None:
    chat.agent.delay_s = FOREVER_S
    chatting = asyncio.create_task(chat.conversation.reply(message()))
    await asyncio.sleep(0.05)
    assert chat.agent.counts == [5]
    chatting.cancel()
    await asyncio.wait([chatting])
    assert chat.turns.kept == []


async def test_nothing_is_kept_if_a_reader_leaves_before_the_agent_starts(
    chat: FakeChat,
) -> None:
    chat.analytics.delay_s = FOREVER_S
    reading = asyncio.create_task(read(chat, message()))
    await asyncio.sleep(0.05)
    reading.cancel()
    await asyncio.wait([reading])
    await chat.conversation.close()
    assert (chat.turns.kept, chat.agent.counts) == ([], [])


@pytest.mark.parametrize("message_id", [None, uuid4()], ids=["without an id", "with one"])
async def test_a_message_stopped_before_anything_was_said_is_kept_if_it_can_be_sent_again(
    chat: FakeChat, message_id: UUID | None
) -> None:
    chat.agent.is_silent = True
    chat.agent.delay_s = FOREVER_S
    given: dict[str, Any] = {"message_id": message_id} if message_id else {}
    sent = message(**given)
    reading = asyncio.create_task(read(chat, sent))
    await eventually(lambda: chat.agent.messages)
    reading.cancel()
    await eventually(lambda: not chat.conversation.streams)
    assert [turn.message_id for turn in chat.turns.kept] == [message_id] * bool(message_id)


@pytest.mark.parametrize(("left_s", "kept"), [(0.05, []), (0.5, ["You said: "])])
async def test_a_stream_cancelled_just_before_its_time_limit_has_timed_out(
    chat: FakeChat, left_s: float, kept: list[str]
) -> None:
    chat.agent.delay_s = FOREVER_S
    limit = asyncio.get_running_loop().time() + 0.6
    stream = chat.conversation.stream(message(), timeout_s=0.6)
    assert [await anext(stream), await anext(stream)] == ["You ", "said: "]
    await asyncio.sleep(limit - left_s - asyncio.get_running_loop().time())
    await stream.aclose()
    await chat.conversation.close()
    assert [turn.answer.text for turn in chat.turns.kept] == kept


@pytest.mark.parametrize("steps", range(1, 5))
async def test_a_caller_who_leaves_at_once_leaves_nothing_running(
    chat: FakeChat, steps: int
) -> None:
    chat.analytics.delay_s = FOREVER_S
    chatting = asyncio.create_task(chat.conversation.reply(message()))
    for _ in range(steps):
        await asyncio.sleep(0)
    chatting.cancel()
    await asyncio.wait([chatting])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_agent_is_shown_what_was_said_in_the_conversation(chat: FakeChat) -> None:
    first = message(text="first")
    await chat.conversation.reply(first)
    await chat.conversation.reply(message(text="elsewhere"))
    await chat.conversation.reply(message(text="second", session_id=first.session_id))
    shown = [[turn.prompt for turn in history] for history in chat.agent.histories]
    assert shown == [[], [], ["first"]]


def test_each_message_has_ids_of_its_own() -> None:
    one, two = message(), message()
    assert len({one.message_id, two.message_id, one.session_id, two.session_id}) == 4
    assert not one.may_be_known


def test_a_message_with_an_id_and_no_session_has_the_same_session_each_time() -> None:
    one, two = (message(message_id="7f6f8f5e-0000-4000-8000-000000000001") for _ in range(2))
    assert one.may_be_known
    assert one.conversation == two.conversation
    assert one.session_id != one.message_id
    assert message(message_id=uuid4()).session_id != one.session_id


def test_answers_are_compared_by_content() -> None:
    one, two = (Answer("hi", (ToolCall("clock", "{}", "noon"),)) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("then", ["its reader leaves", "the service ends"])
async def test_a_stream_that_a_stop_ends_releases_its_conversation(
    chat: FakeChat, then: str
) -> None:
    released = []

    class SlowLocks(TurnLocks):
        @asynccontextmanager
        async def turn(self, key: ConversationKey) -> AsyncIterator[None]:
            try:
                yield
            finally:
                await asyncio.sleep(0.1)
                released.append(key)

    chat.agent.delay_s = FOREVER_S
    chat.conversation.locks = SlowLocks()
    stream = chat.conversation.stream(message())
    await anext(stream)
    chat.conversation.end_streams()
    await asyncio.sleep(0.05)
    if then == "its reader leaves":
        await stream.aclose()
    await chat.conversation.close()
    assert len(released) == 1
    assert chat.turns.kept == []
