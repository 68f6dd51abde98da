"""A turn and its outgoing message are kept together, and only once."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4, uuid5

import pytest

from chat_service.chat.messages import Answer, ChatMessage, ConversationKey, ToolCall, Turn
from chat_service.turns.history import ConversationsQuery
from daca_shared.domain import Unavailable
from lab.postgres import Place, run_sql
from tests.fakes import ChatStores, opened_stores, turn_of

ONE, OTHER = (ConversationKey("alice", UUID(int=n)) for n in (1, 2))


@pytest.fixture
async def stores(place: Place) -> AsyncIterator[ChatStores]:
    async with opened_stores(place) as stores:
        yield stores


def turn(
    reply: str = "ok",
    *,
    key: ConversationKey = ONE,
    message_id: UUID | None = None,
    stopped: bool = False,
) -> Turn:
    message = ChatMessage(
        user_id=key.user_id,
        text=f"about {reply}",
        message_id=message_id or uuid4(),
        session_id=key.session_id,
    )
    return turn_of(message, reply, stopped=stopped)


async def keep(stores: ChatStores, turn: Turn) -> Turn:
    async with stores.locks.turn(turn.conversation):
        return await stores.turns.keep(turn)


async def told(stores: ChatStores, key: ConversationKey = ONE) -> list[str]:
    return [turn.answer.text for turn in await stores.turns.latest(key)]


async def waiting(stores: ChatStores) -> list[UUID]:
    """The ids of the messages that are waiting to be counted."""
    rows = await stores.database.read("SELECT message_id FROM chat.outbox ORDER BY seq")
    return [id_ for (id_,) in rows]


async def test_a_turn_is_found_as_it_was_kept(stores: ChatStores) -> None:
    calls = (ToolCall("clock", '{"zone": "\\u0000 ü"}', "no\0on \x1b 😀"), ToolCall("x", "{}", ""))
    given = replace(turn("re: \0 \x1b0 😀"), message_count=7, model="m", end_time=datetime.now(UTC))
    given = replace(given, answer=replace(given.answer, tool_calls=calls))
    kept = await keep(stores, given)
    assert kept == replace(given, seq=kept.seq)
    assert kept.seq > 0
    assert await stores.turns.find("alice", given.message_id) == kept
    assert await stores.turns.latest(ONE) == [kept]
    assert await stores.messages(ONE) == [kept]


@pytest.mark.parametrize(
    ("text", "title"),
    [("word " * 30, "word " * 10 + "word…"), ("w" * 61, "w" * 59 + "…"), ("w" * 60, "w" * 60)],
    ids=range(3),
)
async def test_a_title_is_cut_between_words_if_it_has_some(
    stores: ChatStores, text: str, title: str
) -> None:
    await keep(stores, replace(turn(), prompt=text))
    page = await stores.turns.conversations(ConversationsQuery(user_id="alice"))
    assert [one.title for one in page.items] == [title]


async def test_an_unknown_message_is_not_found(stores: ChatStores) -> None:
    kept = await keep(stores, turn())
    assert await stores.turns.find("alice", uuid4()) is None
    assert await stores.turns.find("bob", kept.message_id) is None


async def test_a_users_message_is_found_in_any_of_the_users_conversations(
    stores: ChatStores,
) -> None:
    first, second = [await keep(stores, turn(reply)) for reply in ("first", "second")]
    elsewhere = await keep(stores, turn("elsewhere", key=OTHER))
    await keep(stores, turn("bob's", key=replace(ONE, user_id="bob"), message_id=first.message_id))
    for known in (first, second, elsewhere):
        assert await stores.turns.find("alice", known.message_id) == known
    assert await stores.turns.latest(ONE) == [first, second]


@pytest.mark.parametrize("table", ["outbox", "conversations", "turns"])
async def test_turn_and_message_are_kept_together_or_not_at_all(
    stores: ChatStores, place: Place, table: str
) -> None:
    await run_sql(place, f"ALTER TABLE {table} RENAME TO away")
    with pytest.raises(Unavailable):
        await keep(stores, turn())
    await run_sql(place, f"ALTER TABLE away RENAME TO {table}")
    assert await told(stores) == []
    assert await stores.conversations() == []
    assert await waiting(stores) == []
    assert (await keep(stores, turn())).seq
    assert len(await waiting(stores)) == 1


async def test_a_finished_turn_stays_as_it_is(stores: ChatStores) -> None:
    first = await keep(stores, turn("first"))
    for stopped in (False, True):
        again = turn("second", message_id=first.message_id, stopped=stopped)
        assert (await keep(stores, again)).answer.text == "first"
    assert await told(stores) == ["first"]
    assert len(await waiting(stores)) == 1


async def test_a_stopped_turn_is_replaced_in_its_place(stores: ChatStores) -> None:
    stopped = await keep(stores, turn("sto", stopped=True))
    await keep(stores, turn("next"))
    before = await stores.conversations()
    answer = Answer("whole", (ToolCall("clock", "{}", "noon"),))
    whole = replace(stopped, answer=answer, stopped=False, model="other", message_count=3)
    assert await keep(stores, whole) == whole
    assert await stores.turns.find("alice", stopped.message_id) == whole
    assert await told(stores) == ["whole", "next"]
    assert await stores.turns.latest(ONE, before=whole) == []
    (after,) = await stores.conversations()
    assert [(c.turn_count, c.seq, c.title) for c in before] == [(2, after.seq, after.title)]
    assert after.turn_count == 2
    assert len(await waiting(stores)) == 2


async def test_a_message_kept_twice_concurrently_has_one_turn(stores: ChatStores) -> None:
    id_ = uuid4()
    async with stores.locks.turn(ONE):
        kept = await asyncio.gather(
            *(stores.turns.keep(turn(str(n), message_id=id_)) for n in range(8))
        )
    assert len({(one.seq, one.answer.text) for one in kept}) == 1
    assert await told(stores) == [kept[0].answer.text]
    assert len(await waiting(stores)) == 1


@pytest.mark.parametrize("stopped", [True, False])
async def test_a_message_stays_in_the_conversation_that_it_was_kept_in(
    stores: ChatStores, stopped: bool
) -> None:
    first = await keep(stores, turn("first", stopped=stopped))
    kept = await keep(stores, turn("second", key=OTHER, message_id=first.message_id))
    assert kept.conversation == ONE
    assert await told(stores, OTHER) == []
    (listed,) = await stores.conversations()
    assert (listed.session_id, listed.turn_count) == (ONE.session_id, 1)


async def test_another_users_same_id_is_another_message(stores: ChatStores) -> None:
    id_ = uuid4()
    for user_id in ("alice", "bob"):
        key = ConversationKey(user_id, ONE.session_id)
        await keep(stores, turn(f"to {user_id}", key=key, message_id=id_))
    assert await told(stores, ConversationKey("bob", ONE.session_id)) == ["to bob"]
    assert await told(stores) == ["to alice"]
    assert await waiting(stores) == [uuid5(id_, "alice"), uuid5(id_, "bob")]


async def test_what_a_cancelled_caller_kept_is_sent_and_nothing_else(stores: ChatStores) -> None:
    turns = [turn(str(n), key=ConversationKey("alice", uuid4())) for n in range(60)]

    async def keep_and_leave(one: Turn) -> None:
        keeping = asyncio.create_task(stores.turns.keep(one))
        await asyncio.sleep(random.uniform(0, 0.02))  # noqa: S311
        keeping.cancel()
        await asyncio.wait([keeping])

    for one in turns:
        async with stores.locks.turn(one.conversation):
            await keep_and_leave(one)
    # One statement, so that it sees both tables in the same state.
    rows = await stores.database.read(
        "SELECT 1, message_id FROM chat.turns UNION ALL SELECT 2, message_id FROM chat.outbox"
    )
    kept = {uuid5(id_, "alice") for table, id_ in rows if table == 1}
    assert kept == {id_ for table, id_ in rows if table == 2}
