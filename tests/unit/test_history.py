"""A user's history, with a real database."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from chat_service.chat.messages import ChatMessage
from chat_service.turns.history import MAX_PAGE_SIZE, ConversationsQuery, MessagesQuery
from daca_shared.domain import InvalidInput
from lab.postgres import Place
from tests.fakes import ChatStores, opened_stores, turn_of


class Past:
    """Stores, and a way to fill them."""

    def __init__(self, stores: ChatStores) -> None:
        self.stores = stores

    async def add(
        self,
        text: str,
        session_id: UUID,
        user_id: str = "alice",
        *,
        reply: str | None = None,
        stopped: bool = False,
    ) -> None:
        message = ChatMessage(user_id=user_id, text=text, session_id=session_id)
        async with self.stores.locks.turn(message.conversation):
            reply = f"re: {text}" if reply is None else reply
            await self.stores.turns.keep(turn_of(message, reply, stopped=stopped))

    async def titles(self, **query: int | str) -> tuple[list[str], str]:
        page = await self.stores.turns.conversations(ConversationsQuery(user_id="alice", **query))
        return [c.title for c in page.items], page.next_page_token

    async def texts(self, session_id: UUID, **query: int | str) -> tuple[list[str], str]:
        asked = MessagesQuery(**{"user_id": "alice", "session_id": session_id, **query})
        page = await self.stores.turns.messages(asked)
        return [turn.prompt for turn in page.items], page.next_page_token


@pytest.fixture
async def past(place: Place) -> AsyncIterator[Past]:
    async with opened_stores(place) as stores:
        yield Past(stores)


async def test_a_new_user_has_no_conversations(past: Past) -> None:
    assert await past.titles() == ([], "")


async def test_the_latest_conversation_comes_first(past: Past) -> None:
    one, two = uuid4(), uuid4()
    for text, session_id in (("one", one), ("two", two), ("one again", one)):
        await past.add(text, session_id)
    page = await past.stores.turns.conversations(ConversationsQuery(user_id="alice"))
    assert [(c.session_id, c.title, c.turn_count) for c in page.items] == [
        (one, "one", 2),
        (two, "two", 1),
    ]


async def test_a_title_is_the_first_words_of_the_first_message(past: Past) -> None:
    await past.add("Please   tell me\nabout " + "long words " * 20, uuid4())
    ((title,), _) = await past.titles()
    assert title.startswith("Please tell me about long words")
    assert title.endswith("…")
    assert len(title) <= 60


async def test_one_endless_word_also_makes_a_title(past: Past) -> None:
    await past.add("x" * 500, uuid4())
    ((title,), _) = await past.titles()
    assert title == "x" * 59 + "…"


async def test_messages_come_in_order_and_tell_if_they_were_stopped(past: Past) -> None:
    session_id = uuid4()
    await past.add("a", session_id)
    await past.add("b", session_id, stopped=True)
    page = await past.stores.turns.messages(MessagesQuery(user_id="alice", session_id=session_id))
    assert [(turn.prompt, turn.answer.text, turn.stopped) for turn in page.items] == [
        ("a", "re: a", False),
        ("b", "re: b", True),
    ]


async def test_any_text_is_kept_exactly(past: Past) -> None:
    session_id, text = uuid4(), "\x00 \\u0000 'ü' \U0001f600 \u2028"
    await past.add(text, session_id)
    assert await past.texts(session_id) == ([text], "")
    assert await past.titles() == ([text.strip()], "")


async def test_another_user_cannot_see_it(past: Past) -> None:
    session_id = uuid4()
    await past.add("secret", session_id, user_id="bob")
    assert await past.titles() == ([], "")
    assert await past.texts(session_id) == ([], "")


async def test_pages_hold_everything_once(past: Past) -> None:
    session_id = uuid4()
    for n in range(5):
        await past.add(str(n), session_id)
        await past.add(f"title {n}", uuid4())
    for read, expected in (
        (past.titles, ["title 4", "0", "title 3", "title 2", "title 1", "title 0"]),
        (lambda **q: past.texts(session_id, **q), [str(n) for n in range(5)]),
    ):
        seen: list[str] = []
        token = ""
        while True:
            items, token = await read(page_size=2, page_token=token)
            assert 1 <= len(items) <= 2
            seen += items
            if not token:
                break
        assert seen == expected


async def test_a_page_size_over_the_limit_is_cut(past: Past) -> None:
    session_id = uuid4()
    for n in range(MAX_PAGE_SIZE + 1):
        await past.add(str(n), session_id)
    items, token = await past.texts(session_id, page_size=10_000)
    assert len(items) == MAX_PAGE_SIZE
    assert token


async def test_a_page_of_long_texts_has_fewer(past: Past) -> None:
    session_id = uuid4()
    for n in range(6):
        await past.add(str(n), session_id, reply="ü" * 60_000)
    texts, token = await past.texts(session_id)
    assert texts == ["0", "1"]
    assert (await past.texts(session_id, page_token=token))[0] == ["2", "3"]
    huge = uuid4()
    for text in ("huge", "next"):
        await past.add(text, huge, reply="x" * 400_000)
    # One message that is too large is better than none.
    texts, token = await past.texts(huge)
    assert texts == ["huge"]
    assert await past.texts(huge, page_token=token) == (["next"], "")


@pytest.mark.parametrize("token", ["x", "-1", " 1", "1.0", "9" * 21, "é", "²"])
async def test_a_made_up_page_token_is_refused_by_name(past: Past, token: str) -> None:
    with pytest.raises(InvalidInput, match="page_token"):
        await past.titles(page_token=token)
