import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from chat_service.outbox import Outbox
from chat_service.outbox_rows import add_origin, add_owner, create_outbox
from chat_service.ports import ChatMessage
from rpc.domain import TimedOut, Unavailable
from storage.sqlite import SqliteDatabase
from tests.fakes import FakeRecorder, eventually, running_outbox


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture
def recorder() -> FakeRecorder:
    return FakeRecorder()


@pytest.fixture
async def outbox(path: Path, recorder: FakeRecorder) -> AsyncIterator[Outbox]:
    async with running_outbox(path, recorder) as outbox:
        yield outbox


def message(user_id: str = "alice") -> ChatMessage:
    return ChatMessage(user_id=user_id, text="hi")


async def send(outbox: Outbox, *messages: ChatMessage) -> list[UUID]:
    for one in messages:
        async with outbox.accept(one):
            pass
    return [one.message_id for one in messages]


async def left_on_disk(path: Path) -> list[UUID]:
    database = await SqliteDatabase.open(path, [create_outbox, add_owner, add_origin])
    rows = await database.read(
        lambda db: db.execute("SELECT message_id FROM outbox ORDER BY seq").fetchall()
    )
    await database.close()
    return [UUID(bytes=id_) for (id_,) in rows]


async def test_delivers_each_message_once(path: Path, recorder: FakeRecorder) -> None:
    async with running_outbox(path, recorder) as outbox:
        messages = [message(f"user{n % 7}") for n in range(100)]
        await asyncio.gather(*(send(outbox, one) for one in messages))
        await asyncio.gather(*(outbox.settled(f"user{n}") for n in range(7)))
        await asyncio.sleep(0.05)
    assert Counter(recorder.ids) == Counter(m.message_id for m in messages)
    users = {entry.message_id: entry.user_id for entry in recorder.recorded}
    assert users == {m.message_id: m.user_id for m in messages}
    assert await left_on_disk(path) == []


async def test_delivers_more_than_one_batch(outbox: Outbox, recorder: FakeRecorder) -> None:
    recorder.open.clear()
    messages = [message() for _ in range(1201)]
    await asyncio.gather(*(send(outbox, one) for one in messages))
    recorder.open.set()
    await outbox.settled("alice")
    assert Counter(recorder.ids) == Counter(m.message_id for m in messages)


async def test_a_message_id_that_is_sent_again_is_kept_once(
    outbox: Outbox, recorder: FakeRecorder
) -> None:
    recorder.open.clear()
    same = message()
    await send(outbox, same, same)
    recorder.open.set()
    await outbox.settled("alice")
    assert recorder.ids == [same.message_id]


async def test_holds_a_message_until_its_own_context_is_left(
    outbox: Outbox, recorder: FakeRecorder
) -> None:
    held = message("alice")
    async with outbox.accept(held):
        others = await send(outbox, message("alice"), message("bob"))
        await outbox.settled("bob")
        await outbox.settled("alice")
        assert recorder.ids == others
    await outbox.settled("alice")
    assert recorder.ids == [*others, held.message_id]


async def test_retries_until_the_recorder_takes_it(outbox: Outbox, recorder: FakeRecorder) -> None:
    recorder.failures = [Unavailable("away"), TimedOut("slow"), Unavailable("away")]
    ids = await send(outbox, message())
    await outbox.settled("alice")
    assert (recorder.ids, recorder.failures) == (ids, [])


async def test_messages_survive_a_restart(path: Path) -> None:
    away = FakeRecorder()
    away.failures = [Unavailable("away")] * 1000
    async with running_outbox(path, away) as outbox:
        ids = await send(outbox, *(message() for _ in range(3)))
    back = FakeRecorder()
    async with running_outbox(path, back) as outbox:
        await outbox.settled("alice")
        assert back.ids == ids
    assert await left_on_disk(path) == []


async def test_what_was_sent_but_not_acknowledged_is_sent_again(path: Path) -> None:
    async with running_outbox(path, unsure := FakeRecorder()) as outbox:
        unsure.open.clear()
        ids = await send(outbox, message())
        await asyncio.sleep(0.05)
    assert await left_on_disk(path) == ids
    async with running_outbox(path, again := FakeRecorder()) as outbox:
        await outbox.settled("alice")
    assert again.ids == ids


async def test_a_refused_message_stays_on_disk_and_blocks_no_other(
    path: Path, recorder: FakeRecorder
) -> None:
    async with running_outbox(path, recorder) as outbox:
        recorder.open.clear()
        messages = [message("alice"), message("mallory"), message("bob")]
        recorder.refused = {messages[1].message_id}
        await send(outbox, *messages)
        recorder.open.set()
        for user_id in ("alice", "mallory", "bob"):
            await outbox.settled(user_id)
        later = await send(outbox, message("mallory"))
        await outbox.settled("mallory")
    assert Counter(recorder.ids) == Counter(
        [messages[0].message_id, messages[2].message_id, *later]
    )
    assert await left_on_disk(path) == [messages[1].message_id]


async def test_settled_waits_for_this_users_delivery_only(
    outbox: Outbox, recorder: FakeRecorder
) -> None:
    recorder.open.clear()
    ids = await send(outbox, message("alice"))
    waiting = asyncio.create_task(outbox.settled("alice"))
    await outbox.settled("bob")
    await asyncio.sleep(0.05)
    assert not waiting.done()
    recorder.open.set()
    await waiting
    assert recorder.ids == ids


async def test_settled_returns_only_after_every_message_of_the_user(
    outbox: Outbox, recorder: FakeRecorder
) -> None:
    for n in range(50):
        await send(outbox, message())
        await outbox.settled("alice")
        assert len(recorder.recorded) == n + 1


@pytest.mark.parametrize("after_s", [0, 0.05])
async def test_a_cancelled_callers_message_is_delivered(
    outbox: Outbox, recorder: FakeRecorder, after_s: float
) -> None:
    one = message()

    async def chat() -> None:
        async with outbox.accept(one):
            await asyncio.Event().wait()

    chatting = asyncio.create_task(chat())
    await asyncio.sleep(after_s)
    chatting.cancel()
    await asyncio.wait([chatting])
    await eventually(lambda: recorder.ids == [one.message_id])


async def test_a_caller_cancelled_before_its_write_began_is_delivered(
    outbox: Outbox, recorder: FakeRecorder, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    first, second = message(), message()
    blocked = asyncio.create_task(send(outbox, first))
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(send(outbox, second))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.wait([waiting])
    other.execute("ROLLBACK")
    other.close()
    await blocked
    await eventually(lambda: {*recorder.ids} == {first.message_id, second.message_id})


async def test_a_failed_body_does_not_lose_the_message(
    outbox: Outbox, recorder: FakeRecorder
) -> None:
    one = message()
    with pytest.raises(RuntimeError):
        async with outbox.accept(one):
            raise RuntimeError
    await eventually(lambda: recorder.ids == [one.message_id])


async def test_a_message_that_cannot_be_written_is_unavailable(
    path: Path, recorder: FakeRecorder
) -> None:
    database = await SqliteDatabase.open(path, [create_outbox, add_owner, add_origin])
    outbox = await Outbox.open(database, recorder)
    await database.write(lambda db: db.execute("DROP TABLE outbox"))
    with pytest.raises(Unavailable):
        await send(outbox, message())
    await database.close()
    assert recorder.ids == []


async def test_another_processs_message_is_left_to_it_until_it_must_be_gone(
    path: Path, recorder: FakeRecorder
) -> None:
    theirs = message("bob")
    async with (
        running_outbox(path, FakeRecorder()) as other,
        other.accept(theirs),
        running_outbox(path, recorder) as ours,
    ):
        mine = await send(ours, message("alice"))
        await ours.settled("alice")
        await asyncio.sleep(0.5)
        assert recorder.ids == mine
        await eventually(lambda: recorder.ids == [*mine, theirs.message_id])


async def test_settled_waits_for_what_the_process_before_still_accepts(path: Path) -> None:
    slow = FakeRecorder()
    slow.open.clear()
    async with running_outbox(path, slow) as old, running_outbox(path, FakeRecorder()) as new:
        await new.settled("alice")
        await send(old, message())
        settled = asyncio.create_task(new.settled("alice"))
        await asyncio.wait_for(new.settled("bob"), 1)
        await asyncio.sleep(0.1)
        assert not settled.done()
        slow.open.set()
        await asyncio.wait_for(settled, 1)
    assert await left_on_disk(path) == []
