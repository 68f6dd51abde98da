"""The migration of the chat service's data from before 1.0 loses nothing."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from chat_service.app import SCHEMA
from chat_service.chat.messages import Answer, ChatMessage, ConversationKey, ToolCall
from chat_service.outbox.outbox import OutboxEntry
from daca_shared.storage.database import read_scripts
from daca_shared.storage.postgres import PostgresDatabase
from daca_shared.storage.sqlite import SqliteDatabase
from lab.postgres import Cluster, Place
from tests.fakes import ChatStores, FakeRecorder, opened_stores, turn_of
from tests.old_databases import message_id, restore

REX, TOOLS, ODD = (
    ConversationKey("alice", UUID(f"0000000{n}-0000-4000-8000-000000000000")) for n in (1, 2, 3)
)
BOBS = ConversationKey("bob", UUID("00000004-0000-4000-8000-000000000000"))
ODD_TEXT = (
    "NUL \0, ESC \x1b, ESC 0 \x1b0, texts \\u0000 \\u001b \\ud83d \\udc00 \\\\u0000, "
    "quotes '\" and \\, line\u2028, 😀 ü"
)
HALVES = "halves �, �, ��; a half and a whole �😀; a text and a half \\ud83d�"


@pytest.fixture
async def chat_place(place: Place) -> Place:
    await restore(place, "chat")
    return place


@pytest.fixture
async def stores(chat_place: Place) -> AsyncIterator[ChatStores]:
    async with opened_stores(chat_place) as stores:
        yield stores


async def told(stores: ChatStores, key: ConversationKey) -> list[tuple[str, str, bool]]:
    turns = await stores.messages(key)
    return [(turn.prompt, turn.answer.text, turn.stopped) for turn in turns]


async def test_every_turn_is_there_with_its_texts_in_its_order(stores: ChatStores) -> None:
    assert await told(stores, REX) == [
        ("My dog is called Rex", "Hello, Rex's friend", False),
        ("Nice weather", "Sunny", False),
        ("Sent twice", "First answer", False),
        ("Sent twice", "Second answer", False),
    ]
    assert await told(stores, TOOLS) == [
        ("What time is it?", "It is noon", False),
        ("And now?", "Still noon", False),
    ]
    assert (await told(stores, ODD))[0] == (ODD_TEXT, f"re: {ODD_TEXT}", False)
    assert await told(stores, BOBS) == [
        ("Bob's own, with Alice's id", "Hello, Bob", False),
        ("Tell me a long story about 😀 and " + "many words " * 9, "Once upon a time", True),
        ("Stop at once", "", True),
    ]


async def test_half_a_surrogate_pair_becomes_the_replacement_character(
    stores: ChatStores,
) -> None:
    # SQLite could not store that before either.
    halves = [("Halves", HALVES, False)] if stores.database.is_shared else []
    assert (await told(stores, ODD))[1:] == halves


async def test_the_times_of_turns_are_exact(stores: ChatStores) -> None:
    times = [
        turn.end_time.isoformat().removeprefix("2026-01-3").removesuffix("+00:00")
        for key in (REX, TOOLS)
        for turn in await stores.turns.latest(key)
    ]
    assert times == [
        "0T23:59:52.000001", "0T23:59:55.999999", "1T00:00:06", "1T00:00:08.500000",
        "0T23:59:58.500000", "1T00:00:01",
    ]  # fmt: skip
    odd, *_ = await stores.turns.latest(ODD)
    assert odd.end_time == datetime(2026, 1, 31, 0, 0, 4, 999500, tzinfo=UTC)


async def test_tool_calls_are_kept_with_their_results(stores: ChatStores) -> None:
    first, second = await stores.turns.latest(TOOLS)
    assert [call.tool for call in first.answer.tool_calls] == ["get_current_time"] * 2
    (result,) = {call.output for call in first.answer.tool_calls}
    assert datetime.fromisoformat(result).year == 2026
    arguments = [json.loads(call.arguments) for call in first.answer.tool_calls]
    assert arguments == [{}, {"note": "\0 ü \\"}]
    assert second.answer.tool_calls == (ToolCall("get_current_time", "{}", result),)
    assert all(not turn.answer.tool_calls for turn in await stores.turns.latest(REX))


async def test_data_that_was_not_kept_before_is_unknown(stores: ChatStores) -> None:
    assert {(turn.message_count, turn.model) for turn in await stores.turns.latest(REX)} == {
        (None, "")
    }


async def test_the_lists_of_conversations_are_as_they_were(stores: ChatStores) -> None:
    bobs = await stores.conversations("bob")
    assert [(c.session_id, c.title, c.turn_count) for c in bobs] == [
        (BOBS.session_id, "Bob's own, with Alice's id", 3)
    ]
    found = await stores.conversations()
    by_id = {c.session_id: c for c in found}
    assert [c.seq for c in found] == sorted((c.seq for c in found), reverse=True)
    assert by_id.keys() == {REX.session_id, TOOLS.session_id, ODD.session_id}
    rex, odd = by_id[REX.session_id], by_id[ODD.session_id]
    assert (rex.title, rex.turn_count) == ("My dog is called Rex", 4)
    assert rex.update_time == datetime(2026, 1, 31, 0, 0, 8, 500000, tzinfo=UTC)
    assert odd.title == ("NUL \0, ESC \x1b, ESC 0 \x1b0, texts \\u0000 \\u001b \\ud83d \\udc00…")


async def test_an_old_message_that_is_sent_again_finds_its_latest_answer(
    stores: ChatStores,
) -> None:
    answers = {
        (user_id, number): turn and turn.answer.text
        for user_id, number in (("alice", 1), ("alice", 6), ("bob", 6), ("bob", 1))
        for turn in [await stores.turns.find(user_id, message_id(number))]
    }
    assert answers == {
        ("alice", 1): "Hello, Rex's friend",
        ("alice", 6): "Second answer",
        ("bob", 6): "Hello, Bob",
        ("bob", 1): None,
    }


async def test_a_conversation_goes_on_and_a_stopped_turn_may_be_answered(
    stores: ChatStores,
) -> None:
    async with stores.locks.turn(REX):
        new = ChatMessage(user_id=REX.user_id, text="New", session_id=REX.session_id)
        kept = await stores.turns.keep(turn_of(new, "Of course"))
    *_, latest = await stores.turns.latest(REX)
    assert (latest.seq, latest.prompt, latest.answer.text) == (kept.seq, "New", "Of course")
    assert kept.seq > max(turn.seq for turn in await stores.turns.latest(BOBS))
    waiting, _ = await stores.outbox.backlog()
    stopped = await stores.turns.find("bob", message_id(9))
    assert stopped
    async with stores.locks.turn(BOBS):
        await stores.turns.keep(replace(stopped, stopped=False, answer=Answer("The end")))
    assert [reply for _, reply, _ in await told(stores, BOBS)] == ["Hello, Bob", "The end", ""]
    (listed, *_) = await stores.conversations("bob")
    assert listed.turn_count == 3
    # It was counted when it was stopped.
    assert (await stores.outbox.backlog())[0] == waiting


async def test_messages_that_waited_for_analytics_are_sent(chat_place: Place) -> None:
    recorder = FakeRecorder()
    async with opened_stores(chat_place, recorder) as stores:
        assert (await stores.outbox.backlog())[1] == datetime(
            2026, 1, 31, 0, 0, 3, 500000, tzinfo=UTC
        )
        sent = await stores.outbox.send_batch()
        assert (await stores.outbox.backlog())[0] == 0
    waited = {entry.message_id: entry for entry in recorder.recorded}
    assert len(waited) == sent == (6 if stores.database.is_shared else 5)
    assert waited.keys() >= {message_id(number) for number in (5, 6, 8, 9, 10)}
    assert waited[message_id(6)] == OutboxEntry(
        seq=6,
        message_id=message_id(6),
        user_id="alice",
        sent_time=datetime(2026, 1, 31, 0, 0, 9, 999500, tzinfo=UTC),
        origin="00-00000000000000000000000000000006-0000000000000006-01",
    )
    assert waited[message_id(5)].origin is None
    assert waited[message_id(10)].user_id == "bob"


@pytest.mark.parametrize("version", range(1, 6))
async def test_a_file_of_any_earlier_version_is_brought_up_to_date(
    tmp_path: Path, version: int
) -> None:
    file = tmp_path / "chat.db"
    await (
        await SqliteDatabase.open(file, "chat", read_scripts(SCHEMA / "sqlite")[:version])
    ).close()
    async with opened_stores(file) as stores:
        await stores.turns.keep(turn_of(ChatMessage(user_id="alice", text="Hello"), "Hi"))
        assert (await stores.outbox.backlog())[0] == 1


async def test_a_postgres_of_any_earlier_version_is_brought_up_to_date(
    postgres: Cluster,
) -> None:
    scripts = read_scripts(SCHEMA / "postgres")
    for version in range(1, len(scripts)):
        url = await postgres.new_database()
        await (await PostgresDatabase.open(url, "chat", scripts[:version])).close()
        async with opened_stores(url) as stores:
            message = ChatMessage(user_id="alice", text="Hello")
            async with stores.locks.turn(message.conversation):
                await stores.turns.keep(turn_of(message, "Hi"))
            assert (await stores.outbox.backlog())[0] == 1
