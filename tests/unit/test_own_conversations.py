"""Users rename, search and delete their conversations, with a real database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from chat_service.chat.messages import ChatMessage, ConversationKey
from chat_service.turns.history import ConversationsQuery
from daca_shared.domain import NotFound, TimedOut
from daca_shared.fair_limit import FairLimit
from daca_shared.storage.database import searched
from lab.postgres import Place, run_sql
from tests.chats import SESSION, SlowAgent, StoredChat, chatting
from tests.fakes import FakeAgent, eventually, opened_stores, turn_of

KEY = ConversationKey("alice", SESSION)


@pytest.fixture
async def chat(place: Place) -> AsyncIterator[StoredChat]:
    async with chatting(place, FakeAgent()) as chat:
        yield chat


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


async def titles(chat: StoredChat, words: str = "", user_id: str = "alice") -> list[str]:
    query = ConversationsQuery(user_id=user_id, filter=words)
    return [c.title for c in (await chat.stores.turns.conversations(query)).items]


async def test_a_new_title_stays(chat: StoredChat) -> None:
    await chat.say("hello")
    renamed = await chat.stores.turns.rename(KEY, "My dog \0 ü")
    assert (renamed.title, renamed.turn_count, renamed.session_id) == ("My dog \0 ü", 1, SESSION)
    await chat.say("more")
    (listed,) = await chat.stores.conversations()
    assert (listed.title, listed.turn_count) == ("My dog \0 ü", 2)


@pytest.mark.parametrize(
    "key", [ConversationKey("bob", SESSION), ConversationKey("alice", UUID(int=5))]
)
async def test_a_missing_or_another_users_conversation_is_not_found(
    chat: StoredChat, key: ConversationKey
) -> None:
    await chat.say("hello")
    with pytest.raises(NotFound) as missing:
        await chat.stores.turns.rename(key, "mine")
    assert missing.value.code == "CONVERSATION_NOT_FOUND"
    with pytest.raises(NotFound):
        await chat.conversation.delete(key)
    assert await titles(chat) == ["hello"]
    assert len(await chat.history()) == 1


async def test_a_deleted_conversation_is_gone_and_its_messages_still_count(
    chat: StoredChat,
) -> None:
    for text in ("one", "two"):
        await chat.say(text)
    await chat.say("other", session_id=uuid4())
    await chat.conversation.delete(KEY)
    assert await titles(chat) == ["other"]
    assert await chat.history() == []
    assert await chat.count() == 3
    with pytest.raises(NotFound):
        await chat.conversation.delete(KEY)
    assert await chat.say("anew") == "You said: anew"
    assert [turn.prompt for turn in await chat.history()] == ["anew"]
    assert await chat.count() == 4


async def test_messages_that_are_not_counted_yet_are_counted_after_all(place: Place) -> None:
    async with opened_stores(place) as stores:
        for text in ("one", "two"):
            message = ChatMessage(user_id="alice", text=text, session_id=SESSION)
            async with stores.locks.turn(KEY):
                await stores.turns.keep(turn_of(message, "ok"))
        async with stores.locks.turn(KEY):
            await stores.turns.delete(KEY)
        assert len(await run_sql(place, "SELECT user_id FROM outbox")) == 2


async def test_nothing_of_a_deleted_conversation_is_left_in_sqlites_files(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    # Some fit into one page with others, others have their own pages.
    texts = [f"s3cret {n} " + "s3cret " * (n % 7) ** 4 for n in range(60)]
    async with chatting(path, FakeAgent()) as chat:
        chat.conversation.max_text_length = 20_000
        for n, text in enumerate(texts):
            await chat.say(text)
            await chat.say(f"harmless {n} " * 50, session_id=UUID(int=n % 5))
        assert [name for name, held in contents(tmp_path).items() if b"s3cret" in held]
        await chat.conversation.delete(KEY)
        files = contents(tmp_path)
        assert [name for name, held in files.items() if b"s3cret" in held] == []
        assert b"harmless 59" in files["chat.db"]
        assert len(await chat.history(session_id=UUID(int=0))) == 12


async def test_nothing_is_left_even_if_somebody_searches_meanwhile(tmp_path: Path) -> None:
    words = [f"{n:x}z" for n in range(40)]
    async with chatting(tmp_path / "chat.db", FakeAgent()) as chat:
        chat.conversation.max_text_length = 1_000_000
        for text in (*["q" * 300_000] * 3, " ".join(words)):
            await chat.say(text, "bob")
        await chat.say("s3cret")
        searching = asyncio.create_task(titles(chat, " ".join(words)[:200], "bob"))
        await asyncio.sleep(0.05)
        assert not searching.done()
        await chat.conversation.delete(KEY)
        assert [name for name, held in contents(tmp_path).items() if b"s3cret" in held] == []
        assert len(await searching) == 1


async def test_a_current_reply_is_waited_for_and_deleted(place: Place) -> None:
    agent = SlowAgent()
    async with chatting(place, agent) as chat:
        saying = asyncio.create_task(chat.say("hello"))
        await eventually(lambda: agent.running)
        with pytest.raises(TimedOut) as late:
            await chat.conversation.delete(KEY, timeout_s=0.05)
        assert late.value.code == "REPLY_RUNS"
        deleting = asyncio.create_task(chat.conversation.delete(KEY))
        agent.go.set()
        await asyncio.gather(saying, deleting)
        assert await chat.history() == []
        assert await titles(chat) == []
        assert await chat.count() == 1


async def test_words_are_looked_for_in_titles_and_texts(chat: StoredChat) -> None:
    for text in ("The Weather", "Привет ÄRGER", "100% sure_ly \\ \0 end", "weather again"):
        await chat.say(text, session_id=uuid4())
    await chat.say("the weather", "bob")
    for words, found in {
        "": 4,
        "  ": 4,
        "WEATHER": 2,
        "weather again": 1,
        "eathe": 2,
        "привет": 1,
        "ärger ПРИВЕТ": 1,
        "you said": 4,  # in the reply
        "%": 1,
        "_": 1,
        "\\": 1,
        "end": 1,
        "sunshine": 0,
        "weather weather": 2,
        "' OR 1=1 --": 0,
    }.items():
        assert len(await titles(chat, words)) == found, words
    (listed, *_) = await chat.stores.conversations()
    key = ConversationKey("alice", listed.session_id)
    await chat.stores.turns.rename(key, "Sunshine")
    assert await titles(chat, "SUNSHINE") == ["Sunshine"]
    assert await titles(chat, "weather", "bob") == ["the weather"]


async def test_a_search_may_have_as_many_words_as_fit(chat: StoredChat) -> None:
    words = " ".join(chr(0x4E00 + n) for n in range(100))
    await chat.say("hello")
    assert await titles(chat, words) == []
    await chat.stores.turns.rename(KEY, words)
    assert await titles(chat, words) == [words]


@pytest.mark.parametrize("text", ["İSTANBUL", "ΟΔΟΣΑ", "CAFÉ"])
async def test_a_text_is_found_by_itself_and_its_beginning(chat: StoredChat, text: str) -> None:
    await chat.say(text)
    assert await titles(chat, text) == await titles(chat, text[:4]) == [text]


async def test_a_search_through_many_texts_does_not_block_the_event_loop(
    chat: StoredChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("search_timeout_s", "timeout_s"):  # on a machine that is busy, it takes seconds
        monkeypatch.setattr(chat.stores.database, limit, 60, raising=False)
    words = [f"{n:x}z" for n in range(60)]
    for text in ("q" * 500_000, " ".join(words)):
        sent = ChatMessage(user_id="alice", text=text, session_id=SESSION)
        async with chat.stores.locks.turn(KEY):
            await chat.stores.turns.keep(turn_of(sent, "q" * 500_000))
    search = asyncio.create_task(titles(chat, " ".join(words)[:200]))
    rounds = 0
    while not search.done():
        await asyncio.sleep(0.001)
        rounds += 1
    assert len(await search) == 1
    # If the search blocked the event loop, there would be one round.
    assert rounds > 5


async def test_searches_that_take_long_end_and_leave_chats_alone(
    chat: StoredChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"{n:x}z" for n in range(60)]
    chat.conversation.max_text_length = 1_000_000
    for text in (*["q" * 300_000] * 20, " ".join(words)):
        await chat.say(text)
    monkeypatch.setattr(chat.stores.database, "search_timeout_s", 0.2)
    searches = [titles(chat, " ".join(words)[:200]) for _ in range(16)]
    ended = asyncio.gather(*searches, return_exceptions=True)
    async with asyncio.timeout(5):
        await chat.say("still here?", "bob")
        codes = [getattr(error, "code", "") for error in await ended]
    assert codes == ["SEARCH_TIMED_OUT"] * 16
    monkeypatch.undo()

    async def is_found() -> bool:
        # The database may still work on those that have timed out.
        with suppress(TimedOut):
            return len(await titles(chat, "still here?", "bob")) == 1
        return False

    await eventually(is_found, timeout_s=20)


async def test_abandoned_searches_end_before_others_begin(chat: StoredChat) -> None:
    database, running = chat.stores.database, list[int]()

    async def search(left_s: float) -> None:
        running.append(1)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.3)
        running.pop()

    limit = FairLimit(1)
    for _ in range(2):
        with pytest.raises(TimedOut):
            await searched(limit.slot("eve"), search, 0.05)
        assert len(running) == 1
    found = await searched(limit.slot("bob"), lambda left_s: database.search("", "SELECT 1"), 5)
    assert ([[*row] for row in found], running) == ([[1]], [])


async def test_a_search_has_only_the_time_that_its_caller_has_left() -> None:
    left: list[float] = []

    async def search(left_s: float) -> None:
        left.append(left_s)
        await asyncio.sleep(0.2)

    limit = FairLimit(1)
    await asyncio.gather(*(searched(limit.slot("eve"), search, 1) for _ in range(2)))
    assert left[0] <= 1
    assert left[1] <= left[0] - 0.19


async def test_one_users_searches_keep_out_no_other_user(chat: StoredChat) -> None:
    ended: list[str] = []

    async def search(user_id: str) -> None:
        await titles(chat, "word", user_id)
        ended.append(user_id)

    # Each search then finds a connection: on a busy machine, opening one takes longer than fifty.
    await asyncio.gather(*map(search, ["eve", "bob"]))
    await asyncio.gather(*map(search, [*["eve"] * 50, "bob"]))
    assert ended[-1] == "eve"


async def test_a_deletion_whose_caller_leaves_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    async with chatting(tmp_path / "chat.db", FakeAgent()) as chat:
        monkeypatch.setattr(chat.stores.database, "search_timeout_s", 0.5)
        await chat.say("my secret")
        search = asyncio.create_task(chat.stores.database.search("eve", endless))
        await asyncio.sleep(0.1)
        # It waits for the search, which still reads what is deleted.
        with pytest.raises(TimedOut):
            await chat.conversation.delete(KEY, timeout_s=0.1)
        with pytest.raises(TimedOut):
            await search
        await eventually(lambda: b"secret" not in b"".join(contents(tmp_path).values()))


@pytest.mark.parametrize("steps", range(6))
async def test_a_deletion_whose_caller_leaves_at_once_is_complete_or_not_done(
    tmp_path: Path, steps: int
) -> None:
    async with chatting(tmp_path / "chat.db", FakeAgent()) as chat:
        await chat.say("my secret")
        deletion = asyncio.create_task(chat.conversation.delete(KEY))
        for _ in range(steps):
            await asyncio.sleep(0)
        deletion.cancel()
        await asyncio.wait([deletion])
        await chat.say("go on", "bob")
        if not await chat.history():
            assert b"secret" not in b"".join(contents(tmp_path).values())


async def test_search_results_come_in_pages(chat: StoredChat) -> None:
    for n in range(6):
        await chat.say(f"{'even' if n % 2 == 0 else 'odd'} {n}", session_id=uuid4())
    seen: list[str] = []
    token = None
    while token != "":
        query = ConversationsQuery(
            user_id="alice", filter="Even", page_size=2, page_token=token or ""
        )
        page = await chat.stores.turns.conversations(query)
        seen += [c.title for c in page.items]
        token = page.next_page_token
    assert seen == ["even 4", "even 2", "even 0"]
