import asyncio
import time

import pytest

from chat_service.chat.ports import ChatMessage
from daca_shared.domain import (
    DomainError,
    Failed,
    InvalidInput,
    LimitReached,
    Misconfigured,
    TimedOut,
    Unavailable,
)
from tests.fakes import FOREVER_S, FakeChat


@pytest.fixture
def chat() -> FakeChat:
    return FakeChat()


def message(user_id: str = "alice", text: str = "hi") -> ChatMessage:
    return ChatMessage(user_id=user_id, text=text)


async def test_a_reply_knows_the_count_so_far(chat: FakeChat) -> None:
    sent = message()
    reply = await chat.conversation.reply(sent)
    assert (reply.text, reply.message, reply.model) == ("You said: hi", sent, "fake")
    assert (reply.message_count, chat.agent.counts) == (5, [5])
    assert chat.outbox.accepted == [sent]


async def test_a_new_user_has_sent_none(chat: FakeChat) -> None:
    reply = await chat.conversation.reply(message("carol"))
    assert (reply.message_count, chat.agent.counts) == (0, [0])


@pytest.mark.parametrize("failure", [Unavailable("away"), TimedOut("slow"), Failed("broken")])
async def test_an_unknown_count_is_none_and_never_zero(
    chat: FakeChat, failure: DomainError
) -> None:
    chat.analytics.failure = failure
    reply = await chat.conversation.reply(message())
    assert (reply.message_count, chat.agent.counts) == (None, [None])
    assert len(chat.outbox.accepted) == 1


@pytest.mark.parametrize("hanging", ["analytics", "outbox"])
async def test_a_count_that_does_not_come_costs_half_a_second(chat: FakeChat, hanging: str) -> None:
    if hanging == "analytics":
        chat.analytics.delay_s = FOREVER_S
    else:
        chat.outbox.settles = False
    started = time.monotonic()
    reply = await chat.conversation.reply(message())
    assert reply.message_count is None
    assert 0.4 < time.monotonic() - started < 0.8


async def test_analytics_is_given_a_deadline(chat: FakeChat) -> None:
    await chat.conversation.reply(message())
    (timeout_s,) = chat.analytics.timeouts_s
    assert 0 < timeout_s <= 0.5


@pytest.mark.parametrize("text", ["", " ", "\n\t \u2003", "x" * 101])
async def test_bad_text_is_refused_and_not_counted(chat: FakeChat, text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await chat.conversation.reply(message(text=text))
    assert [violation.field for violation in refused.value.violations] == ["text"]
    assert (chat.outbox.accepted, chat.agent.counts) == ([], [])


async def test_the_longest_text_is_accepted(chat: FakeChat) -> None:
    await chat.conversation.reply(message(text="😀" * 100))
    assert len(chat.outbox.accepted) == 1


@pytest.mark.parametrize(
    ("ours_s", "callers_s"),
    [(0.05, None), (0.05, FOREVER_S), (FOREVER_S, 0.05), (FOREVER_S, 0.0)],
)
async def test_the_shorter_of_both_time_limits_holds(
    ours_s: float, callers_s: float | None
) -> None:
    chat = FakeChat(timeout_s=ours_s)
    chat.agent.delay_s = FOREVER_S
    async with asyncio.timeout(2):
        with pytest.raises(TimedOut):
            await chat.conversation.reply(message(), timeout_s=callers_s)


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
async def test_a_message_counts_though_the_model_fails(chat: FakeChat, failure: Exception) -> None:
    chat.agent.failure = failure
    sent = message()
    with pytest.raises(type(failure), match=str(failure)):
        await chat.conversation.reply(sent)
    assert chat.outbox.accepted == [sent]


async def test_there_is_no_reply_to_a_message_that_cannot_be_kept(chat: FakeChat) -> None:
    chat.outbox.failure = Unavailable("disk full")
    with pytest.raises(Unavailable, match="disk full"):
        await chat.conversation.reply(message())
    assert chat.agent.counts == []


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


def test_each_message_has_ids_of_its_own() -> None:
    one, two = message(), message()
    assert len({one.message_id, two.message_id, one.session_id, two.session_id}) == 4
