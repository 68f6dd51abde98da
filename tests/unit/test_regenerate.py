"""The last message of a conversation is answered again, and its turn replaced."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from chat_service.chat.messages import ChatMessage, Turn
from daca_shared.domain import Conflict, DomainError, InvalidInput, NotFound, Unavailable
from lab.postgres import Place
from tests.chats import SESSION, StoredChat, chatting
from tests.fakes import FOREVER_S, FakeAgent


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
async def chat(place: Place, agent: FakeAgent) -> AsyncIterator[StoredChat]:
    async with chatting(place, agent) as chat:
        await chat.say("first")
        await chat.say("second")
        yield chat


def again(turn: Turn, text: str | None = None, session_id: UUID = SESSION) -> ChatMessage:
    return ChatMessage(
        user_id="alice",
        text=text or turn.prompt,
        message_id=turn.message_id,
        session_id=session_id,
        regenerate=True,
    )


async def streamed(chat: StoredChat, message: ChatMessage) -> Turn:
    *_, reply = [event async for event in chat.conversation.stream(message)]
    assert isinstance(reply, Turn)
    return reply


@pytest.mark.parametrize("text", ["second", "edited"])
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_new_reply_replaces_the_turn_and_is_not_counted_again(
    chat: StoredChat, agent: FakeAgent, text: str, is_streamed: bool
) -> None:
    first, second = await chat.history()
    message = again(second, text)
    reply = await (streamed if is_streamed else StoredChat.ask)(chat, message)
    assert reply.answer.text == f"You said: {text}"
    assert reply.message_count == 1
    assert agent.histories[-1] == [first]
    now = await chat.history()
    assert now == [first, reply]
    assert reply.seq == second.seq
    assert [(c.title, c.turn_count) for c in await chat.stores.conversations()] == [("first", 2)]
    assert await chat.count() == 2
    await chat.say("third")
    assert agent.histories[-1] == now


async def test_a_stopped_reply_is_replaced_as_well(chat: StoredChat, agent: FakeAgent) -> None:
    agent.delay_s = FOREVER_S
    await chat.stop(ChatMessage(user_id="alice", text="third", session_id=SESSION))
    agent.delay_s = 0
    stopped = (await chat.history())[-1]
    assert stopped.stopped
    reply = await chat.conversation.reply(again(stopped))
    assert (reply.stopped, reply.seq) == (False, stopped.seq)
    assert await chat.count() == 3


async def test_any_conversation_is_found_by_the_messages_id(chat: StoredChat) -> None:
    _, second = await chat.history()
    reply = await chat.conversation.reply(again(second, "edited", session_id=uuid4()))
    assert reply.conversation == second.conversation
    assert [turn.prompt for turn in await chat.history()] == ["first", "edited"]
    assert len(await chat.stores.conversations()) == 1


async def refusal(chat: StoredChat, message: ChatMessage) -> DomainError:
    before = await chat.history(), await chat.stores.conversations()
    with pytest.raises(DomainError) as refused:
        await chat.conversation.reply(message)
    with pytest.raises(type(refused.value)):
        await streamed(chat, message)
    assert (await chat.history(), await chat.stores.conversations()) == before
    assert await chat.count() == 2
    return refused.value


async def test_only_the_last_message_can_be_regenerated(chat: StoredChat) -> None:
    first, _ = await chat.history()
    assert isinstance(await refusal(chat, again(first)), Conflict)


async def test_an_unknown_message_is_not_answered(chat: StoredChat) -> None:
    _, second = await chat.history()
    unknown = again(second).model_copy(update={"message_id": uuid4()})
    assert isinstance(await refusal(chat, unknown), NotFound)
    anothers = again(second).model_copy(update={"user_id": "bob"})
    assert isinstance(await refusal(chat, anothers), NotFound)


async def test_a_message_without_its_id_is_refused_by_name(chat: StoredChat) -> None:
    message = ChatMessage(user_id="alice", text="second", session_id=SESSION, regenerate=True)
    refused = await refusal(chat, message)
    assert isinstance(refused, InvalidInput)
    assert refused.violations[0][0] == "message_id"


async def test_the_old_turn_stays_if_the_model_fails(chat: StoredChat, agent: FakeAgent) -> None:
    _, second = await chat.history()
    agent.failure = Unavailable("away")
    assert isinstance(await refusal(chat, again(second, "edited")), Unavailable)


@pytest.mark.parametrize(("text", "replies"), [("second", "You said: second"), ("edited", "")])
async def test_a_new_reply_stopped_before_its_first_word_loses_nothing(
    chat: StoredChat, agent: FakeAgent, text: str, replies: str
) -> None:
    _, second = await chat.history()
    agent.is_silent = True
    agent.delay_s = FOREVER_S
    await chat.stop(again(second, text), after=0)
    turn = (await chat.history())[-1]
    assert (turn.prompt, turn.answer.text, turn.seq) == (text, replies, second.seq)


async def test_the_title_follows_an_edited_first_message_unless_it_was_renamed(
    chat: StoredChat,
) -> None:
    for title, told in ((None, "edited"), ("mine", "mine")):
        session_id = uuid4()
        await chat.say("original", session_id=session_id)
        (turn,) = await chat.history(session_id=session_id)
        if title:
            await chat.stores.turns.rename(turn.conversation, title)
        await chat.conversation.reply(again(turn, "edited", session_id))
        assert (await chat.stores.conversations())[0].title == told


async def test_the_title_follows_a_stopped_first_message_that_is_answered_after_others(
    chat: StoredChat,
) -> None:
    first = ChatMessage(user_id="alice", text="old words", session_id=uuid4(), message_id=uuid4())
    await chat.stop(first)
    await chat.say("second", session_id=first.session_id)
    await chat.ask(first.model_copy(update={"text": "new words"}))
    assert (await chat.stores.conversations())[0].title == "new words"
    # Only the first gives it.
    await chat.say("new words", session_id=first.session_id)
    last = (await chat.history(session_id=first.session_id))[-1]
    await chat.conversation.reply(again(last, "third", first.session_id))
    assert (await chat.stores.conversations())[0].title == "new words"
